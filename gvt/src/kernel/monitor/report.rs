//! What the threads of a runtime are doing, for people; and the report of a deadlock.
//!
//! **What can be known.** If every worker sleeps, no timer is pending, and every thread waits in a primitive (none is in a
//! system call, none was taken off by force), then no green thread of the runtime will ever wake another: only an OS thread or another runtime can,
//! if it has an end of a channel, a handle, a token. Whether it will, nobody can know. So this is a report, of a quiet that has lasted
//! for as long as the user has said, and not a verdict.
//!
//! **Protocol.** The monitor sleeps while all workers sleep, and whichever wakes up wakes it (`monitor`). With a report wanted, its
//! first sleep has a limit; if that runs out, the quiet was complete. It looks once, and sleeps on without a limit. A set of
//! threads that has been reported, and of which none has moved since, is not reported again.
//!
//! **Cost.** None if it is off. If it is on: one wake-up of the monitor a quiet.
//!
//! **Limits.** Threads that wait for each other while others go on, or sleep, are not found. What is read of a thread that moves
//! meanwhile may not fit together.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use gvt_traits::{GvtState, Priority, TimerBackend, WaitReason};

use crate::kernel::state::deadlock::DeadlockReport;
use crate::kernel::state::deadlock::ThreadInfo;
use crate::kernel::state::monitor::ASLEEP;
use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{Core, CoreBase, Parts};
use crate::os::{futex_wait_until, monotonic_ns};
use crate::protocol::{user, wait};

/// All threads that are alive, in the order of their places.
///
/// Context: anywhere; allocates. No thread's end waits for it.
pub(crate) fn threads(core: &CoreBase) -> Vec<ThreadInfo> {
    let now_ns = core.now_ns();
    core.table.used().filter(|record| record.is_alive()).map(|record| info(core, record, now_ns)).collect()
}

fn info(core: &CoreBase, record: &Record, now_ns: u64) -> ThreadInfo {
    let meta = &record.meta;
    // Relaxed throughout: gauges, for people.
    let state = record.state();
    let blocked = state == GvtState::Blocked;
    let due = meta.wake_time_ns.load(Relaxed);
    let since = |since_ns: u64| Duration::from_nanos(now_ns.saturating_sub(since_ns));
    ThreadInfo {
        id: ThreadId(meta.unique_id.load(Relaxed)),
        name: core.lifecycle.name_of(record),
        priority: Priority::from_u8(meta.priority.load(Relaxed)),
        state,
        reason: blocked.then(|| WaitReason::from_u8(meta.wait_reason.load(Relaxed))),
        blocked_for: blocked.then(|| since(meta.blocked_since_ns.load(Relaxed))),
        wakes_in: (blocked && due != 0).then(|| Duration::from_nanos(due.saturating_sub(now_ns))),
    }
}

/// What the monitor remembers of the present quiet, and of the last report.
#[derive(Default)]
pub(crate) struct Reported {
    /// Since when all workers sleep; `None`: somebody may have run.
    quiet_since_ns: Option<u64>,
    /// This quiet was looked at.
    looked: bool,
    /// How often workers had come back from sleep when it began.
    wakings: u64,
    /// Which threads, in which of their waits, were reported.
    last: Option<u64>,
}

impl Reported {
    /// Somebody runs.
    pub(crate) fn stir(&mut self) {
        (self.quiet_since_ns, self.looked) = (None, false);
    }
}

/// The monitor's sleep while all workers sleep, at the longest until `until`.
pub(crate) fn sleep<P: Parts>(core: &Core<P>, word: &AtomicU32, until: Option<u64>, reported: &mut Reported) {
    let wakings = core.base.idle.wakings();
    if mem::replace(&mut reported.wakings, wakings) != wakings {
        // One did since the last sleep, and may have run somebody.
        reported.stir();
    }
    let limit = core.base.deadlock.after.filter(|_| !reported.looked).map(|after| {
        let since = *reported.quiet_since_ns.get_or_insert_with(monotonic_ns);
        since.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
    });
    futex_wait_until(word, ASLEEP, until.into_iter().chain(limit).min());
    // ORDERING: SeqCst as all of the monitor's word; a wake-up that comes later ends the next sleep.
    if word.load(SeqCst) != ASLEEP {
        reported.stir();
    } else if limit.is_some_and(|limit| monotonic_ns() >= limit) {
        reported.looked = true;
        look(core, reported);
    }
}

fn look<P: Parts>(core: &Core<P>, reported: &mut Reported) {
    let base = &core.base;
    if core.timer.next_deadline_ns().is_some() || base.lifecycle.is_closing() {
        return;
    }
    let waits = |record: &Record| {
        wait::is_parked(&record.meta.wait)
            && record.meta.suspended.load(Relaxed).is_null()
            && record.meta.wake_time_ns.load(Relaxed) == 0
    };
    // Which threads, in which of their waits.
    let mut seen = 0_u64;
    let do_all_wait = || {
        let mut alive = base.table.used().filter(|record| record.is_alive()).peekable();
        alive.peek().is_some()
            && alive.all(|record| {
                let one = record.meta.unique_id.load(Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let wait = one ^ wait::number(&record.meta.wait);
                seen = seen.wrapping_add(wait.wrapping_mul(0xD6E8_FEB8_6659_FD93));
                waits(record)
            })
    };
    if !base.idle.while_all_sleep(base.worker_count, do_all_wait) {
        return;
    }
    if reported.last.replace(seen) == Some(seen) {
        return;
    }
    // Nobody runs, so nobody holds what this needs, but perhaps an OS thread, for a moment.
    let quiet_for = base.deadlock.after.unwrap_or_default();
    let report = DeadlockReport { quiet_for, threads: threads(base) };
    match base.deadlock.hook() {
        Some(hook) => {
            // Without the lock, since a hook may set another. One that panics has said so; the monitor goes on.
            user::call(move || hook(&report));
        }
        None => eprintln!("{report}"),
    }
}
