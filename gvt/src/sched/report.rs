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

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use gvt_traits::{GvtState, Priority, TimerBackend, WaitReason};

use super::core::{Core, CoreBase, Parts};
use super::inner::InnerLock;
use super::monitor;
use super::record::Record;
use super::wait;
use crate::os::{futex_wait_until, monotonic_ns};
use crate::thread::ThreadId;
use crate::user;

/// A green thread as [`Runtime::threads`](crate::Runtime::threads) lists it. It is displayed as one line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ThreadInfo {
    /// Its id.
    pub id: ThreadId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its priority.
    pub priority: Priority,
    /// What it does.
    pub state: GvtState,
    /// If it is blocked: on what.
    pub reason: Option<WaitReason>,
    /// If it is blocked: for how long about.
    pub blocked_for: Option<Duration>,
    /// If it waits for a time: how long until then.
    pub wakes_in: Option<Duration>,
}

impl fmt::Display for ThreadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("unnamed");
        write!(f, "green thread {} '{name}': ", self.id)?;
        let (Some(reason), Some(since)) = (self.reason, self.blocked_for) else {
            return f.write_str(self.state.name());
        };
        write!(
            f,
            "blocked on {} for about {}.{} s",
            reason.name(),
            since.as_secs(),
            since.subsec_millis() / 100
        )?;
        match self.wakes_in {
            Some(left) => write!(f, ", {}.{} s to go", left.as_secs(), left.subsec_millis() / 100),
            None => Ok(()),
        }
    }
}

/// Threads that nothing in their runtime will wake; see
/// [`SchedulerConfig::deadlock_report`](crate::SchedulerConfig::deadlock_report). It is displayed as a report of several lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadlockReport {
    /// How long nothing has run.
    pub quiet_for: Duration,
    /// All green threads of the runtime.
    pub threads: Vec<ThreadInfo>,
}

/// Lines of a report at the most.
const MOST_LINES: usize = 100;

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.threads.len();
        write!(
            f,
            "gvt: nothing has run for {:?}; {} and no timer is pending. Unless an OS thread or another runtime wakes \
             one of them, this is a deadlock:",
            self.quiet_for,
            if count == 1 {
                "the one green thread waits".into()
            } else {
                format!("all {count} green threads wait")
            }
        )?;
        f.write_str(&lines(&self.threads, MOST_LINES))
    }
}

/// A list of threads, a line each, and how many are in which state; each line after a line break.
pub(crate) fn lines(threads: &[ThreadInfo], most: usize) -> String {
    let mut text = String::new();
    for thread in threads.iter().take(most) {
        text.push_str(&format!("\n  {thread}"));
    }
    if threads.len() > most {
        text.push_str(&format!("\n  … and {} more", threads.len() - most));
    }
    if threads.len() > 1 {
        text.push_str(&format!("\n  in all: {}", counts(threads)));
    }
    text
}

/// How many threads are in which state, or blocked on what; the most first.
fn counts(threads: &[ThreadInfo]) -> String {
    let mut counts = BTreeMap::new();
    for thread in threads {
        let what = match thread.reason {
            Some(reason) => ("blocked on ", reason.name()),
            None => ("", thread.state.name()),
        };
        *counts.entry(what).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| Reverse(count));
    let counts: Vec<_> =
        counts.iter().map(|((blocked, what), count)| format!("{count} {blocked}{what}")).collect();
    counts.join(", ")
}

pub(crate) fn is_alive(record: &Record) -> bool {
    use GvtState::*;
    record.meta.references.load(Relaxed) != 0 && !matches!(record.state(), Finished | Cancelled)
}

/// All threads that are alive, in the order of their places.
///
/// Context: anywhere; allocates. No thread's end waits for it.
pub(crate) fn threads(core: &CoreBase) -> Vec<ThreadInfo> {
    let now_ns = core.now_ns();
    core.table.used().filter(|record| is_alive(record)).map(|record| info(core, record, now_ns)).collect()
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

type Hook = Box<dyn Fn(&DeadlockReport) + Send + Sync>;

/// What a runtime does about deadlocks.
pub(crate) struct Watch {
    /// `None`: nothing.
    after: Option<Duration>,
    hook: InnerLock<Option<Arc<Hook>>>,
}

impl Watch {
    pub(crate) fn new(after: Option<Duration>) -> Self {
        Watch { after, hook: InnerLock::new(None) }
    }

    pub(crate) fn set_hook(&self, hook: Hook) {
        let hook = Some(Arc::new(hook));
        let before = std::mem::replace(&mut *self.hook.lock(), hook);
        // User code, so without the lock. If the monitor is in that hook, it is dropped there.
        user::discard(before);
    }

    /// The runtime has ended.
    pub(crate) fn end(&self) {
        let hook = self.hook.lock().take();
        user::discard(hook);
    }

    fn hook(&self) -> Option<Arc<Hook>> {
        self.hook.lock().clone()
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
    futex_wait_until(word, monitor::ASLEEP, until.into_iter().chain(limit).min());
    // ORDERING: SeqCst as all of the monitor's word; a wake-up that comes later ends the next sleep.
    if word.load(SeqCst) != monitor::ASLEEP {
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
        let mut alive = base.table.used().filter(|record| is_alive(record)).peekable();
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
