//! The local end of the only worker that runs Normal threads: no other steals, so nothing is atomic.
//!
//! First in, first out, unbounded; the next-up slot as in `team`. The ring has room
//! for 256 threads from the start; it doubles when more are queued, and gives memory back when it runs
//! empty. A thread is passed over by at most [`FAMILY_STREAK`] pops for each one before it, and in the global
//! list by `TURN` pops for each batch before it. Threads that have rested go before all others (`turns`),
//! which makes it up to seven times as many, and urgent ones (`levels`) up to sixteen times.
//!
//! **The fence (Q6).** Only this worker can run what is here, and it is awake, so no push must be ordered
//! before a look for sleepers. Threads from elsewhere come through the global list and the lists of other
//! levels, which publish in the total order.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{Metadata, PushKind, Runnable};

use crate::fifo::Fifo;
use crate::global::KEPT;
use crate::levels::{Bell, Shared, Shares};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutant, Padded, left_behind, mutant};
use crate::turns::Turns;
use crate::{FAMILY_STREAK, goes_next_up};

/// Threads taken from the global list at once.
const BATCH: usize = 256;
/// Room for threads that have rested, from the start.
const RESTED: usize = 16;

pub(crate) struct SingleWorker {
    ring: Fifo,
    /// Threads whose timers expired, and that have computed little: they go ahead.
    rested: Fifo,
    next_up: Option<Runnable>,
    /// Pops in a row that `next_up` has served.
    streak: u32,
    turns: Turns,
    shares: Shares,
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
    next_up: AtomicBool,
    rested: AtomicUsize,
    /// Beside the copies, since each pop comes here.
    pub(crate) bell: Bell,
}

impl Gauge {
    pub(crate) fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        let in_ring = self.pushed.load(Relaxed).wrapping_sub(popped);
        in_ring + usize::from(self.next_up.load(Relaxed)) + self.rested.load(Relaxed)
    }
}

impl SingleWorker {
    pub(crate) fn new(gauge: Arc<Padded<Gauge>>) -> Self {
        let (ring, rested) = (Fifo::with_places(256), Fifo::with_places(RESTED));
        SingleWorker {
            ring,
            rested,
            next_up: None,
            streak: 0,
            turns: Turns::new(),
            shares: Shares::default(),
            gauge,
        }
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
            None => self.gauge.0.next_up.store(true, Relaxed),
        }
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, shared: &Shared) -> Option<Runnable> {
        if self.turns.count() || self.gauge.0.bell.rings() {
            return self.look_and_pop(shared);
        }
        if let Some(task) = self.pop_here() {
            return Some(task);
        }
        self.fetch_and_pop(shared)
    }

    #[cold]
    #[inline(never)]
    fn look_and_pop(&mut self, shared: &Shared) -> Option<Runnable> {
        self.look_beside(shared).or_else(|| self.pop_here()).or_else(|| self.fetch_and_pop(shared))
    }

    #[inline(always)]
    fn pop_here(&mut self) -> Option<Runnable> {
        let gauge = &self.gauge.0;
        // Not `take` at once, which stores whether or not there is one.
        if self.next_up.is_some() {
            let task = self.next_up.take();
            self.streak += 1;
            gauge.next_up.store(false, Relaxed);
            return task;
        }
        let task = self.ring.pop()?;
        self.streak = 0;
        gauge.popped.store(self.ring.popped(), Relaxed);
        Some(task)
    }

    /// Moves the newest thread of the ring to the next-up slot, if that is `thread`.
    pub(crate) fn expedite(&mut self, thread: NonNull<Metadata>) {
        if self.streak < FAMILY_STREAK
            && let Some(task) = self.ring.take_newest(thread)
        {
            self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
            self.put_next_up(task);
        }
    }

    /// Nothing is here.
    #[cold]
    #[inline(never)]
    fn fetch_and_pop(&mut self, shared: &Shared) -> Option<Runnable> {
        if shared.is_empty() && self.rested.is_empty() { None } else { self.look_elsewhere(shared) }
    }

    #[inline(never)]
    fn look_elsewhere(&mut self, shared: &Shared) -> Option<Runnable> {
        if let Some(task) = self.shares.pop_urgent(shared) {
            if shared.has_urgent() {
                self.turns.look_next();
            }
            return Some(task);
        }
        if !shared.global.is_empty() {
            self.fetch(shared);
        }
        // Rested threads whose turn was others'.
        self.pop_here().or_else(|| self.pop_rested()).or_else(|| self.shares.pop_low(shared))
    }

    fn pop_rested(&mut self) -> Option<Runnable> {
        let task = self.rested.pop();
        self.gauge.0.rested.store(self.rested.len(), Relaxed);
        task
    }

    /// Takes an urgent thread, or one that has rested, or gives others their turn.
    fn look_beside(&mut self, shared: &Shared) -> Option<Runnable> {
        if !mutant(Mutant::BellClearedLate) {
            self.gauge.0.bell.answer();
        }
        let others = self.next_up.is_some()
            || !self.ring.is_empty()
            || !shared.global.is_empty()
            || !shared.low.is_empty();
        let mut task = None;
        if shared.has_urgent() && self.turns.serves_urgent(others || !self.rested.is_empty()) {
            task = self.shares.pop_urgent(shared);
            task.iter().for_each(|_| self.turns.urgent_popped());
        }
        if task.is_none() && !self.rested.is_empty() && self.turns.serves_rested(others) {
            task = self.pop_rested();
        }
        if task.is_none() && self.turns.is_due() {
            task = self.shares.pop_low_at_turn(shared, self.turns.plain_pops());
            if task.is_none() {
                self.fetch(shared);
            }
        }
        self.turns.look_again(self.rested.is_empty() && !shared.has_urgent());
        if mutant(Mutant::BellClearedLate) {
            self.gauge.0.bell.answer();
        }
        task
    }

    /// Moves a batch from the global list behind what is here. Nobody else asks for these threads, so that
    /// the move need not be announced.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, shared: &Shared) {
        self.turns.begin();
        self.rested.shrink(RESTED);
        if shared.global.is_empty() {
            self.ring.shrink(KEPT);
        } else {
            shared.global.take(BATCH, |next| std::iter::from_fn(next).for_each(|task| self.ring.push(task)));
        }
        self.gauge.0.popped.store(self.ring.popped(), Relaxed);
        self.gauge.0.pushed.store(self.ring.pushed(), Relaxed);
    }

    /// Urgent threads are in their lists: the next pop looks.
    pub(crate) fn look_next(&mut self) {
        self.turns.look_next();
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

impl Drop for SingleWorker {
    fn drop(&mut self) {
        if let Some(task) = self.next_up.take() {
            std::mem::forget(task);
            left_behind(1, "a next-up slot");
        }
    }
}
