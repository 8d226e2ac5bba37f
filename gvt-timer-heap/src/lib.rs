#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! `backend` files entries in one `shard` a worker and one for everybody else. A shard is a short
//! lock over a `heap` of deadlines and a `slab` that finds an entry by its handle, over a `run` of sleeps
//! whose deadlines came in order, and, once there are thousands, over buckets of those that are `far` off.
//! Nothing here is `unsafe`.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod far;
mod heap;
mod run;
mod shard;
mod slab;

pub use backend::{HeapBackend, HeapTimer};
