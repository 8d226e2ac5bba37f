#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! `backend` forwards to the backend that it wraps and tells `watch` about inserts, expiries and
//! waits. `watch` decides when the `alarm`, a timerfd, is set. `sync` is what loom replaces.
#![warn(missing_docs)]

mod alarm;
mod backend;
mod sync;
mod watch;

pub use backend::{TimerFd, TimerFdBackend};
