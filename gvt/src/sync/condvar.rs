//! `Condvar`: std's, for green threads. `raw_condvar` has the protocol.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use super::mutex::{Mutex, MutexGuard};
use super::raw_condvar::{Notified, RawCondvar};
use crate::wait::clock::{has_passed, now};
use crate::wait::host::give_way;

/// Waits for a condition that another thread makes true, with the interface of [`std::sync::Condvar`]; parks
/// the green thread, not its worker.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, Condvar, Mutex};
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let other = pair.clone();
/// gvt::spawn(move |_| {
///     *other.0.lock().unwrap() = true;
///     other.1.notify_one();
/// });
/// let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # });
/// ```
///
/// Unlike std's it has no spurious wake-ups; code that relies on that is bound to this one.
pub struct Condvar {
    raw: RawCondvar,
}

// Like std's: its state is never broken.
impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

/// Whether a wait with a time limit returned because of the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether time ran out.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable without waiters.
    pub const fn new() -> Self {
        Condvar { raw: RawCondvar::new() }
    }

    /// Unlocks the guard's mutex, waits to be notified, and locks it again.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds it, without
    /// the mutex.
    ///
    /// # Errors
    ///
    /// If the mutex is poisoned; the error holds the guard.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// Waits as long as `condition` holds.
    ///
    /// Context: as [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: ?Sized, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// [`wait`](Self::wait) with a time limit.
    ///
    /// Context: as [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, notified) = self.wait_until(guard, now().checked_add(timeout));
        super::poison::map(guard, |guard| (guard, WaitTimeoutResult(!notified)))
    }

    /// [`wait_while`](Self::wait_while) with a time limit. It has timed out if the condition still holds.
    ///
    /// Context: as [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout_while<'a, T: ?Sized, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let deadline = now().checked_add(timeout);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if deadline.is_some_and(has_passed) {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = match self.wait_until(guard, deadline).0 {
                Ok(guard) => guard,
                Err(error) => {
                    return Err(PoisonError::new((error.into_inner(), WaitTimeoutResult(false))));
                }
            };
        }
    }

    /// The guard, and whether it was notified.
    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        give_way();
        let mutex: &'a Mutex<T> = guard.mutex;
        let mut guard = Some(guard);
        let notified = self.raw.wait(|| drop(guard.take()), deadline);
        // C4 of `raw_condvar` lasts until the mutex is locked again.
        let kept = (notified == Notified::Alone).then_some(PassOn(&self.raw));
        let locked = mutex.lock();
        std::mem::forget(kept);
        (locked, notified != Notified::Not)
    }

    /// Wakes the thread that has waited longest.
    ///
    /// Context: anywhere but in a signal handler.
    pub fn notify_one(&self) {
        give_way();
        self.raw.notify_one();
    }

    /// Wakes all waiting threads.
    ///
    /// Context: anywhere but in a signal handler.
    pub fn notify_all(&self) {
        give_way();
        self.raw.notify_all();
    }
}

/// Passes a notification to the next waiter if the notified thread is unwound.
struct PassOn<'a>(&'a RawCondvar);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
