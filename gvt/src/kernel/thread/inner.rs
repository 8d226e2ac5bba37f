//! The runtime's own blocking locks (std's): held for a short while, never over a switch.
//!
//! **Hazard.** A green thread is preempted by force while it holds such a lock. Code inside the runtime that
//! wants it then waits and keeps its worker; and if the monitor waits for it, nothing makes the holder run
//! again.
//! **Protocol.** No thread is preempted by force while it waits for such a lock or holds it.
//!
//! The primitives use `sync::lock`, which does the same and is smaller.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::preempt_count::Steady;

/// A mutex whose holder is not preempted by force.
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
        // The data is consistent between any two of a holder's steps, also after a panic.
        InnerGuard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _steady: steady }
    }
}

/// Unlocks first; the holder may be preempted afterwards.
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
