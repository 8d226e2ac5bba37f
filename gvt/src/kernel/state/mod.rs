//! State of a runtime's OS threads beside the workers: what is done with it lies higher up.

pub(crate) mod deadlock;
pub(crate) mod lifecycle;
pub(crate) mod monitor;
pub(crate) mod starter;
pub(crate) mod upper;
