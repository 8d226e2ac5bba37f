//! The end of a runtime, and stack overflows.

pub(crate) mod close;
pub(crate) mod overflow;
