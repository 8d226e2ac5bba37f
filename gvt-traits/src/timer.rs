//! Which deadline comes next.

use crate::{WakeTicket, WorkerId};

/// What an expired entry is for. Backends keep it and give it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum TimerType {
    /// The end of a sleep.
    Sleep = 0,
    /// The limit of some other wait.
    Deadline = 1,
    /// The next tick of an interval.
    Interval = 2,
}

/// A deadline, and the wait that it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerEntry {
    /// When, in the runtime's clock (ns; see [`TimerBackend::now_ns`]).
    pub deadline_ns: u64,
    /// Which wait. The ticket's sequence is its generation: an entry that outlives its wait wakes
    /// nobody.
    pub ticket: WakeTicket,
    /// The worker that the thread would like to wake on, and the shard to file the entry in.
    pub affinity: WorkerId,
    /// What it is for.
    pub kind: TimerType,
}

/// Names an entry that was inserted, for cancelling. What the fields mean is up to the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TimerHandle {
    /// Where, typically.
    pub place: u64,
    /// Which use of that place, typically.
    pub generation: u64,
}

/// How an idle worker should wait for the backend's next deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IdleWait {
    /// Nothing is due, ever: sleep until woken.
    Forever,
    /// Sleep until woken, at the longest until this time (ns).
    Until(u64),
    /// Block until this file descriptor polls readable, or woken. Then call
    /// [`expire`](TimerBackend::expire).
    Readable(i32),
    /// Do not wait: something is due, or the backend moved its own clock (virtual time).
    Due,
}

/// Keeps deadlines and says which have passed.
///
/// One value serves all workers; a backend shards itself if that helps. [`TimerEntry::affinity`] is the
/// worker that files the entry, so one shard for each worker is the natural choice.
///
/// # Implementer's contract
///
/// - **T1 exactly once**: each entry is given out once, by `expire` or by `cancel`, never by both; and none
///   that was not inserted. A ticket that names no thread, or a wait that has no deadline, ends the process.
/// - **T2 never early**: `expire(now)` gives out no entry with `deadline_ns > now`.
/// - **T3 complete**: with no other call in progress, `expire(near, now)` gives out every entry with
///   `deadline_ns + resolution_ns() <= now`, from all shards. Under contention it may leave a shard to the
///   call that is working on it.
/// - **T4 cancel**: `cancel` returns the entry if it had not been given out, and frees its place
///   (at once, or so that cancelled entries never outnumber live ones by more than a constant
///   factor). A handle is stale once its entry is out; a stale handle cancels nothing, whatever
///   was inserted since.
/// - **T5 next deadline**: `next_deadline_ns` is `None` only if no entry is held, and otherwise no
///   later than the earliest `deadline_ns` plus `resolution_ns()`. It covers every
///   insert that has returned. It may be too early (a cancelled entry), but not for ever: `expire` at that
///   time makes it move on.
/// - **T6 quiet**: while nothing is due, the backend makes nothing wake. It has no thread.
/// - **T7 descriptor**: if `idle_wait` answers [`IdleWait::Readable`], the descriptor polls
///   readable from when the next deadline passes, also if that deadline was inserted after `idle_wait`
///   returned, until `expire` and then `idle_wait` have been called: an `expire` by another worker takes no
///   wake-up from the one that waits.
/// - **T8 any deadline**: 0, the past, and `u64::MAX` are deadlines like others.
///
/// The trait is safe: breaking a clause can wake a thread early, late or never, or abort the process with the
/// clause's number.
///
/// Also B1–B6 of the crate. Tested: T1–T8, B6 (`timer_backend` suite; of T6, that nothing wakes early while
/// nothing was cancelled), the rest of T6 end to end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a timer backend",
    label = "this backend does not implement `TimerBackend`",
    note = "pass a timer such as `HeapTimer`, `Wheel` or `TimerFd` to `.timer(…)`"
)]
pub trait TimerBackend: Send + Sync + 'static {
    /// By how much expiry may lag behind a deadline, because of the backend's resolution; 0 for exact.
    fn resolution_ns(&self) -> u64 {
        0
    }

    /// Files an entry.
    ///
    /// Context: any OS thread, preemption off; not a signal handler. Allocates only to grow.
    fn insert(&self, entry: TimerEntry) -> TimerHandle;

    /// Takes an entry back before it expires (T4).
    ///
    /// Context: as `insert`.
    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry>;

    /// Gives each entry that is due to `sink`, the shard of `near` first; returns how many. `now_ns` is not
    /// ahead of the runtime's clock; it may go back from call to call, since workers read the clock apart.
    ///
    /// Context: as `insert`. `sink` does not call back into the backend and does not panic; it
    /// may be called with a lock of the backend held.
    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize;

    /// When something is due next (T5). Cheap: workers ask at scheduling decisions.
    ///
    /// Context: **monitor** (B6); any OS thread.
    fn next_deadline_ns(&self) -> Option<u64>;

    /// Prepares for an idle worker's wait and says how to wait. One worker at a time waits like this; the
    /// others sleep until woken.
    ///
    /// Context: worker, preemption off, worker's stack; may make a system call.
    fn idle_wait(&self) -> IdleWait {
        match self.next_deadline_ns() {
            None => IdleWait::Forever,
            Some(deadline) => IdleWait::Until(deadline),
        }
    }

    /// The backend's own time, if it keeps one (virtual time, simulation); `None`: the runtime
    /// reads `CLOCK_MONOTONIC`.
    ///
    /// Context: **monitor** (B6); any OS thread.
    fn now_ns(&self) -> Option<u64> {
        None
    }

    /// Whether [`now_ns`](Self::now_ns) moves only in [`idle_wait`](Self::idle_wait) (virtual time). The
    /// runtime then calls that only when no worker has anything to do, and no thread waits for the others to
    /// settle.
    ///
    /// Context: any OS thread; always the same.
    fn is_virtual(&self) -> bool {
        false
    }

    /// How many entries are held; for people and tests.
    fn len(&self) -> usize;

    /// Whether none is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

const _: fn(&dyn TimerBackend) = |_| ();
