//! Runtimes: building, configuring, observing and ending them.
//!
//! | to | names |
//! |---|---|
//! | build one | [`Runtime::new`], [`Runtime::builder`], [`Builder`], which is [`RuntimeBuilder`] |
//! | configure it | [`SchedulerConfig`]; every setting is a method of [`Builder`] too |
//! | run code on it | [`Runtime::block_on`], [`Handle`] |
//! | list its threads | [`Runtime::threads`], [`Runtime::dump`], [`ThreadInfo`], [`GvtState`], [`WaitReason`] |
//! | find deadlocks | [`SchedulerConfig::deadlock_report`], [`Runtime::on_deadlock`], [`DeadlockReport`] |
//! | count | [`Runtime::counters`], [`RuntimeCounters`] |
//! | see what its memory is spent on | [`Runtime::memory`], [`Memory`], [`StackMemory`], [`MemoryUse`] |
//! | end it | `drop`, [`Runtime::shutdown`], [`Runtime::shutdown_timeout`], [`StillRunning`] |
//! | know why something was refused | [`SchedError`], [`MemoryError`], [`WorkerError`] |
//!
//! ```
//! use gvt::runtime::{Runtime, SchedulerConfig};
//!
//! let runtime = Runtime::try_new(SchedulerConfig::default().num_workers(2))?;
//! let answer = runtime.block_on(|| gvt::spawn(|_| 6 * 7).join().unwrap());
//! assert_eq!(answer, 42);
//! println!("{}\n{}", runtime.counters(), runtime.memory());
//! runtime.shutdown();
//! # Ok::<(), gvt::SchedError>(())
//! ```

pub(crate) mod builder;
pub(crate) mod config;
pub(crate) mod handle;
pub(crate) mod memory;
pub(crate) mod panic_hook;
#[allow(clippy::module_inception, reason = "the file of the type")]
pub(crate) mod runtime;
mod settings;
pub(crate) mod upper;

pub use crate::kernel::state::deadlock::{DeadlockReport, ThreadInfo};
pub use builder::RuntimeBuilder;
#[doc(no_inline)]
pub use builder::RuntimeBuilder as Builder;
pub use config::SchedulerConfig;
pub use handle::Handle;
pub use memory::{Memory, StackMemory};
pub use runtime::{Runtime, RuntimeCounters, StillRunning};

pub use gvt_traits::{GvtState, MemoryError, MemoryUse, SchedError, WaitReason, WorkerError};
