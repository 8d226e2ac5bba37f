//! `park` and `unpark` of std, for green threads.
//!
//! **Protocol.** Each thread has a permit, in the cold part of its record, behind a short lock. **U1** `park`
//! takes the permit, or waits in a list of one. **U2** `unpark` wakes the thread that waits there, or leaves
//! the permit. If a woken thread is unwound, its permit is left again.

use std::time::Duration;

use crate::thread::current::Thread;
use crate::wait::clock::{deadline_ns, now};
use crate::wait::host::give_way;
use crate::wait::park::current;

/// Waits until another thread calls [`Thread::unpark`] for this one; returns at once if that has happened
/// since the last `park`. Like [`std::thread::park`], but without spurious wake-ups.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, atomic::{AtomicBool, Ordering::*}};
/// let ready = Arc::new(AtomicBool::new(false));
/// let other = ready.clone();
/// let thread = gvt::spawn(move |_| {
///     while !other.load(Acquire) {
///         gvt::park();
///     }
/// });
/// ready.store(true, Release);
/// thread.thread().unpark();
/// thread.join().unwrap();
/// # });
/// ```
///
/// Outside a runtime: `std::thread::park`.
///
/// Context: a green thread, or an OS thread. At shutdown a wait without a limit is unwound. A thread's first
/// call allocates.
pub fn park() {
    give_way();
    match current() {
        Some(record) => record.extras().parking.take(None),
        None => std::thread::park(),
    }
}

/// [`park`] with a limit.
///
/// Context: as [`park`].
pub fn park_timeout(timeout: Duration) {
    give_way();
    match current() {
        Some(record) => record.extras().parking.take(now().checked_add(timeout).map(deadline_ns)),
        None => std::thread::park_timeout(timeout),
    }
}

impl Thread {
    /// Lets the thread return from [`park`], now or at its next call.
    ///
    /// Context: anywhere but in a signal handler. The first call for a thread allocates.
    pub fn unpark(&self) {
        self.record().extras().parking.give();
    }
}
