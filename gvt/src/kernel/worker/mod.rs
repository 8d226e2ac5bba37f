//! The parts of a runtime, a worker and an OS thread, and what is done to one of them alone.

pub(crate) mod binding;
pub(crate) mod contract;
pub(crate) mod core;
pub(crate) mod counters;
pub(crate) mod ending;
pub(crate) mod handoff;
pub(crate) mod home;
pub(crate) mod joiner;
pub(crate) mod lag;
pub(crate) mod lineage;
pub(crate) mod no_unwind;
pub(crate) mod os_thread;
pub(crate) mod pool;
pub(crate) mod quiet;
pub(crate) mod references;
pub(crate) mod scale;
pub(crate) mod section;
pub(crate) mod timer_moderation;
pub(crate) mod tls;
pub(crate) mod wake_affine;
