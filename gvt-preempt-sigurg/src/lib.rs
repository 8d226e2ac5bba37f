#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod cooperative;
mod no_preempt;
mod registry;
mod sync;

#[cfg(not(loom))]
mod handler;
#[cfg(not(loom))]
mod sigurg;

pub use cooperative::Cooperative;
pub use no_preempt::NoPreempt;
#[cfg(not(loom))]
pub use sigurg::{Sigurg, SigurgPreemptor};
