//! Runtimes: how one is built, configured, asked and ended.

pub(crate) mod builder;
pub(crate) mod config;
pub(crate) mod handle;
pub(crate) mod memory;
pub(crate) mod panic_hook;
#[allow(clippy::module_inception, reason = "the file of the type")]
pub(crate) mod runtime;
pub(crate) mod upper;
