//! Deliberately wrong backends: proof that each law can fail.

pub mod slot_allocator;
