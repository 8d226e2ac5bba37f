//! Records of green threads, and their table.

pub(crate) mod id;
pub(crate) mod inner;
pub(crate) mod record;
pub(crate) mod table;
