#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod cooperative;
mod no_preempt;
mod registry;
mod sync;

#[cfg(not(all(loom, test)))]
mod elsewhere;
#[cfg(not(all(loom, test)))]
mod handler;
#[cfg(not(all(loom, test)))]
mod sigurg;

pub use cooperative::Cooperative;
pub use no_preempt::NoPreempt;
#[cfg(not(all(loom, test)))]
pub use sigurg::{Sigurg, SigurgPreemptor};
