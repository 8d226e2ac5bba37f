//! What the floors above bring to a runtime.

use std::fmt::Debug;
use std::task::Waker;
use std::time::Instant;

use crate::protocol::idle::IdleSet;

/// What a runtime has of the floors above.
pub(crate) trait Upper: Send + Sync {
    /// Has a green thread of its own wake the waker, at a time of the running thread's clock; `None`: a thread was refused.
    fn ring(&self, when: Instant, waker: &Waker) -> Option<Box<dyn Ring>>;

    /// The running thread waits until all others are parked.
    fn settle(&self);

    /// Whether somebody does.
    fn has_settlers(&self) -> bool;

    /// Z2 and Z3 of `settlers`.
    fn serve_settlers(&self, idle: &IdleSet, workers: usize, are_all_parked: &dyn Fn() -> bool) -> bool;

    /// Z4 of `settlers`.
    fn parked_without_worker(&self, idle: &IdleSet) -> Option<usize>;
}

/// Somebody who waits for a deadline and then wakes a waker; dropping it ends that.
pub(crate) trait Ring: Debug + Send + Sync {
    /// From now on wakes `waker` instead; `false`: it has rung already.
    fn renew(&self, waker: &Waker) -> bool;
}
