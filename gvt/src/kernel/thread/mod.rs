//! Records of green threads.

pub(crate) mod id;
pub(crate) mod inner;
pub(crate) mod preempt_count;
pub(crate) mod record;
pub(crate) mod table;
