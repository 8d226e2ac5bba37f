//! Beginning and end of a runtime.

pub(crate) mod close;
pub(crate) mod overflow;
