//! Backends that break one clause each, on purpose: proof that the laws can fail.

pub mod timer_backend;
