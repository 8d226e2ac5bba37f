#![doc = include_str!("../../README.md")]
#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "models run parts of the crate only"))]

#[cfg(not(loom))]
mod builder;
pub mod channel;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod current;
#[cfg(not(loom))]
pub mod future;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod interval;
#[cfg(not(loom))]
mod join_handle;
#[cfg(not(loom))]
mod locals;
#[cfg(not(loom))]
mod macros;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod overflow;
#[cfg(not(loom))]
mod panic_hook;
#[cfg(not(loom))]
mod park;
#[cfg(not(loom))]
mod runtime;
mod sched;
#[cfg(not(loom))]
mod scope;
#[cfg(not(loom))]
#[path = "thread.rs"]
mod spawning;
pub mod sync;
#[cfg(not(loom))]
mod tag;
#[cfg(not(loom))]
mod task_set;
#[cfg(not(loom))]
mod time;
#[cfg(not(loom))]
mod timeout;
#[cfg(not(loom))]
mod token;
mod unjoined;
#[cfg(not(loom))]
mod unpark;

/// The names of [`std::thread`], for green threads: code moves here by a change of its `use` lines, but for two things. A spawned closure
/// takes its thread's token, `spawn(|token| …)` or `spawn(|_| …)`; and [`current`](thread::current) is `None` on OS threads outside a runtime.
///
/// All but [`thread::Result`] are at the crate's root, too.
#[cfg(not(loom))]
pub mod thread {
    pub(crate) use crate::spawning::{Options, Refused, refused, spawn_here, spawn_on, staying};

    pub use crate::current::{Thread, current};
    pub use crate::join_handle::JoinHandle;
    pub use crate::locals::{AccessError, LocalKey};
    pub use crate::scope::{Scope, ScopedJoinHandle, scope};
    pub use crate::spawning::{Builder, ThreadId, spawn, try_spawn, yield_now};
    pub use crate::time::{sleep, sleep_until};
    pub use crate::unpark::{park, park_timeout};

    #[doc(no_inline)]
    pub use std::thread::{Result, available_parallelism, panicking};
}
mod user;

#[cfg(not(loom))]
mod api {
    pub use crate::builder::RuntimeBuilder;
    pub use crate::channel::{Receiver, Sender};
    pub use crate::config::SchedulerConfig;
    pub use crate::current::{Thread, current, current_name, current_priority, current_token};
    pub use crate::handle::Handle;
    pub use crate::interval::{Interval, MissedTicks, interval, interval_at};
    pub use crate::join_handle::{JoinFuture, JoinHandle, join_all};
    pub use crate::locals::{AccessError, LocalKey};
    pub use crate::memory::{Memory, StackMemory};
    pub use crate::runtime::{Runtime, RuntimeCounters, StillRunning};
    pub use crate::sched::report::{DeadlockReport, ThreadInfo};
    pub use crate::sched::settle::settle;
    pub use crate::scope::{Scope, ScopedJoinHandle, scope};
    #[doc(hidden)]
    pub use crate::spawning::__safepoint;
    pub use crate::spawning::{
        Builder, Migration, ThreadId, blocking, current_id, current_worker, is_in_gvthread, spawn,
        spawn_with_priority, try_spawn, yield_now,
    };
    pub use crate::sync::{SchedMutex, SchedMutexGuard};
    pub use crate::tag::current_tag;
    pub use crate::task_set::{TaskError, TaskSet};
    pub use crate::time::{coarse_now_ns, now, now_ns, sleep, sleep_ms, sleep_until, sleep_us};
    pub use crate::timeout::{TimedOut, timeout, timeout_at};
    pub use crate::token::{CancelReason, CancellationToken, Cancelled, cancellable};
    pub use crate::unpark::{park, park_timeout};

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
