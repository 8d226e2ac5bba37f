//! Locks and other primitives that park green threads, not their workers.
//!
//! [`Mutex`], [`RwLock`], [`Condvar`], [`Barrier`], [`Once`], [`OnceLock`], [`LazyLock`] and [`mpsc`] have
//! the interface of their namesakes in [`std::sync`]: code moves here by a change of its `use` lines, so
//! [`Arc`], [`Weak`], [`atomic`] and std's lock errors are here too. [`Semaphore`] and [`WaitGroup`] are like
//! those of well-known crates. [`SchedMutex`] is a mutex without poisoning.
//!
//! Every operation works from a green thread, which parks, and from a plain OS thread, which parks too.
//! Guards may be held over any wait; while a thread waits for a lock, its worker runs others.
//!
//! std's own primitives work on green threads as well, but each wait blocks a worker until the monitor has
//! moved it to another OS thread.

// | file | mechanism |
// |---|---|
// | `raw_mutex`, `raw_condvar`, `poison`, `owner` | the parts of the primitives with std's interface |

#[cfg(all(test, loom))]
mod models;
mod raw_condvar;
mod raw_mutex;
pub(crate) mod semaphore;
mod wait_group;

#[cfg(not(loom))]
mod barrier;
#[cfg(not(loom))]
mod condvar;
#[cfg(not(loom))]
mod futures;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod once;
#[cfg(not(loom))]
mod owner;
#[cfg(not(loom))]
mod poison;
#[cfg(not(loom))]
mod rwlock;
#[cfg(not(loom))]
mod sched_mutex;

#[cfg(not(loom))]
mod api {
    pub use super::barrier::{Barrier, BarrierWaitResult};
    pub use super::condvar::{Condvar, WaitTimeoutResult};
    pub use super::futures::{AcquireFuture, LockFuture, SchedLockFuture, SendMutexGuard};
    pub use super::mutex::{Mutex, MutexGuard};
    pub use super::once::{LazyLock, Once, OnceLock, OnceState};
    pub use super::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub use super::sched_mutex::{SchedMutex, SchedMutexGuard};
    pub use super::semaphore::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
    pub use super::wait_group::WaitGroup;
    #[doc(inline)]
    pub use crate::channel::mpsc;

    #[doc(no_inline)]
    pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};
}

#[cfg(not(loom))]
pub use api::*;
