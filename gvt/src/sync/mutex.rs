//! `SchedMutex`: a mutex that parks green threads.
//!
//! **Protocol.** One word: free, held, held and perhaps waited for. Locking is one compare-exchange, unlocking
//! one swap. **U1** A waiter, under the list's lock, swaps CONTENDED in; if that replaced FREE it has the mutex,
//! else it links itself and parks. **U2** Unlocking swaps FREE in; if that replaced CONTENDED it takes the first waiter and
//! wakes it. **U3** A woken waiter starts over with U1, so that the word says CONTENDED while others may wait.
//! The unlocker takes the list's lock after its swap, and U1's swap happens under it: either the swap of
//! U1 comes first and U2 sees CONTENDED and finds the node, or U1 finds FREE.
//!
//! Whoever comes first gets the mutex, a running thread before a woken one: handing it over would cost a
//! switch a lock. **Not covered.** Fairness beyond that: a waiter may lose against newcomers.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering::*};

use gvt_traits::WaitReason;

use super::list::{List, Manner, Verdict, wait};
use super::lock::Lock;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A mutual exclusion that parks the green thread, not its worker.
///
/// Its guard may be held over a yield or a sleep. There is no poisoning: a panic while it is held releases
/// it.
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
    word: AtomicU32,
    waiters: Lock<List<()>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through the guard of the one holder.
unsafe impl<T: ?Sized + Send> Sync for SchedMutex<T> {}
// SAFETY: the mutex owns its value.
unsafe impl<T: ?Sized + Send> Send for SchedMutex<T> {}

impl<T> SchedMutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        SchedMutex {
            word: AtomicU32::new(FREE),
            waiters: Lock::new(List::new()),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SchedMutex<T> {
    /// Waits until the mutex is free and takes it.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Unwinds at shutdown if it
    /// would wait for ever.
    #[inline]
    pub fn lock(&self) -> SchedMutexGuard<'_, T> {
        // ORDERING O1: Acquire pairs with the Release in the guard's `drop`.
        if self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
        SchedMutexGuard { mutex: self }
    }

    /// Takes the mutex if it is free.
    ///
    /// Context: anywhere.
    #[inline]
    pub fn try_lock(&self) -> Option<SchedMutexGuard<'_, T>> {
        // ORDERING O1: as in `lock`.
        self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).ok().map(|_| SchedMutexGuard { mutex: self })
    }

    /// The value, without locking: the borrow proves that nobody else has the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[cold]
    fn lock_slow(&self) {
        loop {
            let guard = self.waiters.lock();
            // U1. ORDERING O1: as in `lock`.
            if self.word.swap(CONTENDED, Acquire) == FREE {
                return;
            }
            wait(guard, &MANNER, 0, &mut None, None);
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        let mut guard = self.waiters.lock();
        if let Some(waiter) = guard.take() {
            let wake = waiter.end(Verdict::Again, guard.here());
            guard.wake(wake);
        }
    }
}

const MANNER: Manner<List<()>, ()> = Manner {
    list: |list, _| list,
    reason: WaitReason::Mutex,
    // Woken and then unwound: the wake-up is passed on.
    abandon: |list, _, _, here| list.take().map(|waiter| waiter.end(Verdict::Again, here)),
};

/// Holds a [`SchedMutex`]; dropping it unlocks. May be held over a yield, and moved to another thread.
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub struct SchedMutexGuard<'a, T: ?Sized> {
    mutex: &'a SchedMutex<T>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for SchedMutexGuard<'_, T> {}
// SAFETY: unlocking is not bound to the thread that locked.
unsafe impl<T: ?Sized + Send> Send for SchedMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for SchedMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SchedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for SchedMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // U2. ORDERING O1: Release pairs with the Acquire in `lock`.
        if self.mutex.word.swap(FREE, Release) == CONTENDED {
            self.mutex.unlock_slow();
        }
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
