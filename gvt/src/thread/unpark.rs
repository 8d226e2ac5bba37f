//! `park` and `unpark`: std's, for green threads.
//!
//! **Protocol.** Each thread has a token, in the cold part of its record, behind a short lock. **U1** Parking takes the token, or waits in a
//! list of one. **U2** Unparking wakes who waits there, or leaves the token. A token that woke a thread which is then unwound is left again.

use std::time::Duration;

use crate::thread::current::Thread;
use crate::wait::clock::{deadline_ns, now};
use crate::wait::host::give_way;
use crate::wait::park::current;

/// Waits until another thread calls [`Thread::unpark`] for this one, or returns at once if that has happened since the last time: as
/// [`std::thread::park`], but it never returns for no reason.
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
/// Context: a green thread, or an OS thread. At shutdown a wait for ever is unwound. A thread's first call allocates.
pub fn park() {
    give_way();
    match current() {
        Some(record) => record.extras().parking.take(None),
        None => std::thread::park(),
    }
}

/// [`park`] for `timeout` at the longest.
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
    /// Lets the thread return from [`park`], now or when it next calls that.
    ///
    /// Context: anywhere but in a signal handler. The first call for a thread allocates.
    pub fn unpark(&self) {
        self.record().extras().parking.give();
    }
}
