//! Primitives that park green threads, and what they are made of.
//!
//! | file | mechanism |
//! |---|---|
//! | `lock` | the short lock inside every primitive |
//! | `list` | who waits, and how a waiter is taken |
//! | `host` | green threads and OS threads as waiters |
//! | `shim` | atomics, or loom's |

#[cfg(not(loom))]
mod host;
pub(crate) mod list;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod mutex;
pub(crate) mod shim;

#[cfg(loom)]
#[path = "model/host.rs"]
mod host;
#[cfg(loom)]
#[path = "model/lock.rs"]
mod lock;

#[cfg(not(loom))]
pub use mutex::{SchedMutex, SchedMutexGuard};

pub(crate) use host::{Here, OsFlag, deadline_ns, has_passed};
pub(crate) use list::{List, Manner, Verdict, Wake, wait};
pub(crate) use lock::{Lock, LockGuard};
