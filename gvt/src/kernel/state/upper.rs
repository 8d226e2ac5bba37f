//! What the floors above bring: functions that a runtime carries for them.

use std::fmt::Debug;
use std::task::Waker;
use std::time::Instant;

pub(crate) struct Upper {
    /// Has a green thread of its own wake the waker, at a time of the running thread's clock; `None`: a thread was refused.
    pub(crate) ring: fn(Instant, &Waker) -> Option<Box<dyn Ring>>,
}

/// Somebody who waits for a deadline and then wakes a waker; dropping it ends that.
pub(crate) trait Ring: Debug + Send + Sync {
    /// From now on wakes `waker` instead; `false`: it has rung already.
    fn renew(&self, waker: &Waker) -> bool;
}
