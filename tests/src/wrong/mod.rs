//! Backends that break one clause each, on purpose: proof that the laws can fail.

pub mod timer_backend;
//! Deliberately wrong backends: proof that each law can fail.

pub mod slot_allocator;
