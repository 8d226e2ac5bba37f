//! The laws, one module a trait, one function a clause.

pub mod slot_allocator;
