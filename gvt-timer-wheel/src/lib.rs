#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! `backend` files entries in one `shard` a worker and one for everybody else. A shard is a short
//! lock over a `wheel`, whose lists link the places of a `slab`. Nothing here is `unsafe`.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod shard;
mod slab;
mod wheel;

pub use backend::{Wheel, WheelBackend};
