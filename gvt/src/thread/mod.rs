//! The names of [`std::thread`], for green threads: code moves here by a change of its `use` lines, but for two things. A spawned closure
//! takes its thread's token, `spawn(|token| …)` or `spawn(|_| …)`; and [`current`] is `None` on OS threads outside a runtime.
//!
//! All but [`Result`] are at the crate's root, too.

pub(crate) mod builder;
pub(crate) mod current;
pub(crate) mod join_handle;
pub(crate) mod local_key;
pub(crate) mod scope;
pub(crate) mod settle;
pub(crate) mod spawn;
pub(crate) mod tag;
pub(crate) mod task_set;
pub(crate) mod unjoined;
pub(crate) mod unpark;

pub(crate) use builder::staying;
pub(crate) use spawn::{Options, Refused, refused, spawn_here, spawn_on};

pub use crate::kernel::thread::id::ThreadId;
pub use crate::time::sleep::{sleep, sleep_until};
pub use crate::wait::yielding::yield_now;
pub use builder::Builder;
pub use current::{Thread, current};
pub use join_handle::JoinHandle;
pub use local_key::{AccessError, LocalKey};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{spawn, try_spawn};
pub use unpark::{park, park_timeout};

#[doc(no_inline)]
pub use std::thread::{Result, available_parallelism, panicking};
