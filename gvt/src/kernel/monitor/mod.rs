//! Looking after a runtime: an OS thread of its own, and what asks about all threads.

pub(crate) mod lock_holders;
pub(crate) mod look;
pub(crate) mod report;
pub(crate) mod rt_priority;
pub(crate) mod spare_starter;
