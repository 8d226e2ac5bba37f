//! Waking a future at a time of a clock that is not the process's.
//!
//! In a runtime whose timer backend has a clock of its own (virtual time), only that runtime's timers know
//! when a deadline has passed, and they wake green threads. So each such deadline has a green thread, which
//! waits for it in an empty channel and calls the waker. It ends with the deadline, or when the [`Ringer`] is
//! dropped.
//!
//! **Rejected.** Timers that call wakers: wakers are user code, and timers fire inside the runtime.

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
    /// `None` once the waker was called.
    waker: Arc<Lock<Option<Waker>>>,
    _stop: Sender<Infallible>,
}

/// Calls `waker` at `when` of the running thread's clock; `None`: no thread could be spawned.
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
        // User code.
        drop(old);
        true
    }
}

impl fmt::Debug for Ringer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ringer").finish_non_exhaustive()
    }
}
