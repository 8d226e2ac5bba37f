//! The monitor's OS thread and its helpers: busy workers, blocked OS threads, spares, deadlocks.

pub(crate) mod lock_holders;
pub(crate) mod look;
pub(crate) mod report;
pub(crate) mod rt_priority;
pub(crate) mod spare_starter;
