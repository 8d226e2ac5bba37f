#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! `backend` forwards to the backend that it wraps and tells `watch` about inserts, expiries and
//! waits. `watch` decides when the `alarm`, a timerfd, is set. `sync` is what loom replaces. `sorted` is what
//! is wrapped if no other backend is named.
#![warn(missing_docs)]

mod alarm;
mod backend;
mod sorted;
mod sync;
mod watch;

pub use backend::{TimerFd, TimerFdBackend};
pub use sorted::{Sorted, SortedBackend};
