//! `VirtualTime`: a timer whose clock stands still while threads run, and jumps to the next deadline when no
//! worker has anything to do. A program that sleeps for an hour takes no time, and sleepers wake in the order
//! of their deadlines, in every run.
//!
//! The contract leaves room for it: a backend is told the time in `expire`, may keep a clock of its own
//! (`now_ns`), and answers an idle worker with [`IdleWait::Due`] when it has moved it.
//!
//! Every deadline of `gvt` is one of this clock: of `select!`, `after` and `tick`, of all that waits with a
//! limit, of tokens, and of futures that are polled on a green thread. `gvt::now()` reads it. With one worker
//! each run is like the others to the nanosecond, as far as the program is, and if nothing is preempted
//! (`NoPreempt`): which of several ready arms a `select!` takes is drawn alike, too.
//!
//! **Limits.** What reads a clock of its own (`std::time::Instant`) sees real time, and so do OS threads
//! outside the runtime. Threads that wait for the outside world, in the kernel or in `gvt::blocking`, are not
//! waited for: time goes on without them.

use std::sync::atomic::{AtomicU64, Ordering::*};

use gvt_traits::{Factory, IdleWait, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerId};

/// A timer in virtual time, ordered by the timer it wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualTime<B>(pub B);

impl<B: Factory<Output: TimerBackend>> Factory for VirtualTime<B> {
    type Output = VirtualTimePart<B::Output>;

    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        Ok(VirtualTimePart { order: self.0.build(plan)?, clock_ns: AtomicU64::new(0) })
    }
}

/// What [`VirtualTime`] builds.
#[derive(Debug)]
pub struct VirtualTimePart<T> {
    order: T,
    clock_ns: AtomicU64,
}

impl<T: TimerBackend> TimerBackend for VirtualTimePart<T> {
    fn resolution_ns(&self) -> u64 {
        self.order.resolution_ns()
    }

    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        self.order.insert(entry)
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        self.order.cancel(handle)
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        self.order.expire(near, now_ns, sink)
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.order.next_deadline_ns()
    }

    /// Moves the clock on. By T5 an `expire` at that time gives something out, or makes the deadline move on.
    fn idle_wait(&self) -> IdleWait {
        match self.order.next_deadline_ns() {
            None => IdleWait::Forever,
            Some(deadline) => {
                // Relaxed: one number that only grows; what is due at it is the wrapped backend's to say.
                self.clock_ns.fetch_max(deadline, Relaxed);
                IdleWait::Due
            }
        }
    }

    fn now_ns(&self) -> Option<u64> {
        Some(self.clock_ns.load(Relaxed)) // Relaxed: as in `idle_wait`.
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
