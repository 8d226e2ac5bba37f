//! WakeList a future at a time of a clock that is not the process's.
//!
//! In a runtime whose timer backend keeps a clock of its own (virtual time) only that runtime's timers know when a deadline has
//! come, and they wake green threads. So each such deadline gets a green thread, which waits for it in an empty channel and calls
//! the waker. It ends with the deadline, or when the [`Ringer`] is dropped.
//!
//! **Rejected.** Timers that wake wakers: these are somebody else's code, and timers are fired inside the runtime.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::channel::{RecvTimeoutError, Sender, bounded};
use crate::kernel::state::upper::Ring;
use crate::protocol::user::Waker;
use crate::thread::spawn::try_spawn;
use crate::wait::lock::Lock;

/// A green thread that waits for a deadline; dropping this ends it.
struct Ringer {
    /// Empty once it has rung.
    waker: Arc<Lock<Option<Waker>>>,
    _stop: Sender<Infallible>,
}

/// WakeList `waker` at `when` of the running thread's clock, whichever that is; `None`: a thread was refused.
pub(crate) fn ring(when: Instant, waker: &std::task::Waker) -> Option<Box<dyn Ring>> {
    let waker = Arc::new(Lock::new(Some(Waker::from_ref(waker))));
    let (stop, stopped) = bounded::<Infallible>(0);
    let rings = waker.clone();
    let wait = move |_: &_| {
        if stopped.recv_deadline(when) == Err(RecvTimeoutError::Timeout) {
            let waker = rings.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    };
    drop(try_spawn(wait).ok()?);
    Some(Box::new(Ringer { waker, _stop: stop }))
}

impl Ring for Ringer {
    fn renew(&self, waker: &std::task::Waker) -> bool {
        let waker = Waker::from_ref(waker);
        let mut place = self.waker.lock();
        let old = match &mut *place {
            Some(old) => std::mem::replace(old, waker),
            None => return false,
        };
        drop(place);
        // Somebody else's code.
        drop(old);
        true
    }
}

impl fmt::Debug for Ringer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ringer").finish_non_exhaustive()
    }
}
