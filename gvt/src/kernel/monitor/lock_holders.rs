//! Lets preempted threads go on without a worker, when somebody waits for a lock that one of them may hold.
//!
//! **Hazard: inside the runtime.** A section of the runtime may allocate, and the starter does; the allocator's lock may be held by a
//! thread that was preempted and waits for a worker. If that worker is the one that waits for the lock, or if there is no spare left to take
//! anybody off a worker, it waits for ever.
//!
//! **Hazard: outside.** Every thread that is run may want that lock, and each then takes its worker a slice before the monitor
//! takes it away again, while the one that holds the lock is queued behind thousands: a million leaves of skynet, most times done in half a
//! second, took twenty when the host had stopped a thread in `free` for as long as a slice, and each of two thousand OS threads slept on the
//! allocator's lock.
//!
//! **Protocol.** The monitor sees a worker's OS thread asleep in the kernel *inside* the runtime for long, or the starter at work for
//! long without a spare: somebody is stuck for as long as that lasts. Or it sees one asleep *outside*, in a futex: then it owes every thread
//! that is preempted just now one turn, for whichever of them holds what is waited for. In a turn some preempted threads go on
//! without a worker, and at its end they are stopped and the next go on: the one that holds the lock needs a few instructions to release it.
//! Their `Runnable`s stay queued; a worker that is passed to one waits in its inbox until that thread enters the runtime, or is
//! interrupted to take it. After the last turn those that still run so are interrupted, and wait for a worker as before.
//!
//! A turn lasts [`TURN_NS`], whatever happens meanwhile: who is interrupted before the kernel gives it a processor has not gone on at all.
//!
//! **Rejected.** To let twice as many go on at each turn: with a thousand that compute, whoever was to release the lock got no
//! processor any more, nor did the starter, and that went on for as long as they computed. To go on for as long as anybody sleeps
//! in a futex: for a lock that is one thing, for a condition variable another.

use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{GvtState, OsThreadId, Preemptor};

use crate::kernel::worker::core::OsThread;
use crate::kernel::worker::core::{Core, CoreBase, Parts};
use crate::kernel::worker::counters::Counters;

/// For so long those that were let go on run.
const TURN_NS: u64 = 4_000_000;

/// How many are let go on at once in a turn: 2, then 4 and 8, and from then on 16.
const fn at_once(turn: u32) -> usize {
    2 << if turn < 3 { turn } else { 3 }
}

#[derive(Default)]
pub(crate) struct Rescue {
    /// Turns since it began; 0: it is not under way.
    turns: u32,
    turn_ends_ns: u64,
    /// Where among the OS threads the next turn begins, from the last on.
    from: usize,
    /// Preempted threads that are to have a turn for somebody outside the runtime.
    owed: usize,
}

impl Rescue {
    /// Somebody outside the runtime sleeps in a futex.
    ///
    /// Context: the monitor.
    pub(crate) fn owe_each_a_turn(&mut self, core: &CoreBase) {
        self.owed = core.pool.each().filter(|os_thread| may_go_on(os_thread)).count();
    }

    /// One look, at which somebody `is_stuck` inside the runtime, or nobody.
    ///
    /// Context: the monitor.
    pub(crate) fn look<P: Parts>(&mut self, core: &Core<P>, is_stuck: bool, now_ns: u64) {
        let in_turn = now_ns < self.turn_ends_ns;
        // To whom a worker has been passed, it shall take it.
        for os_thread in core.base.pool.each() {
            if os_thread.turn.is_free() && (!in_turn || os_thread.has_delivery()) {
                core.preempt.interrupt(OsThreadId(os_thread.thread_id.load(Relaxed)));
            }
        }
        if in_turn {
            return;
        }
        if !is_stuck && self.owed == 0 {
            (self.turns, self.from) = (0, 0);
            return;
        }
        let most = at_once(self.turns);
        let went = self.let_go_on(&core.base, most);
        self.owed = if went < most { 0 } else { self.owed.saturating_sub(went) };
        self.turns = self.turns.saturating_add(1);
        self.turn_ends_ns = now_ns + TURN_NS;
        Counters::add(&core.base.counters.rescues);
    }

    /// Lets at `most` so many go on; returns how many.
    fn let_go_on(&mut self, core: &CoreBase, most: usize) -> usize {
        let count = core.pool.each().count().max(1);
        let mut went = 0;
        // The youngest first: when many are being started, what they do at their start is what the starter waits for.
        for os_thread in core.pool.each().rev().cycle().skip(self.from % count).take(count) {
            self.from += 1;
            if may_go_on(os_thread) && os_thread.set_free() {
                went += 1;
                if went == most {
                    break;
                }
            }
        }
        went
    }
}

/// Whether it keeps a preempted thread that waits for a worker.
fn may_go_on(os_thread: &OsThread) -> bool {
    // SAFETY: a kept record is mapped.
    let record = unsafe { os_thread.bound_thread().as_ref() };
    record.is_some_and(|record| record.meta.state.load(Relaxed) == GvtState::Preempted as u8)
        && !os_thread.has_delivery()
        && !os_thread.turn.is_free()
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
