//! Locks of the runtime's own, of std's kind: held for a short while, never over a switch.
//!
//! **Hazard.** A green thread is taken off by force with such a lock. Then whoever wants it inside the runtime waits, with a worker in
//! hand, and if the monitor wants it nobody is left who sees to it that the holder goes on.
//! **Protocol.** Who locks one is not taken off while it waits for the lock and while it holds it, whoever it is.
//!
//! What primitives are made of is `sync::lock`, which does the same and is smaller.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::preempt_count::Steady;

/// A mutex whose holder is not taken off by force.
pub(crate) struct InnerLock<T>(Mutex<T>);

impl<T> InnerLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        InnerLock(Mutex::new(value))
    }

    /// Waits for the lock.
    ///
    /// Context: anywhere but in a signal handler.
    pub(crate) fn lock(&self) -> InnerGuard<'_, T> {
        let steady = Steady::new();
        // What it guards is sound between any two of its holders' steps.
        InnerGuard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _steady: steady }
    }
}

/// Unlocks first, and then the holder may be taken off.
pub(crate) struct InnerGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    _steady: Steady,
}

impl<T> Deref for InnerGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for InnerGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
