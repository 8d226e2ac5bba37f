//! Preemptible green threads: ordinary blocking code, many threads on a few OS threads.
//!
//! A *green thread* has a stack of its own and runs a closure. A *worker* runs green threads, one at a time,
//! and an OS thread carries each worker. A thread that waits leaves its worker to others; a thread that
//! computes for longer than its time slice is preempted. A *runtime* is a set of workers.
//!
//! ```
//! use gvt::{Runtime, SchedulerConfig, channel, spawn};
//!
//! let runtime = Runtime::new(SchedulerConfig::default().num_workers(4));
//! let total = runtime.block_on(|| {
//!     let (sender, receiver) = channel(100);
//!     for i in 0..1_000u64 {
//!         let sender = sender.clone();
//!         spawn(move |_| sender.send(i).unwrap());
//!     }
//!     drop(sender);
//!     receiver.iter().sum::<u64>()
//! });
//! assert_eq!(total, 499_500);
//! ```
//!
//! The [README](https://github.com/gvt-rs/gvt#readme) says when to use gvt and when not, how it compares, and
//! what its limits are. Each function's *Context* line says where it may be called.
//!
//! # You want → use
//!
//! | you want | use | module |
//! |---|---|---|
//! | to start a runtime | [`Runtime::new`], [`Runtime::builder`], [`#[gvt::main]`](macro@main) | [`runtime`] |
//! | to spawn a thread | [`spawn`], [`thread::spawn`], [`go!`] | [`thread`] |
//! | to name it, set its priority, its stack | [`Builder`] | [`thread`] |
//! | to spawn from outside the runtime | [`Runtime::handle`], [`Handle::spawn`] | [`runtime`] |
//! | to take a thread's result | [`JoinHandle::join`], `handle.await`, [`join_all`] | [`thread`] |
//! | threads that borrow | [`scope()`] | [`thread`] |
//! | threads of which the first failure cancels the others | [`TaskSet`] | [`thread`] |
//! | to call code that blocks in the kernel | [`blocking()`] | [`thread`] |
//! | a value for each thread | [`gvt_local!`] | [`thread`] |
//! | to sleep, to tick | [`sleep()`], [`interval()`] | [`time`] |
//! | a limit on how long something takes | [`timeout()`], [`JoinHandle::join_timeout`], `recv_timeout` | [`time`] |
//! | to stop a thread | [`JoinHandle::token`], [`CancellationToken::cancel`] | [`cancel`] |
//! | waits that end when a token is cancelled | [`cancellable`], [`CancellationToken::run_until_cancelled`] | [`cancel`] |
//! | to send messages | [`channel()`], [`channel::unbounded`], [`channel::oneshot`], [`channel::broadcast`] | [`mod@channel`] |
//! | the latest value only | [`channel::watch`] | [`mod@channel`] |
//! | to wait for several things | [`select!`], [`select_biased!`] | [`mod@channel`] |
//! | a lock | [`sync::Mutex`], [`sync::RwLock`]; without poisoning [`SchedMutex`] | [`sync`] |
//! | to wait for a condition, for a count | [`sync::Condvar`], [`sync::WaitGroup`], [`sync::Barrier`], [`sync::Semaphore`] | [`sync`] |
//! | to initialise once | [`sync::OnceLock`], [`sync::LazyLock`] | [`sync`] |
//! | to run a future on a thread | [`future::block_on`] | [`future`] |
//! | to await what gvt does, with any executor | `recv_async`, `lock_async`, `handle.await` | [`future`] |
//! | to make a long computation preemptible without signals | [`safepoint!`], [`yield_now`] | [`thread`] |
//! | to see what all threads do | [`Runtime::dump`], [`Runtime::threads`], [`Runtime::counters`], [`Runtime::memory`] | [`runtime`] |
//! | to find deadlocks | [`SchedulerConfig::deadlock_report`] | [`runtime`] |
//! | to test | [`#[gvt::test]`](macro@test), [`settle`], [`SchedulerConfig::migrate_always`] | |
//! | another queue, timer, preemptor or stack allocator | [`RuntimeBuilder::queue`] and its siblings | [`backend`] |
//!
//! # You come from std
//!
//! | std | gvt | what differs |
//! |---|---|---|
//! | `thread::spawn(\|\| …)` | [`thread::spawn`] | inside a runtime |
//! | `thread::Builder`, `thread::scope` | [`thread::Builder`], [`thread::scope`](fn@scope) | closures take a token, `\|_\| …` |
//! | `thread::current` | [`thread::current`](fn@current) | an `Option` |
//! | `thread::{sleep, park, yield_now}` | the same names in [`thread`] | |
//! | `thread_local!` | [`gvt_local!`] | |
//! | `sync::{Mutex, RwLock, Condvar, Once, …}` | the same names in [`sync`] | |
//! | `sync::mpsc` | [`sync::mpsc`] | |
//!
//! # You come from tokio
//!
//! | tokio | gvt |
//! |---|---|
//! | `#[tokio::main]`, `#[tokio::test]` | [`#[gvt::main]`](macro@main), [`#[gvt::test]`](macro@test) |
//! | `runtime::Builder`, `runtime::Handle` | [`runtime::Builder`], [`runtime::Handle`] |
//! | `tokio::spawn(async { … })` | [`spawn(\|token\| …)`](spawn) |
//! | `JoinHandle::abort` | [`JoinHandle::token`] and [`cancel`](CancellationToken::cancel) |
//! | `task::JoinSet` | [`TaskSet`] |
//! | `task::spawn_blocking`, `block_in_place` | [`blocking()`] |
//! | `task::yield_now` | [`yield_now`] |
//! | `task_local!` | [`gvt_local!`] |
//! | `time::{sleep, interval, timeout}` | the same names in [`time`] |
//! | `sync::{oneshot, watch, broadcast}` | the same names in [`mod@channel`] |
//! | `sync::{Mutex, RwLock, Semaphore, Barrier, OnceCell}` | [`sync`]; `OnceCell` is [`sync::OnceLock`] |
//! | `select!` | [`select!`] |
//! | `tokio_util::sync::CancellationToken` | [`CancellationToken`] |
//! | `future.await` | [`future::block_on`] |
//!
//! # You come from Go
//!
//! | Go | gvt |
//! |---|---|
//! | `go f()` | [`go!(f())`](go) |
//! | `make(chan T, n)`, `make(chan T)` | [`channel(n)`](channel()), `channel(0)` |
//! | `select` | [`select!`] |
//! | `time.After`, `time.Tick` | [`channel::after`], [`channel::tick`] |
//! | `context.Context` | [`CancellationToken`] |
//! | `sync.WaitGroup`, `errgroup.Group` | [`sync::WaitGroup`], [`TaskSet`] |
//! | `runtime.Gosched` | [`yield_now`] |
//! | `runtime.LockOSThread` | [`Migration::Pinned`] |
//! | `GOMAXPROCS` | [`SchedulerConfig::num_workers`] |
//! | a dump by `SIGQUIT` | [`Runtime::dump`] |
//!
//! # You come from crossbeam
//!
//! | crossbeam | gvt |
//! |---|---|
//! | `crossbeam_channel`, all of it | [`mod@channel`], the same names |
//! | `select!`, `Select` | [`select!`], [`channel::Select`] |
//! | `thread::scope` | [`scope()`] |
//! | `sync::WaitGroup` | [`sync::WaitGroup`] |
//! | `sync::Parker` | [`park`], [`Thread::unpark`] |
#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "models run parts of the crate only"))]

#[macro_use]
mod protocol;
mod wait;

pub mod channel;
pub mod sync;

#[cfg(not(loom))]
pub mod backend;
#[cfg(not(loom))]
pub mod cancel;
#[cfg(not(loom))]
pub mod future;
#[cfg(not(loom))]
mod kernel;
#[cfg(not(loom))]
mod macros;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
pub mod runtime;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
pub mod time;

/// The names at the crate's root: first those that most programs use, then short paths to the modules'
/// others.
#[cfg(not(loom))]
mod api {
    #[doc(inline)]
    pub use crate::cancel::CancellationToken;
    #[doc(inline)]
    pub use crate::channel::{Receiver, Sender};
    #[doc(inline)]
    pub use crate::runtime::{Runtime, SchedulerConfig};
    #[doc(inline)]
    pub use crate::sync::SchedMutex;
    #[doc(inline)]
    pub use crate::thread::{
        Builder, JoinHandle, blocking, current_id, scope, sleep, sleep_until, spawn_with_priority, yield_now,
    };
    // The closure takes its thread's token: `thread::spawn` has the form without.
    pub use crate::thread::spawn::{spawn, try_spawn};
    #[doc(inline)]
    pub use crate::time::{sleep_ms, sleep_us};
    #[doc(inline)]
    pub use gvt_macros::{main, test};

    #[doc(no_inline)]
    pub use crate::backend::{Cooperative, GoQueue, HeapTimer, MmapSlots, NoPreempt, Sigurg, X86_64};
    #[doc(no_inline)]
    pub use crate::cancel::{CancelReason, Cancelled, cancellable};
    #[doc(no_inline)]
    pub use crate::runtime::{
        DeadlockReport, GvtState, Handle, Memory, MemoryError, MemoryUse, RuntimeBuilder, RuntimeCounters,
        SchedError, StackMemory, StillRunning, ThreadInfo, WaitReason, WorkerError,
    };
    #[doc(no_inline)]
    pub use crate::sync::SchedMutexGuard;
    #[doc(no_inline)]
    pub use crate::thread::{
        AccessError, JoinFuture, LocalKey, Migration, Priority, Scope, ScopedJoinHandle, TaskError, TaskSet,
        Thread, ThreadId, available_parallelism, current_name, current_priority, current_tag, current_token,
        current_worker, is_in_gvthread, join_all, panicking, park, park_timeout,
    };
    #[doc(no_inline)]
    pub use crate::thread::{current::current, settle::settle};
    #[doc(no_inline)]
    pub use crate::time::{
        Interval, MissedTicks, TimedOut, coarse_now_ns, interval_at, now, now_ns, timeout_at,
    };
    #[doc(no_inline)]
    pub use crate::time::{interval::interval, timeout::timeout};
    #[doc(no_inline)]
    pub use gvt_traits::GvtId;

    #[doc(hidden)]
    pub use crate::wait::yielding::__safepoint;
}

#[cfg(not(loom))]
pub use api::*;

/// What the attributes expand to.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod __private {
    pub use crate::macros::{run, run_with_limit};
}

/// The README's programs, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

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
