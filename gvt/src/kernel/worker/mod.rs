//! What a runtime, a worker and an OS thread consist of.

pub(crate) mod contract;
pub(crate) mod core;
pub(crate) mod counters;
pub(crate) mod inner;
pub(crate) mod lag;
pub(crate) mod os_thread;
pub(crate) mod pool;
pub(crate) mod scale;
pub(crate) mod section;
pub(crate) mod timer_moderation;
pub(crate) mod wake_affine;
