#![doc = include_str!("../../README.md")]
#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "models run parts of the crate only"))]

#[macro_use]
mod protocol;
mod wait;

pub mod channel;
pub mod sync;

#[cfg(not(loom))]
mod cancel;
#[cfg(not(loom))]
pub mod future;
#[cfg(not(loom))]
mod kernel;
#[cfg(not(loom))]
mod macros;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod runtime;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
mod time;

#[cfg(not(loom))]
mod api {
    pub use crate::cancel::cancelled::Cancelled;
    pub use crate::cancel::reason::CancelReason;
    pub use crate::cancel::run::cancellable;
    pub use crate::cancel::token::CancellationToken;
    pub use crate::channel::{Receiver, Sender};
    pub use crate::kernel::state::deadlock::{DeadlockReport, ThreadInfo};
    pub use crate::kernel::thread::id::ThreadId;
    pub use crate::runtime::builder::RuntimeBuilder;
    pub use crate::runtime::config::SchedulerConfig;
    pub use crate::runtime::handle::Handle;
    pub use crate::runtime::memory::{Memory, StackMemory};
    pub use crate::runtime::runtime::{Runtime, RuntimeCounters, StillRunning};
    pub use crate::sync::{SchedMutex, SchedMutexGuard};
    pub use crate::thread::builder::{Builder, spawn_with_priority};
    pub use crate::thread::current::{Thread, current};
    pub use crate::thread::current::{
        blocking, current_id, current_name, current_priority, current_token, current_worker, is_in_gvthread,
    };
    pub use crate::thread::join_handle::{JoinFuture, JoinHandle, join_all};
    pub use crate::thread::local_key::{AccessError, LocalKey};
    pub use crate::thread::scope::{Scope, ScopedJoinHandle, scope};
    pub use crate::thread::settle::settle;
    pub use crate::thread::spawn::{Migration, spawn, try_spawn};
    pub use crate::thread::tag::current_tag;
    pub use crate::thread::task_set::{TaskError, TaskSet};
    pub use crate::thread::unpark::{park, park_timeout};
    pub use crate::time::interval::{Interval, MissedTicks, interval, interval_at};
    pub use crate::time::sleep::{sleep, sleep_ms, sleep_until, sleep_us};
    pub use crate::time::timeout::{timeout, timeout_at};
    pub use crate::wait::clock::TimedOut;
    pub use crate::wait::clock::{coarse_now_ns, now, now_ns};
    #[doc(hidden)]
    pub use crate::wait::yielding::__safepoint;
    pub use crate::wait::yielding::yield_now;

    #[doc(no_inline)]
    pub use std::thread::{available_parallelism, panicking};

    #[doc(inline)]
    pub use gvt_macros::{main, test};

    pub use gvt_arch_x86_64::X86_64;
    pub use gvt_mem_mmap::MmapSlots;
    pub use gvt_preempt_sigurg::{Cooperative, NoPreempt, Sigurg};
    pub use gvt_queue_go::GoQueue;
    pub use gvt_timer_heap::HeapTimer;
    pub use gvt_traits::{
        GvtId, GvtState, MemoryError, MemoryUse, Priority, SchedError, WaitReason, WorkerError,
    };
}

#[cfg(not(loom))]
pub use api::*;

/// What the attributes expand to.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod __private {
    pub use crate::macros::{run, run_with_limit};
}

/// A channel for `capacity` messages: [`channel::bounded`] by another name.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let (sender, receiver) = gvt::channel(1);
/// sender.try_send("only").unwrap();
/// assert!(sender.try_send("too many").is_err());
/// assert_eq!(receiver.recv(), Ok("only"));
/// # });
/// ```
#[cfg(not(loom))]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel::bounded(capacity)
}
