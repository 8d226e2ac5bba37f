//! Spawning as std does: the closure takes no token.

use gvt_traits::SchedError;

use crate::cancel::token::CancellationToken;
use crate::thread::join_handle::JoinHandle;
use crate::thread::spawn::{self, refused};

/// Spawns a green thread, as [`std::thread::spawn`] spawns an OS thread: the closure takes no token.
///
/// In all else it is [`gvt::spawn`](crate::spawn()). The thread's token is
/// [`current_token`](crate::thread::current_token), and [`JoinHandle::token`] to others.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::thread;
/// let numbers = vec![1, 2, 3];
/// let thread = thread::spawn(move || numbers.iter().sum::<i32>());
/// assert_eq!(thread.join().unwrap(), 6);
/// # });
/// ```
///
/// Context: a green thread. Does not block; allocates only if the closure is larger than 64 bytes.
///
/// # Panics
///
/// As [`gvt::spawn`](crate::spawn()).
#[inline]
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match try_spawn(f) {
        Ok(handle) => handle,
        Err(error) => refused(error),
    }
}

/// [`spawn`] that returns the error.
///
/// # Errors
///
/// As [`gvt::try_spawn`](crate::try_spawn).
#[inline]
pub fn try_spawn<F, T>(f: F) -> Result<JoinHandle<T>, SchedError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn::try_spawn(move |_: &CancellationToken| f())
}
