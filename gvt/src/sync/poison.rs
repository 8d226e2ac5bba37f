//! Poisoning: whether a panic has cut short a critical section.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{LockResult, PoisonError};
use std::thread::panicking;

/// A lock's poison flag. Relaxed throughout: the lock itself orders it.
pub(super) struct Poison(AtomicBool);

/// Whether the thread was already unwinding when it took the lock.
#[derive(Clone, Copy)]
pub(super) struct Before(bool);

impl Poison {
    pub(super) const fn new() -> Self {
        Poison(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    /// When the lock is taken.
    #[inline]
    pub(super) fn enter(&self) -> Before {
        Before(panicking())
    }

    /// When it is released.
    #[inline]
    pub(super) fn leave(&self, before: Before) {
        if !before.0 && panicking() {
            self.0.store(true, Relaxed);
        }
    }

    /// When it is released, perhaps on another thread.
    pub(super) fn leave_moved(&self) {
        self.leave(Before(false));
    }

    /// `value`, or an error around it.
    #[inline]
    pub(super) fn wrap<T>(&self, value: T) -> LockResult<T> {
        if self.is_set() { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

/// Maps the value of a result, or the value in its error.
pub(super) fn map<T, U>(result: LockResult<T>, f: impl FnOnce(T) -> U) -> LockResult<U> {
    match result {
        Ok(value) => Ok(f(value)),
        Err(error) => Err(PoisonError::new(f(error.into_inner()))),
    }
}
