//! Sleeping, intervals, time-outs.

pub(crate) mod interval;
pub(crate) mod ringer;
pub(crate) mod sleep;
pub(crate) mod timeout;
