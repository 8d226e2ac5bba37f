//! `SchedMutex`: a mutex that parks green threads, without poisoning.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::owner::Owner;
use super::raw_mutex::RawMutex;
use crate::wait::host::give_way;

/// A mutual exclusion that parks the green thread, not its worker. Without poisoning: a panic while it is
/// held releases it. [`Mutex`](super::Mutex) is the one with std's interface.
///
/// Its guard may be held over a yield or a sleep, and sent to another thread. So a thread that locks twice
/// may rightly wait for another to unlock; builds with debug assertions report it on stderr if no other
/// thread has used the guard meanwhile.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::sync::Arc;
/// let total = Arc::new(gvt::SchedMutex::new(0));
/// let threads: Vec<_> = (1..=10)
///     .map(|i| {
///         let total = total.clone();
///         gvt::spawn(move |_| *total.lock() += i)
///     })
///     .collect();
/// threads.into_iter().for_each(|thread| thread.join().unwrap());
/// assert_eq!(*total.lock(), 55);
/// # });
/// ```
pub struct SchedMutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    /// The last user of the guard.
    owner: Owner,
    value: UnsafeCell<T>,
}

// SAFETY: only the guard of the one holder reaches the value.
unsafe impl<T: ?Sized + Send> Sync for SchedMutex<T> {}
// SAFETY: the mutex owns its value.
unsafe impl<T: ?Sized + Send> Send for SchedMutex<T> {}

impl<T> SchedMutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        SchedMutex { raw: RawMutex::new(), owner: Owner::nobody(), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SchedMutex<T> {
    /// Waits until the mutex is free and takes it.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SchedMutexGuard<'_, T> {
        give_way();
        if !self.raw.try_lock() {
            self.warn_twice();
            self.raw.lock();
        }
        self.locked()
    }

    /// The guard, after the lock was taken.
    #[inline]
    pub(super) fn locked(&self) -> SchedMutexGuard<'_, T> {
        self.owner.set_me();
        SchedMutexGuard { mutex: self }
    }

    /// Reports it if this thread was the last to use the guard.
    #[inline]
    #[track_caller]
    fn warn_twice(&self) {
        if self.owner.is_me() {
            let place = std::panic::Location::caller();
            eprintln!(
                "gvt: at {place} a thread locks a `SchedMutex` that it has locked already; unless it has moved the guard \
                 to another thread, it waits for itself, for ever"
            );
        }
    }

    /// Takes the mutex if it is free.
    ///
    /// Context: anywhere.
    #[inline]
    pub fn try_lock(&self) -> Option<SchedMutexGuard<'_, T>> {
        give_way();
        self.raw.try_lock().then(|| self.locked())
    }

    /// The value, without locking: the exclusive borrow proves that there is no holder.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Holds a [`SchedMutex`]; dropping it unlocks. May be held over a yield, and moved to another thread.
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub struct SchedMutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a SchedMutex<T>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for SchedMutexGuard<'_, T> {}
// SAFETY: unlocking is not bound to the thread that locked.
unsafe impl<T: ?Sized + Send> Send for SchedMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for SchedMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.mutex.owner.set_me();
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SchedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.mutex.owner.set_me();
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for SchedMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.owner.clear();
        self.mutex.raw.unlock();
    }
}

impl<T: Default> Default for SchedMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SchedMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_struct("SchedMutex").field("value", &&*guard).finish(),
            None => f.debug_struct("SchedMutex").field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SchedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
