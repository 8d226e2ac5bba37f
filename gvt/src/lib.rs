#![doc = include_str!("../../README.md")]
#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "models run parts of the crate only"))]

#[cfg(not(loom))]
mod builder;
pub mod channel;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
pub mod future;
#[cfg(not(loom))]
mod join_handle;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod overflow;
#[cfg(not(loom))]
mod park;
#[cfg(not(loom))]
mod runtime;
mod sched;
#[cfg(not(loom))]
mod scope;
pub mod sync;
#[cfg(not(loom))]
mod thread;
#[cfg(not(loom))]
mod time;
#[cfg(not(loom))]
mod token;

#[cfg(not(loom))]
mod api {
    pub use crate::builder::RuntimeBuilder;
    pub use crate::channel::{Receiver, Sender};
    pub use crate::config::SchedulerConfig;
    pub use crate::join_handle::{JoinFuture, JoinHandle};
    pub use crate::runtime::{Handle, Runtime, RuntimeCounters, StillRunning};
    pub use crate::scope::{Scope, ScopedJoinHandle, scope};
    pub use crate::sync::{SchedMutex, SchedMutexGuard};
    #[doc(hidden)]
    pub use crate::thread::__safepoint;
    pub use crate::thread::{
        Builder, Migration, ThreadId, blocking, current_id, current_name, current_priority, current_token,
        current_worker, is_in_gvthread, spawn, spawn_with_priority, try_spawn, yield_now,
    };
    pub use crate::time::{coarse_now_ns, now_ns, sleep, sleep_ms, sleep_until, sleep_us};
    pub use crate::token::CancellationToken;

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
