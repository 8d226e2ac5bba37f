//! Primitives that park green threads, and what they are made of.

mod list;
mod lock;
mod mutex;

pub use mutex::{SchedMutex, SchedMutexGuard};

pub(crate) use list::{List, Outcome, wait};
pub(crate) use lock::{Lock, LockGuard};
