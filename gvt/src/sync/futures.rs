//! Locking and acquiring as futures, for any executor.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, LockResult};
use std::task::{Context, Poll, ready};

use super::mutex::Mutex;
use super::poison::map;
use super::raw_mutex::{self, RawMutex};
use super::semaphore::{self, RawSemaphore, Semaphore, SemaphorePermit};
use super::{SchedMutex, SchedMutexGuard};
use crate::protocol::user;
use crate::wait::list::{Seat, WaitOutcome};

/// Waits for a raw mutex.
struct RawLock<'a> {
    mutex: &'a RawMutex,
    seat: Seat<raw_mutex::Standing>,
    patience: raw_mutex::Patience,
}

impl<'a> RawLock<'a> {
    fn new(mutex: &'a RawMutex) -> Self {
        RawLock { mutex, seat: Seat::new(), patience: raw_mutex::Patience::new() }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.seat.is_taken() {
            let (outcome, _) = ready!(self.seat.poll(self.mutex.waiters(), context));
            if outcome == WaitOutcome::Served {
                return Poll::Ready(());
            }
        } else if self.mutex.try_lock() {
            return Poll::Ready(());
        }
        let waker = user::Waker::of(context);
        let guard = self.mutex.waiters().lock();
        if self.mutex.take_or_mark(&guard) {
            return Poll::Ready(());
        }
        let (number, standing) = self.patience.next();
        // SAFETY: C1: the futures that contain this are pinned, and it leaves when it is dropped.
        unsafe { self.seat.take(guard, &raw_mutex::POLICY, number, Some(standing), waker) };
        Poll::Pending
    }
}

impl Drop for RawLock<'_> {
    fn drop(&mut self) {
        self.seat.leave(self.mutex, self.mutex.waiters(), &raw_mutex::POLICY);
    }
}

macro_rules! debug {
    ($($name:ident<$($parameter:ident)?>)+) => {
        $(
            impl<$($parameter: ?Sized)?> fmt::Debug for $name<'_, $($parameter)?> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(concat!(stringify!($name), " { .. }"))
                }
            }
        )+
    };
}

debug! { LockFuture<T> SchedLockFuture<T> AcquireFuture<> }

/// Waits for a [`Mutex`]; see [`Mutex::lock_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct LockFuture<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    raw: RawLock<'a>,
}

impl<T: ?Sized> Mutex<T> {
    /// [`lock`](Self::lock) as a future. Its guard may be held over an `await`, and sent to another thread.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let mutex = gvt::sync::Mutex::new(1);
    /// gvt::future::block_on(async {
    ///     *mutex.lock_async().await.unwrap() += 1;
    /// });
    /// assert_eq!(*mutex.lock().unwrap(), 2);
    /// # });
    /// ```
    ///
    /// Context: any executor, on any thread.
    pub fn lock_async(&self) -> LockFuture<'_, T> {
        LockFuture { mutex: self, raw: RawLock::new(&self.raw) }
    }
}

impl<'a, T: ?Sized> Future for LockFuture<'a, T> {
    type Output = LockResult<SendMutexGuard<'a, T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        ready!(this.raw.poll(context));
        Poll::Ready(map(this.mutex.poison.wrap(()), |()| SendMutexGuard { mutex: this.mutex }))
    }
}

/// Holds a [`Mutex`] that was locked by a future; dropping it unlocks. May be sent to another thread.
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub struct SendMutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for SendMutexGuard<'_, T> {}
// SAFETY: unlocking is not bound to the thread that locked.
unsafe impl<T: ?Sized + Send> Send for SendMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for SendMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SendMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for SendMutexGuard<'_, T> {
    fn drop(&mut self) {
        // An unwinding holder was cut short, also if it was unwinding before: that may have been on another
        // thread.
        self.mutex.poison.leave_moved();
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SendMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Waits for a [`SchedMutex`]; see [`SchedMutex::lock_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct SchedLockFuture<'a, T: ?Sized> {
    mutex: &'a SchedMutex<T>,
    raw: RawLock<'a>,
}

impl<T: ?Sized> SchedMutex<T> {
    /// [`lock`](Self::lock) as a future. Its guard may be held over an `await`.
    ///
    /// Context: any executor, on any thread.
    pub fn lock_async(&self) -> SchedLockFuture<'_, T> {
        SchedLockFuture { mutex: self, raw: RawLock::new(&self.raw) }
    }
}

impl<'a, T: ?Sized> Future for SchedLockFuture<'a, T> {
    type Output = SchedMutexGuard<'a, T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        ready!(this.raw.poll(context));
        Poll::Ready(this.mutex.locked())
    }
}

/// Waits for permits; see [`Semaphore::acquire_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct AcquireFuture<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
    seat: Seat<usize>,
}

impl Semaphore {
    /// [`acquire_many`](Self::acquire_many) as a future.
    ///
    /// Context: any executor, on any thread.
    ///
    /// # Panics
    ///
    /// If `permits` are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn acquire_async(&self, permits: usize) -> AcquireFuture<'_> {
        semaphore::check(permits);
        AcquireFuture { semaphore: self, permits, seat: Seat::new() }
    }

    fn raw(&self) -> &RawSemaphore {
        &self.raw
    }
}

impl<'a> Future for AcquireFuture<'a> {
    type Output = SemaphorePermit<'a>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        let raw = this.semaphore.raw();
        let permit = || SemaphorePermit { semaphore: this.semaphore, permits: this.permits };
        if this.seat.is_taken() {
            return this.seat.poll(&raw.waiters, context).map(|_| permit());
        }
        if raw.try_acquire(this.permits) {
            return Poll::Ready(permit());
        }
        let waker = user::Waker::of(context);
        let mut list = raw.waiters.lock();
        if raw.take_or_mark(&mut list, this.permits) {
            return Poll::Ready(permit());
        }
        // SAFETY: C1: the future is pinned, and leaves when it is dropped.
        unsafe { this.seat.take(list, &semaphore::POLICY, 0, Some(this.permits), waker) };
        Poll::Pending
    }
}

impl Drop for AcquireFuture<'_> {
    fn drop(&mut self) {
        let raw = self.semaphore.raw();
        self.seat.leave(raw, &raw.waiters, &semaphore::POLICY);
    }
}

const _: () = {
    fn _send<T: Send>() {}
    fn _all() {
        _send::<LockFuture<'_, u8>>();
        _send::<SendMutexGuard<'_, u8>>();
        _send::<AcquireFuture<'_>>();
        _send::<Arc<Mutex<u8>>>();
    }
};
