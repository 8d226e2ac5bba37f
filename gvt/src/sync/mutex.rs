//! `Mutex`: std's, for green threads.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::owner::Owner;
use super::poison::{Before, Poison};
use super::raw_mutex::RawMutex;
use crate::wait::host::give_way;

/// A mutual exclusion with the interface of [`std::sync::Mutex`] that parks the green thread, not its worker.
///
/// Its guard may be held over a yield, a sleep or any other wait. A panic while it is held poisons it, as
/// does a shutdown that unwinds its holder. In builds with debug assertions, a thread that locks twice panics
/// instead of waiting for itself.
///
/// It is not fair: a running thread may get it before one that was woken for it. But a waiter that has been
/// passed over for a millisecond is handed it.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, Mutex};
/// let total = Arc::new(Mutex::new(0));
/// let threads: Vec<_> = (1..=10)
///     .map(|i| {
///         let total = total.clone();
///         gvt::spawn(move |_| *total.lock().unwrap() += i)
///     })
///     .collect();
/// threads.into_iter().for_each(|thread| thread.join().unwrap());
/// assert_eq!(*total.lock().unwrap(), 55);
/// # });
/// ```
pub struct Mutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    pub(super) poison: Poison,
    owner: Owner,
    pub(super) value: UnsafeCell<T>,
}

// SAFETY: only the guard of the one holder reaches the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: the mutex owns its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// Poisoning announces a panic under the lock.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        Mutex {
            raw: RawMutex::new(),
            poison: Poison::new(),
            owner: Owner::nobody(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// If the mutex is poisoned; the error holds the value.
    pub fn into_inner(self) -> LockResult<T> {
        let Mutex { poison, value, .. } = self;
        poison.wrap(value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free and takes it.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If the mutex is poisoned; the error holds the guard.
    ///
    /// # Panics
    ///
    /// In builds with debug assertions, if this thread already has the mutex.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        give_way();
        if !self.raw.try_lock() {
            self.refuse_twice();
            self.raw.lock();
        }
        self.locked()
    }

    /// Takes the mutex if it is free.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// If it is not, or if it is poisoned; then the error holds the guard.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        give_way();
        if self.raw.try_lock() { self.locked().map_err(From::from) } else { Err(TryLockError::WouldBlock) }
    }

    /// The guard, after the lock was taken.
    #[inline]
    pub(super) fn locked(&self) -> LockResult<MutexGuard<'_, T>> {
        self.owner.set_me();
        self.poison.wrap(MutexGuard { mutex: self, before: self.poison.enter(), stays: PhantomData })
    }

    /// Panics if this thread is the holder.
    #[inline]
    #[track_caller]
    fn refuse_twice(&self) {
        assert!(
            !self.owner.is_me(),
            "this thread has locked the mutex already; locking it once more would wait for ever"
        );
    }

    #[inline]
    pub(super) fn unlock(&self, before: Before) {
        self.poison.leave(before);
        self.owner.clear();
        self.raw.unlock();
    }

    /// Whether a panic has cut short a critical section.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Clears the poison: the value is consistent again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: the exclusive borrow proves that there is no holder.
    ///
    /// # Errors
    ///
    /// If the mutex is poisoned; the error holds the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let Mutex { poison, value, .. } = self;
        poison.wrap(value.get_mut())
    }
}

/// Holds a [`Mutex`]; dropping it unlocks.
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a Mutex<T>,
    pub(super) before: Before,
    /// Not `Send`, like std's: the mark made at locking describes this thread.
    stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock(self.before);
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &"<locked>"),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

const _: () = {
    fn _errors_are_stds<T>(error: PoisonError<MutexGuard<'_, T>>) -> TryLockError<MutexGuard<'_, T>> {
        error.into()
    }
};
