//! The laws, one module a trait, one function a clause.

pub mod timer_backend;
pub mod slot_allocator;
