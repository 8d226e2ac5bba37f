//! The laws, one module a trait, one function a clause.

#[cfg(target_arch = "x86_64")]
pub mod context_switch;
mod midway;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod preemptor;
pub mod ready_queue;
pub mod slot_allocator;
pub mod timer_backend;
