//! The laws, one module a trait, one function a clause.

pub mod timer_backend;
pub mod slot_allocator;
#[cfg(target_arch = "x86_64")]
pub mod context_switch;
