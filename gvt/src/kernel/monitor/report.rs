//! Reports for people: what a runtime's threads do, and deadlocks.
//!
//! **What can be known.** If every worker sleeps, no timer is pending, and every thread waits in a primitive
//! (none is in a system call, none was preempted by force), then no green thread of the runtime will ever
//! wake another. Only an OS thread or another runtime can, if it has an end of a channel, a handle or a
//! token; whether it will is unknowable. So this reports a quiet that has lasted as long as the user has set,
//! not a proven deadlock.
//!
//! **Protocol.** The monitor sleeps while all workers sleep, and a worker that wakes up wakes it (`look`).
//! With reports on, its first sleep has a limit; if that passes, the quiet was complete. It looks once, and
//! then sleeps without a limit. A set of threads that was reported and has not moved since is not reported
//! again.
//!
//! **Cost.** None if it is off; if on, one wake-up of the monitor for each quiet period.
//!
//! **Limits.** Threads that wait for each other while others run or sleep are not found. The data of a thread
//! that moves meanwhile may be inconsistent.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use gvt_traits::{GvtState, Priority, TimerBackend, WaitReason};

use crate::kernel::state::deadlock::{DeadlockReport, ThreadInfo};
use crate::kernel::state::monitor::ASLEEP;
use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{Core, CoreBase, Parts};
use crate::os::{futex_wait_until, monotonic_ns};
use crate::protocol::{user, wait};

/// All live threads, by index.
///
/// Context: anywhere; allocates. No thread's end waits for it.
pub(crate) fn threads(core: &CoreBase) -> Vec<ThreadInfo> {
    let now_ns = core.now_ns();
    core.table.used().filter(|record| record.is_alive()).map(|record| info(core, record, now_ns)).collect()
}

fn info(core: &CoreBase, record: &Record, now_ns: u64) -> ThreadInfo {
    let meta = &record.meta;
    // Relaxed throughout: gauges, for reports.
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

/// What the monitor remembers of the present quiet and of the last report.
#[derive(Default)]
pub(crate) struct Reported {
    /// Since when all workers sleep; `None`: a thread may have run.
    quiet_since_ns: Option<u64>,
    /// This quiet was looked at.
    looked: bool,
    /// The count of workers' wake-ups when it began.
    wakings: u64,
    /// A hash of the reported threads and their waits.
    last: Option<u64>,
}

impl Reported {
    /// A worker runs.
    pub(crate) fn stir(&mut self) {
        (self.quiet_since_ns, self.looked) = (None, false);
    }
}

/// The monitor's sleep while all workers sleep, at the longest until `until`.
pub(crate) fn sleep<P: Parts>(core: &Core<P>, word: &AtomicU32, until: Option<u64>, reported: &mut Reported) {
    let wakings = core.base.idle.wakings();
    if mem::replace(&mut reported.wakings, wakings) != wakings {
        // A worker woke up since the last sleep, and may have run a thread.
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
    // A hash of the threads and their waits.
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
    // No thread runs, so none holds the locks needed here; an OS thread may, for a moment.
    let quiet_for = base.deadlock.after.unwrap_or_default();
    let report = DeadlockReport { quiet_for, threads: threads(base) };
    match base.deadlock.hook() {
        Some(hook) => {
            // Without the lock, since a hook may set another. A panic prints its own message; the monitor
            // continues.
            user::call(move || hook(&report));
        }
        None => eprintln!("{report}"),
    }
}
