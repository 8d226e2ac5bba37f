//! The lock inside every primitive: held for a few instructions, never across a switch.
//!
//! Three states on a futex word (Drepper, "Futexes are tricky"): free, held, held with sleepers. The holder
//! is in a section of the runtime, so a green thread is never preempted with the lock; if an OS thread is
//! descheduled with it, others sleep instead of spinning.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::os::{futex_wait_until, futex_wake};
use crate::wait::host::{Here, Inside};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// Spins between looks at a held lock before sleeping, 30 µs in all. Critical sections take some ten
/// nanoseconds, but each look takes the cache line from the holder's core, which with that line alone would
/// do a batch of operations. So the pauses grow fast: the distance of the two cores decides what a look
/// costs. 4 senders and 4 receivers on 2 workers, ns a message, where a round trip of a line takes 60 ns (two
/// threads of one core) and 340 ns (two cores; the host moves virtual CPUs between the two):
///
/// | pauses | near | far |
/// |---|---|---|
/// | 16, 32, 64, 128 | 19.5 | 38 |
/// | 64, 512 | 16.5 | 29 |
/// | 1024 | 16.5 | 25 |
/// | 128, 256, 512, 1024 | 16.5 | 23 |
/// | 16, 64, 256, 1024 | 16.5 | 23 |
///
/// On one worker: 15.
const PAUSES: [u32; 4] = [16, 64, 256, 1024];

/// The word comes first: a primitive's hottest field should begin its value.
#[repr(C)]
pub(crate) struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: only the guard of the one holder reaches the value.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: the lock owns its value.
unsafe impl<T: Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.lock_in(Inside::enter())
    }

    /// [`lock`](Self::lock) by the scheduler itself, which is inside the runtime already; never by code that
    /// a part may call.
    #[cfg(not(loom))]
    pub(crate) fn lock_within(&self) -> LockGuard<'_, T> {
        self.lock_in(Inside::deeper())
    }

    #[inline]
    fn lock_in(&self, inside: Inside) -> LockGuard<'_, T> {
        // ORDERING O1: Acquire pairs with the Release in `unlock`: the last holder's writes are seen.
        if self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
        LockGuard { lock: self, inside }
    }

    #[cold]
    fn lock_slow(&self) {
        for pause in PAUSES {
            (0..pause).for_each(|_| spin_loop());
            if self.word.load(Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
            {
                return;
            }
        }
        // ORDERING O1: as in `lock`.
        while self.word.swap(CONTENDED, Acquire) != FREE {
            futex_wait_until(&self.word, CONTENDED, None);
        }
    }
}

pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    inside: Inside,
}

impl<'a, T> LockGuard<'a, T> {
    /// The caller's worker.
    #[inline]
    pub(crate) fn here(&self) -> Here {
        self.inside.here()
    }

    /// The lock that is held.
    #[inline]
    pub(crate) fn lock(&self) -> &'a Lock<T> {
        self.lock
    }

    #[inline]
    fn unlock(&mut self) {
        // ORDERING O1: Release pairs with the Acquire in `lock`.
        if self.lock.word.swap(FREE, Release) == CONTENDED {
            futex_wake(&self.lock.word, 1);
        }
    }

    /// Unlocks, and stays in the section.
    #[inline]
    pub(crate) fn unlock_inside(self) -> Inside {
        let mut this = ManuallyDrop::new(self);
        this.unlock();
        // SAFETY: `this` is not used or dropped afterwards.
        unsafe { ptr::read(&this.inside) }
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Unlocks first; the section ends after that.
        self.unlock();
    }
}
