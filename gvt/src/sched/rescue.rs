//! Lets preempted threads go on without a worker, when somebody waits for a lock that one of them may hold.
//!
//! **Hazard.** A section of the runtime may allocate, and the starter does; the allocator's lock may be held by a thread that was
//! preempted and waits for a worker. If that worker is the one that waits for the lock, or if there is no spare left to take
//! anybody off a worker, it waits for ever.
//!
//! **Protocol.** The monitor sees a worker's OS thread asleep in the kernel *inside* the runtime for long, or the starter at work for
//! long without a spare. Then it lets some preempted threads go on without a worker, and after a while stops those and lets the
//! next go on, all in turn: the one that holds the lock needs a few instructions to release it. Their `Runnable`s stay
//! queued; a worker that is passed to one waits in its inbox until that thread enters the runtime, or is interrupted to take
//! it. When all is well again those that still run so are interrupted, and wait for a worker as before.
//!
//! **Rejected.** To let twice as many go on at each look: with a thousand that compute, whoever was to release the lock got no
//! processor any more, nor did the starter, and that went on for as long as they computed.

use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{GvtState, OsThreadId, Preemptor};

use super::core::{Core, Parts};
use super::counters::Counters;

/// Looks for which those that were let go on run.
const TURN_LOOKS: u32 = 4;

/// How many are let go on at once in a turn: 2, then 4 and 8, and from then on 16.
const fn at_once(turn: u32) -> usize {
    2 << if turn < 3 { turn } else { 3 }
}

#[derive(Default)]
pub(crate) struct Rescue {
    /// Looks since it began.
    looks: u32,
    /// Where among the OS threads the next turn begins, from the last on.
    from: usize,
}

impl Rescue {
    /// One look, at which somebody `is_stuck` or nobody.
    ///
    /// Context: the monitor.
    pub(crate) fn look<P: Parts>(&mut self, core: &Core<P>, is_stuck: bool) {
        let turn_over = self.looks.is_multiple_of(TURN_LOOKS);
        // To whom a worker has been passed, it shall take it.
        for os_thread in core.base.pool.each() {
            if os_thread.free_running.load(Relaxed) && (turn_over || !is_stuck || os_thread.has_delivery()) {
                core.preempt.interrupt(OsThreadId(os_thread.thread_id.load(Relaxed)));
            }
        }
        if !is_stuck {
            (self.looks, self.from) = (0, 0);
            return;
        }
        if turn_over {
            self.let_go_on(core, at_once(self.looks / TURN_LOOKS));
            Counters::add(&core.base.counters.rescues);
        }
        self.looks += 1;
    }

    fn let_go_on<P: Parts>(&mut self, core: &Core<P>, most: usize) {
        let count = core.base.pool.each().count().max(1);
        let mut left = most;
        // The youngest first: when many are being started, what they do at their start is what the starter waits for.
        for os_thread in core.base.pool.each().rev().cycle().skip(self.from % count).take(count) {
            // SAFETY: a kept record is mapped.
            let record = unsafe { os_thread.keeper_of().as_ref() };
            if record.is_some_and(|record| record.meta.state.load(Relaxed) == GvtState::Preempted as u8)
                && !os_thread.has_delivery()
                && !os_thread.free_running.load(Relaxed)
            {
                os_thread.free_running.store(true, Relaxed);
                os_thread.nudge();
                left -= 1;
            }
            self.from += 1;
            if left == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_let_go_on_however_long_it_takes() {
        assert_eq!([0, 1, 2, 3].map(at_once), [2, 4, 8, 16]);
        assert!((4..1000).chain([u32::MAX]).all(|turn| at_once(turn) == 16));
    }
}
