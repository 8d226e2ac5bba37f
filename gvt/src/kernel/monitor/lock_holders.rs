//! Lock-holder preemption: lets preempted threads run without a worker when one of them may hold a lock that
//! others wait for.
//!
//! **Hazard: inside the runtime.** A section of the runtime may allocate, and so does the starter; a thread
//! that was preempted and waits for a worker may hold the allocator's lock. If the worker that it needs waits
//! for that lock, or if no spare is left to preempt any other thread, both wait for ever.
//!
//! **Hazard: outside.** Every running thread may want that lock, and each then blocks its worker for a slice
//! before the monitor retakes the worker, while the lock holder is queued behind thousands: if the host stops
//! one thread in `free` for a slice, a million leaves of skynet take twenty seconds instead of half a second,
//! with two thousand OS threads asleep on the allocator's lock.
//!
//! **Protocol.** There are two triggers. *Inside*: a worker's OS thread sleeps in the kernel inside the
//! runtime for long, or the starter works for long without a spare; turns are given for as long as that
//! lasts. *Outside*: an OS thread sleeps in a futex; then every thread that is preempted at that moment gets
//! one turn, since any of them may hold the lock. In a turn some preempted threads run without a worker; at
//! its end they are stopped and the next ones run. A lock holder needs only a few instructions to release the
//! lock. Their `Runnable`s stay queued; a worker that is passed to one waits in its inbox until that thread
//! enters the runtime, or is interrupted to take it. After the last turn the threads that still run so are
//! interrupted, and wait for a worker as before.
//!
//! A turn always lasts [`TURN_NS`]: a thread that is interrupted before the kernel gives it a processor has
//! made no progress.
//!
//! **Rejected.** Doubling the number at each turn: with a thousand computing threads the lock holder gets no
//! processor, nor does the starter, for as long as they compute. Continuing for as long as any OS thread
//! sleeps in a futex: right for a lock, wrong for a condition variable.

use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{GvtState, OsThreadId, Preemptor};

use crate::kernel::worker::core::{Core, CoreBase, OsThread, Parts};
use crate::kernel::worker::counters::Counters;

/// Length of a turn.
const TURN_NS: u64 = 4_000_000;

/// How many run at once in a turn: 2, then 4 and 8, and from then on 16.
const fn at_once(turn: u32) -> usize {
    2 << if turn < 3 { turn } else { 3 }
}

#[derive(Default)]
pub(crate) struct LockHolders {
    /// Turns since the beginning; 0: none under way.
    turns: u32,
    turn_ends_ns: u64,
    /// The OS thread where the next turn begins, counted from the last one.
    from: usize,
    /// Preempted threads that are to get a turn for a waiter outside the runtime.
    owed: usize,
}

impl LockHolders {
    /// An OS thread outside the runtime sleeps in a futex.
    ///
    /// Context: the monitor.
    pub(crate) fn owe_each_a_turn(&mut self, core: &CoreBase) {
        self.owed = core.pool.each().filter(|os_thread| may_go_on(os_thread)).count();
    }

    /// One look; `is_stuck`: a worker or the starter waits inside the runtime.
    ///
    /// Context: the monitor.
    pub(crate) fn look<P: Parts>(&mut self, core: &Core<P>, is_stuck: bool, now_ns: u64) {
        let in_turn = now_ns < self.turn_ends_ns;
        // Interrupt OS threads that have a worker waiting in their inbox, and at a turn's end all that run
        // free.
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

    /// Lets at most `most` threads run; returns how many.
    fn let_go_on(&mut self, core: &CoreBase, most: usize) -> usize {
        let count = core.pool.each().count().max(1);
        let mut went = 0;
        // The youngest first: when many OS threads are being started, the starter waits for what they do at
        // their start.
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
