//! Backends that are wrong on purpose, one module a trait: each suite must reject each of its own,
//! with the number of the clause that it breaks.

#[cfg(target_arch = "x86_64")]
pub mod context_switch;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod preemptor;
pub mod ready_queue;
pub mod slot_allocator;
pub mod timer_backend;
