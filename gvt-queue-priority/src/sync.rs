//! Atomics, locks and deques: std's and crossbeam's, or loom's; and the defects that a loom run plants.
//!
//! `crossbeam-deque` cannot be modelled; under loom a list behind a lock stands in for it, so that the models
//! cover this crate's own protocol, the bitmaps of `team`.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize},
    };

    pub(crate) use crossbeam_deque::{Steal, Stealer, Worker};
}

#[cfg(loom)]
mod real {
    use std::collections::VecDeque;

    pub(crate) use crossbeam_deque::Steal;
    pub(crate) use loom::sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize},
    };

    type List<T> = loom::sync::Arc<Mutex<VecDeque<T>>>;

    pub(crate) struct Worker<T>(List<T>);
    pub(crate) struct Stealer<T>(List<T>);

    impl<T> Worker<T> {
        pub(crate) fn new_fifo() -> Self {
            Worker(List::new(Mutex::new(VecDeque::new())))
        }

        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.clone())
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().unwrap().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().unwrap().pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn steal(&self) -> Steal<T> {
            self.0.lock().unwrap().pop_front().map_or(Steal::Empty, Steal::Success)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }
}

pub(crate) use real::*;

/// Defects that the loom models plant to show that they would see them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(loom), allow(dead_code, reason = "the variants are chosen by the loom models only"))]
#[repr(usize)]
pub(crate) enum Mutant {
    /// A push to an empty level does not set the worker's bit.
    NotAnnounced = 1,
    /// The worker takes its bit back and believes that it is still set.
    StillAnnounced,
    /// A thief that finds a level empty clears the owner's bit.
    ThiefRetracts,
    /// The runtime does not fence behind a push.
    NoFence,
}

#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutant(_: Mutant) -> bool {
    false
}

#[cfg(loom)]
pub(crate) static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[cfg(loom)]
pub(crate) fn mutant(which: Mutant) -> bool {
    // Relaxed: set before the model's threads exist.
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == which as usize
}
