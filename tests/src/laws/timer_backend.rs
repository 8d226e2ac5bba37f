//! The laws of [`TimerBackend`]: T1–T8, and B6.
//!
//! Each law takes a factory, so that it starts with a fresh backend of the size it needs. Time is
//! an argument of `expire`, so all but the laws about descriptors run in virtual time. A law checks
//! its own clause; [`matches_model`] and [`t1_under_contention`] check what they come upon.
//!
//! **What they cannot see.** Whether a backend has a thread of its own (T6): the end-to-end tests
//! count wake-ups. A lost wake-up that needs an interleaving rarer than a million operations:
//! that is a loom model's affair, in the backend's own crate.

mod contention;
mod descriptor;
mod model;
mod sequential;

pub use contention::{b6_looks_wait_for_nobody, t1_under_contention, t5_insert_is_seen};
pub use descriptor::t7_descriptor;
pub use model::matches_model;
pub use sequential::{
    t1_exactly_once, t2_never_early, t3_complete, t4_cancel, t4_frees, t4_memory, t5_next_deadline, t6_quiet,
    t8_any_deadline,
};

use gvt_traits::{Factory, GvtId, Plan, TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId};

use crate::{Verdict, Violation};

/// Workers that the laws plan for.
const WORKERS: usize = 4;

/// Operations in the laws that count on numbers: fewer where nothing is optimised.
const MANY: usize = if cfg!(debug_assertions) { 200_000 } else { 10_000_000 };

fn build<F: Factory<Output: TimerBackend>>(factory: &F, workers: usize) -> F::Output {
    factory.build(&Plan::new(workers, 1 << 20)).expect("an ordinary plan can be built")
}

/// The worker that entry or call `number` belongs to: each in turn, and none.
fn worker(number: usize) -> WorkerId {
    match number % (WORKERS + 1) {
        WORKERS => WorkerId::NONE,
        index => WorkerId::new(index),
    }
}

/// An entry that no other equals: its key is the ticket's sequence.
fn entry(key: u64, deadline_ns: u64) -> TimerEntry {
    TimerEntry {
        deadline_ns,
        ticket: WakeTicket { sequence: key, id: GvtId::new((key % 1000) as u32) },
        affinity: worker(key as usize),
        kind: [TimerType::Sleep, TimerType::Deadline, TimerType::Interval][(key % 3) as usize],
    }
}

/// Whether T3 demands that an entry with this deadline is out at `now_ns`.
fn must_be_out(deadline_ns: u64, resolution_ns: u64, now_ns: u64) -> bool {
    deadline_ns.checked_add(resolution_ns).is_some_and(|latest| latest <= now_ns)
}

/// Expires, and checks what holds of each call: the count is right (T1), nothing is early (T2).
fn expire(backend: &impl TimerBackend, near: WorkerId, now_ns: u64) -> Result<Vec<TimerEntry>, Violation> {
    let mut out = Vec::new();
    let count = backend.expire(near, now_ns, &mut |entry| out.push(entry));
    if count != out.len() {
        return Err(Violation::new(
            "T1",
            format!("expire gave {} entries and returned {count} as their number", out.len()),
        ));
    }
    match out.iter().find(|entry| entry.deadline_ns > now_ns) {
        None => Ok(out),
        Some(early) => Err(Violation::new("T2", format!("at {now_ns} it gave out {early:?}"))),
    }
}

/// The verdict of a law on one clause: what breaks another clause is another law's affair.
fn only(clause: &str, verdict: Verdict) -> Verdict {
    verdict.or_else(|violation| if violation.clause == clause { Err(violation) } else { Ok(()) })
}

/// A fixed, scrambled sequence: laws are the same in each run. The property test is what varies.
fn scramble(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Deadlines of every magnitude after `now_ns`, with neighbours, equals and the past among them.
fn deadlines_of_all_scales(now_ns: u64) -> Vec<u64> {
    let mut deadlines = vec![now_ns, now_ns.saturating_sub(1), now_ns / 2];
    for scale in 0..62 {
        let base = now_ns.saturating_add(1 << scale);
        deadlines.extend([base - 1, base, base, base + 1, base + scramble(scale) % (1 << scale)]);
    }
    deadlines
}

/// Makes a test of each law for one backend, in a module of the name given.
///
/// ```
/// use gvt_conformance::wrong::timer_backend::Faulty;
///
/// gvt_conformance::timer_backend_suite!(reference, Faulty::sound());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! timer_backend_suite {
    ($name:ident, $factory:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::timer_backend_suite!(@laws $factory;
                b6_looks_wait_for_nobody,
                t1_exactly_once, t1_under_contention, t2_never_early, t3_complete, t4_cancel, t4_frees,
                t5_next_deadline, t5_insert_is_seen, t6_quiet, t7_descriptor, t8_any_deadline,
                matches_model);
        }
    };
    (@laws $factory:expr; $($law:ident),*) => {
        $(
            #[test]
            fn $law() {
                if let ::std::result::Result::Err(violation) = $crate::laws::timer_backend::$law(&$factory) {
                    ::std::panic!("{violation}");
                }
            }
        )*
    };
}
