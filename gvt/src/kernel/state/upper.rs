//! What the kernel calls on the floors above, as traits.

use std::fmt::Debug;
use std::task::Waker;
use std::time::Instant;

use crate::protocol::idle::IdleSet;

/// A runtime's link to the floors above.
pub(crate) trait Upper: Send + Sync {
    /// Makes a green thread wake the waker at a time of the running thread's clock; `None`: no thread could
    /// be spawned.
    fn ring(&self, when: Instant, waker: &Waker) -> Option<Box<dyn Ring>>;

    /// The running thread waits until all others are parked.
    fn settle(&self);

    /// Whether a thread settles.
    fn has_settlers(&self) -> bool;

    /// Z2 and Z3 of `settlers`.
    fn serve_settlers(&self, idle: &IdleSet, workers: usize, are_all_parked: &dyn Fn() -> bool) -> bool;

    /// Z4 of `settlers`.
    fn parked_without_worker(&self, idle: &IdleSet) -> Option<usize>;
}

/// A wait for a deadline that then wakes a waker; dropping it ends it.
pub(crate) trait Ring: Debug + Send + Sync {
    /// Wakes `waker` instead from now on; `false`: it has fired already.
    fn renew(&self, waker: &Waker) -> bool;
}
