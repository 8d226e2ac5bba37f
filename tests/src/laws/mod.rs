//! The laws, one module a trait, one function a clause.

#[cfg(target_arch = "x86_64")]
pub mod context_switch;
pub mod ready_queue;
pub mod slot_allocator;
pub mod timer_backend;
