//! Calls of users' code: wakers, destructors, hooks, panic payloads.
//!
//! **Hazard.** Users' code may panic, wait, take this crate's locks, spawn, or never return. Inside a section
//! of the runtime a wait leaves the section open on one OS thread and closes it on another. On a record that
//! was given away a wait changes another thread's registers. Below an `extern "C"` function, or in a thread
//! that others rely on, a panic ends too much. And the payload of a panic has a destructor that may panic
//! again.
//!
//! **Protocol.** All such calls go through this file.
//! - **U1** The caller is in no section (asserted in debug builds). It holds no lock that a waiting thread
//!   may not hold.
//! - **U2** A green thread that calls is still whole: its record is its own until the call has returned
//!   (`first_frame`).
//! - **U3** No panic leaves [`call`], [`discard`], or a [`Waker`]: the panic hook has reported it, and no
//!   caller could handle it. Other waiters, other deadlines and the caller's own work are not affected.
//! - **U4** A payload is dropped the same way ([`dispose`]): if its destructor panics, the new payload is
//!   next. After [`PAYLOADS`] of them the last is leaked.
//!
//! Closures that users pass to be called at once, on their own thread (`LocalKey::with`, `Once::call_once`,
//! …), and `Clone` of messages need none of this: they affect only their caller.
//!
//! **Rejected.** Passing a waker's panic on to the waking thread: the sender of a message would fail because
//! of a receiver's executor, and the waiters behind it would not be woken.
//!
//! **Evidence.** `tests/tests/user_code.rs`; `cargo xtask tidy` (`user_code`) refuses such calls elsewhere.

use std::any::Any;
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// U4.
const PAYLOADS: usize = 8;

/// U1.
#[inline]
#[track_caller]
fn assert_outside() {
    #[cfg(not(loom))]
    debug_assert!(
        !crate::protocol::preempt_count::is_inside(),
        "users' code is called inside a section of the runtime"
    );
}

/// Calls `f`; the caller owns the payload of its panic, to pass on or to [`dispose`] of.
#[inline]
#[track_caller]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    assert_outside();
    catch_unwind(AssertUnwindSafe(f))
}

/// Calls `f`; `None` if it panicked (U3).
#[track_caller]
pub(crate) fn call<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch(f).map_err(dispose).ok()
}

/// Drops a value (U3).
#[track_caller]
pub(crate) fn discard<T>(value: T) {
    if mem::needs_drop::<T>() {
        call(|| drop(value));
    }
}

/// Drops a payload (U4).
pub(crate) fn dispose(payload: Payload) {
    let mut payload = payload;
    for _ in 0..PAYLOADS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    mem::forget(payload);
}

/// A future's waker, kept to be called once.
pub(crate) struct Waker(ManuallyDrop<std::task::Waker>);

impl Waker {
    /// A clone of the waker that polls a future. If `clone` panics, so does the poll.
    #[track_caller]
    pub(crate) fn of(context: &std::task::Context<'_>) -> Self {
        Self::from_ref(context.waker())
    }

    /// A clone.
    #[track_caller]
    pub(crate) fn from_ref(waker: &std::task::Waker) -> Self {
        assert_outside();
        Waker(ManuallyDrop::new(waker.clone()))
    }

    /// Wakes (U3).
    #[track_caller]
    pub(crate) fn wake(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped afterwards.
        let waker = unsafe { ManuallyDrop::take(&mut this.0) };
        call(|| waker.wake());
    }
}

impl From<std::task::Waker> for Waker {
    fn from(waker: std::task::Waker) -> Self {
        Waker(ManuallyDrop::new(waker))
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // SAFETY: this value is being dropped.
        let waker = unsafe { ManuallyDrop::take(&mut self.0) };
        discard(waker);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Waker { .. }")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering::*};

    use super::*;

    /// A payload whose destructor panics with the next one, so many times.
    struct Nested(usize, &'static AtomicUsize);

    impl Drop for Nested {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            if self.0 > 0 {
                resume_unwind(Box::new(Nested(self.0 - 1, self.1)));
            }
        }
    }

    #[test]
    fn payloads_that_panic_end_somewhere() {
        static SHORT: AtomicUsize = AtomicUsize::new(0);
        static LONG: AtomicUsize = AtomicUsize::new(0);
        dispose(Box::new(Nested(3, &SHORT)));
        assert_eq!(SHORT.load(SeqCst), 4, "all of a short chain are dropped");
        dispose(Box::new(Nested(usize::MAX, &LONG)));
        assert_eq!(LONG.load(SeqCst), PAYLOADS, "an endless one is cut");
        assert_eq!(call(|| resume_unwind(Box::new(Nested(1, &SHORT)))), None::<()>);
    }
}
