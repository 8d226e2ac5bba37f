//! Backends that break one clause each, on purpose: proof that the laws can fail.

pub mod timer_backend;
//! Deliberately wrong backends: proof that each law can fail.

pub mod slot_allocator;
//! Backends that are wrong on purpose, one module a trait: each suite must reject each of its own,
//! with the number of the clause that it breaks.

#[cfg(target_arch = "x86_64")]
pub mod context_switch;
