//! Policies: whether and when a less urgent level goes first.
//!
//! **Hazard.** Strict order lets a level starve below one that is never empty. Ageing must bound that
//! without making an isolated Critical thread wait, whose point it is to run next.
//!
//! **Protocol.** A worker counts its pops. Every [`LIFT`]th, a *lift*, starts the search at a less urgent
//! level, High, Normal and Low in turn; if there is nothing at that level or below, the search is the usual
//! one. A lift that would pass over a Critical thread is put off until [`LIFT`] - 1 pops in a row were
//! Critical, so only a flood of Critical threads is ever interrupted.
//!
//! The first in line at a level is thus passed over by at most 3 x (2 x [`LIFT`] - 1) = 93 pops of its
//! worker.
//!
//! **Rejected.** *Stamps* (each thread's waiting time lifts its level): a clock read a push, and a search
//! for the oldest that bitmaps cannot answer. *Random lifts*: no bound.

use std::marker::PhantomData;

use gvt_traits::{Order, Priority};

/// Pops of a worker from one lift to the next.
pub const LIFT: u32 = 16;

mod sealed {
    pub trait Sealed {}
}

/// What happens to the less urgent while there is more urgent work: [`Ageing`] or [`Strict`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy of `PriorityQueue`",
    label = "this type does not say what happens to the less urgent",
    note = "choose `Ageing`, the default, or `Strict`; another order is another `ReadyQueue`"
)]
pub trait Policy: sealed::Sealed + Send + Sync + 'static {
    /// What the queue promises.
    const ORDER: Order;
}

/// Waiting lifts a thread: the first in line at a level is passed over by at most 93 pops of its worker,
/// 3 × (2 × [`LIFT`] − 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ageing;

/// The most urgent first, always; the others may wait for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Strict;

impl sealed::Sealed for Ageing {}
impl sealed::Sealed for Strict {}

impl Policy for Ageing {
    const ORDER: Order = Order::AgeingPriority;
}

impl Policy for Strict {
    const ORDER: Order = Order::StrictPriority;
}

/// A worker's count towards its next lift.
pub(crate) struct Lift<P> {
    /// Pops until the next lift.
    left: u32,
    /// Pops in a row that were Critical, up to now.
    criticals: u32,
    /// The level of the next lift.
    level: usize,
    /// The least urgent level that is lifted.
    last: usize,
    policy: PhantomData<P>,
}

impl<P: Policy> Lift<P> {
    /// Lifts the levels down to `last`.
    pub(crate) fn new(last: Priority) -> Self {
        Lift { left: LIFT, criticals: 0, level: 1, last: last as usize, policy: PhantomData }
    }

    /// Whether the next pop is a lift.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        P::ORDER != Order::StrictPriority && self.left == 1
    }

    /// Counts a pop at `level` that is no lift.
    #[inline]
    pub(crate) fn count(&mut self, level: usize) {
        if P::ORDER != Order::StrictPriority {
            self.left -= 1;
            self.popped(level);
        }
    }

    /// Counts a pop. The level at which to start looking, if it is not the first; `critical` tells whether a
    /// Critical thread waits.
    #[inline]
    pub(crate) fn next(&mut self, critical: impl FnOnce() -> bool) -> Option<usize> {
        if P::ORDER == Order::StrictPriority {
            return None;
        }
        self.left -= 1;
        if self.left > 0 { None } else { self.lift(critical()) }
    }

    #[cold]
    fn lift(&mut self, critical: bool) -> Option<usize> {
        if critical && self.criticals < LIFT - 1 {
            self.left = 1;
            return None;
        }
        self.left = LIFT;
        let level = self.level;
        self.level = if level == self.last { 1 } else { level + 1 };
        Some(level)
    }

    /// Notes the level that was popped.
    #[inline]
    pub(crate) fn popped(&mut self, level: usize) {
        self.criticals = if level == 0 { self.criticals.saturating_add(1) } else { 0 };
    }
}
