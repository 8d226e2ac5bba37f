//! The local end of the only worker that runs normal threads: nobody steals, so nothing is atomic.
//!
//! First in, first out, without a bound on its length; the next-up place as in `team`. The ring has room
//! for 256 threads from the start; it doubles when more are queued, and gives memory back when it runs
//! empty. A thread is passed over by at most [`FAMILY_STREAK`] pops for each one before it, and in the global
//! list by `TURN` pops for each batch before it. Threads whose time has come while many are queued wait apart, and
//! [`PAST`] of them go before all others at each turn; the others get the rest of the turn, so that is another factor of five.
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
use crate::{FAMILY_STREAK, TURN, goes_next_up};

/// Threads taken from the global list at once.
const BATCH: usize = 256;
/// So many queued threads are many to wait behind for one whose time has come.
const MANY: usize = 256;
/// So many of those go past the others in a turn of [`TURN`] pops.
const PAST: usize = TURN as usize * 4 / 5;

pub(crate) struct Solo {
    ring: Fifo,
    /// Threads whose time came while many were in the ring.
    expired: Fifo,
    next_up: Option<Runnable>,
    /// Pops in a row that `next_up` has served.
    streak: u32,
    /// Pops until the global list has its turn.
    turn: u32,
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
    expired: AtomicUsize,
}

impl Gauge {
    pub(crate) fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        let in_ring = self.pushed.load(Relaxed).wrapping_sub(popped);
        in_ring + self.next_up.load(Relaxed) + self.expired.load(Relaxed)
    }
}

impl Solo {
    pub(crate) fn new(gauge: Arc<Padded<Gauge>>) -> Self {
        let (ring, expired) = (Fifo::with_places(256), Fifo::with_places(1));
        Solo { ring, expired, next_up: None, streak: 0, turn: TURN, gauge }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, task: Runnable, kind: PushKind) {
        if goes_next_up(kind, self.streak) {
            self.put_next_up(task);
        } else if kind == PushKind::Timer && self.ring.len() >= MANY {
            self.expired.push(task);
            self.gauge.0.expired.store(self.expired.len(), Relaxed);
        } else {
            self.append(task);
        }
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
        self.turn -= 1;
        if self.turn == 0 {
            self.fetch(global);
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
        self.fetch(global);
        self.pop_here()
    }

    /// Moves a batch from the global list behind what is here. Nobody else asks for these threads, so that
    /// the move need not be announced.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, global: &Global) {
        self.turn = TURN;
        if global.is_empty() {
            self.ring.shrink(KEPT);
        } else {
            global.take(BATCH, |next| std::iter::from_fn(next).for_each(|task| self.ring.push(task)));
        }
        if !self.expired.is_empty() {
            self.ring.put_first(&mut self.expired, PAST);
            self.expired.shrink(1);
            self.gauge.0.expired.store(self.expired.len(), Relaxed);
        }
        self.gauge.0.popped.store(self.ring.popped(), Relaxed);
        self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
    }

    pub(crate) fn has_work(&self) -> bool {
        self.next_up.is_some() || !self.ring.is_empty() || !self.expired.is_empty()
    }

    #[inline(always)]
    pub(crate) fn upcoming(&self, distance: usize) -> Option<NonNull<Metadata>> {
        match &self.next_up {
            Some(task) if distance == 0 => Some(task.as_ptr()),
            Some(_) => self.ring.peek(distance - 1),
            None => self.ring.peek(distance),
        }
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
