//! Time limits.

use std::time::{Duration, Instant};

use gvt_traits::SchedError;

use crate::cancel::token::CancellationToken;
use crate::thread::{self, Builder};
use crate::wait::clock::{TimedOut, has_passed, now};

/// Runs `f` on a green thread of its own and waits for its result, at most for `limit`.
///
/// `f` gets the thread's token, a child of the caller's, which is cancelled when the limit has passed. No
/// thread can be ended from outside, so `f` must check its token where it can stop. Whether it does or not,
/// this returns in time; the thread then runs on, and its result is dropped.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::Duration;
/// assert_eq!(gvt::timeout(Duration::from_secs(30), |_| 6 * 7), Ok(42));
/// let late = gvt::timeout(Duration::from_millis(2), |token| token.cancelled().wait());
/// assert_eq!(late, Err(gvt::TimedOut));
/// # });
/// ```
///
/// Context: a green thread, which parks. At shutdown it is unwound, as by
/// [`JoinHandle::join`](crate::JoinHandle::join).
///
/// # Errors
///
/// If the limit passes before `f` returns.
///
/// # Panics
///
/// With `f`'s payload if that panics; as [`spawn`](crate::spawn()).
#[track_caller]
pub fn timeout<F, T>(limit: Duration, f: F) -> Result<T, TimedOut>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    run(now().checked_add(limit), f)
}

/// [`timeout`] with a deadline.
///
/// # Errors
///
/// If the deadline passes before `f` returns.
///
/// # Panics
///
/// As [`timeout`].
#[track_caller]
pub fn timeout_at<F, T>(deadline: Instant, f: F) -> Result<T, TimedOut>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    run(Some(deadline), f)
}

#[track_caller]
fn run<F, T>(deadline: Option<Instant>, f: F) -> Result<T, TimedOut>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    let Some(token) = crate::current_token() else {
        thread::refused(SchedError::NoRuntime { call: "run something with a timeout" });
    };
    let token = match deadline {
        Some(deadline) => token.with_deadline(deadline),
        None => token.child(),
    };
    /// Cancels the thread also if its waiter is unwound.
    struct Cancel(Option<CancellationToken>);
    impl Drop for Cancel {
        fn drop(&mut self) {
            if let Some(token) = self.0.take() {
                token.cancel();
            }
        }
    }
    // What `f` returns after the deadline is late, also if this thread sees the result first.
    let run = move |token: &CancellationToken| (f(token), deadline.is_some_and(has_passed));
    let handle = match Builder::new().token(&token).spawn(run) {
        Ok(handle) => handle,
        Err(error) => thread::refused(error),
    };
    // The token has the deadline, but an OS thread that reads the token may have another clock.
    let mut cancel = Cancel(Some(token));
    let joined = match deadline {
        Some(deadline) => handle.join_deadline(deadline).map_err(|_| TimedOut)?,
        None => handle.join(),
    };
    cancel.0 = None;
    match joined {
        Ok((_, true)) => Err(TimedOut),
        Ok((value, false)) => Ok(value),
        Err(payload) => std::panic::resume_unwind(payload),
    }
}
