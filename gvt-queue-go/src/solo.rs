//! The local end of the only worker that runs normal threads: nobody steals, so nothing is atomic.
//!
//! First in, first out, without a bound on its length; the next-up place as in `team`. The ring has room
//! for 256 threads from the start; it doubles when more are queued, and gives memory back when it runs
//! empty. A thread is passed over by at most [`FAMILY_STREAK`] pops for each one before it, and in the global
//! list by `TURN` pops for each batch before it. Threads that have rested go before all others (`turns`), which
//! makes it up to seven times as many.
//!
//! **Q6 here.** What lies here only this worker can run, and it is awake, so no push need be ordered
//! before a look at sleepers. What comes from elsewhere comes through the global list, which
//! publishes with the total order.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{Metadata, PushKind, Runnable};

use crate::fifo::Fifo;
use crate::global::{Global, KEPT};
use crate::sync::{Arc, AtomicUsize, Padded, left_behind};
use crate::turns::Turns;
use crate::{FAMILY_STREAK, goes_next_up};

/// Threads taken from the global list at once.
const BATCH: usize = 256;
/// Room for threads that have rested, from the start.
const RESTED: usize = 16;

pub(crate) struct Solo {
    ring: Fifo,
    /// Threads whose timers expired, and that have computed little: they go ahead.
    rested: Fifo,
    next_up: Option<Runnable>,
    /// Pops in a row that `next_up` has served.
    streak: u32,
    turns: Turns,
    gauge: Arc<Padded<Gauge>>,
}

/// How many are here, for the runtime's monitor and for people. Exact behind each call: if it said 0 beside a
/// thread that waits, the one that runs would never be preempted; if it said more, a lone
/// computation would be disturbed.
///
/// Copies of the two ends, so that a push and a pop store one word each. Relaxed: nothing follows from it but
/// a look at the clock.
#[derive(Default)]
pub(crate) struct Gauge {
    pushed: AtomicUsize,
    popped: AtomicUsize,
    next_up: AtomicUsize,
    rested: AtomicUsize,
}

impl Gauge {
    pub(crate) fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        let in_ring = self.pushed.load(Relaxed).wrapping_sub(popped);
        in_ring + self.next_up.load(Relaxed) + self.rested.load(Relaxed)
    }
}

impl Solo {
    pub(crate) fn new(gauge: Arc<Padded<Gauge>>) -> Self {
        let (ring, rested) = (Fifo::with_places(256), Fifo::with_places(RESTED));
        Solo { ring, rested, next_up: None, streak: 0, turns: Turns::new(), gauge }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, task: Runnable, kind: PushKind) {
        if goes_next_up(kind, self.streak) {
            self.put_next_up(task);
        } else if kind == PushKind::Timer {
            self.push_rested(task);
        } else {
            self.append(task);
        }
    }

    #[inline(never)]
    fn push_rested(&mut self, task: Runnable) {
        self.rested.push(task);
        self.gauge.0.rested.store(self.rested.len(), Relaxed);
        self.turns.look_next();
    }

    #[inline(always)]
    fn append(&mut self, task: Runnable) {
        self.ring.push(task);
        self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
    }

    #[inline(always)]
    fn put_next_up(&mut self, task: Runnable) {
        match self.next_up.replace(task) {
            Some(displaced) => self.append(displaced),
            None => self.gauge.0.next_up.store(1, Relaxed),
        }
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, global: &Global) -> Option<Runnable> {
        if self.turns.count()
            && let Some(task) = self.look_beside(global)
        {
            return Some(task);
        }
        match self.pop_here() {
            None => self.fetch_and_pop(global),
            task => task,
        }
    }

    #[inline(always)]
    fn pop_here(&mut self) -> Option<Runnable> {
        if let Some(task) = self.next_up.take() {
            self.streak += 1;
            self.gauge.0.next_up.store(0, Relaxed);
            return Some(task);
        }
        let task = self.ring.pop()?;
        self.streak = 0;
        self.gauge.0.popped.store(self.ring.popped(), Relaxed);
        Some(task)
    }

    /// Moves the newest thread of the ring to the next-up place, if that is `thread`.
    pub(crate) fn expedite(&mut self, thread: NonNull<Metadata>) {
        if self.streak < FAMILY_STREAK
            && let Some(task) = self.ring.take_newest(thread)
        {
            self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
            self.put_next_up(task);
        }
    }

    #[cold]
    #[inline(never)]
    fn fetch_and_pop(&mut self, global: &Global) -> Option<Runnable> {
        if global.is_empty() {
            return None;
        }
        self.fetch(global);
        self.pop_here()
    }

    /// Takes a thread that has rested, or gives the global list its turn.
    #[cold]
    #[inline(never)]
    fn look_beside(&mut self, global: &Global) -> Option<Runnable> {
        let mut task = None;
        if !self.rested.is_empty() {
            let others = self.next_up.is_some() || !self.ring.is_empty() || !global.is_empty();
            if self.turns.serves_lane(others) {
                task = self.rested.pop();
                self.gauge.0.rested.store(self.rested.len(), Relaxed);
            }
        }
        if task.is_none() && self.turns.is_due() {
            self.fetch(global);
        }
        self.turns.look_again(self.rested.is_empty());
        task
    }

    /// Moves a batch from the global list behind what is here. Nobody else asks for these threads, so that
    /// the move need not be announced.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, global: &Global) {
        self.turns.begin();
        self.rested.shrink(RESTED);
        if global.is_empty() {
            self.ring.shrink(KEPT);
        } else {
            global.take(BATCH, |next| std::iter::from_fn(next).for_each(|task| self.ring.push(task)));
        }
        self.gauge.0.popped.store(self.ring.popped(), Relaxed);
        self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
    }

    pub(crate) fn has_work(&self) -> bool {
        self.next_up.is_some() || !self.ring.is_empty() || !self.rested.is_empty()
    }

    #[inline(always)]
    pub(crate) fn upcoming(&self, distance: usize) -> Option<NonNull<Metadata>> {
        let distance = match &self.next_up {
            Some(task) if distance == 0 => return Some(task.as_ptr()),
            Some(_) => distance - 1,
            None => distance,
        };
        // Those that have rested come sooner; but either these are many, or those in the ring are.
        self.ring.peek(distance).or_else(|| self.rested.peek(distance - self.ring.len()))
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        if let Some(task) = self.next_up.take() {
            std::mem::forget(task);
            left_behind(1, "a next-up place");
        }
    }
}
