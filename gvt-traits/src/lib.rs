#![no_std]
#![doc = include_str!("../README.md")]
//!
//! # The five nouns
//!
//! - A **thread** (green thread, GVThread) is what the user spawned. Its record begins with
//!   [`Metadata`].
//! - A **worker** is a place to run: it owns a local queue end, a slot cache, a row in the
//!   [`WorkerTable`]. Workers are numbered and live as long as their runtime.
//! - An **OS thread** carries at most one worker at a time. Workers move between OS threads when
//!   one of them is held up in the kernel, so nothing that belongs to a worker may live in an OS
//!   thread's local storage.
//! - A **slot** is the address space of one stack with its guard.
//! - A **backend** is an implementation of one of the five traits. A plain value (`GoQueue`,
//!   `Wheel`) configures it; [`Factory`] turns that value into the backend.
//!
//! # What every backend may rely on, and must keep
//!
//! - **B1 runtime side**: except where a method's `Context:` line says otherwise, a backend is
//!   called with preemption off, on an OS thread that carries a worker or on a foreign one.
//! - **B2 no switching**: no method may block on anything that a green thread has to do, call back
//!   into the runtime, or leave its stack. Short critical sections under an OS lock are allowed. A call
//!   into the runtime that would run other threads or use the worker's parts ends the process.
//! - **B3 no unwinding**: a panic in a backend is a broken contract. The runtime prints it and
//!   aborts, since the thread being scheduled could not be put back.
//! - **B4 no thread-locals across calls**: consecutive calls for one worker may come from
//!   different OS threads. They are ordered (each happens before the next).
//! - **B5 parts know only this crate**: a backend that wraps another takes it as a type parameter.
//! - **B6 the monitor never waits**: the runtime's monitor is one OS thread. It asks threads to yield, takes
//!   them off by force and wakes sleepers. The methods that it calls (their `Context:` line says **monitor**)
//!   wait for no lock. A green thread that was taken off by force may hold the allocator's lock: a worker
//!   that holds a backend's lock then waits for the allocator, the monitor for the worker, and the green
//!   thread for the monitor, for ever. These methods read atomics, or use `try_lock`.
#![warn(missing_docs)]

extern crate alloc;

mod context;
mod error;
mod factory;
mod id;
mod metadata;
mod preempt;
mod ready_queue;
mod runnable;
mod slots;
mod state;
mod timer;
mod worker_state;

pub use context::{ContextSwitch, Entry, StackBounds};
pub use error::{MemoryError, SchedError, WorkerError};
pub use factory::{Factory, Plan};
pub use id::{GvtId, WakeTicket, WorkerId};
pub use metadata::{ForcedRegisters, Metadata, RecordHead, Registers};
pub use preempt::{InterruptHook, Interrupted, OsThreadId, Preemptor, Strength};
pub use ready_queue::{Order, PushFence, PushKind, ReadyQueue};
pub use runnable::Runnable;
pub use slots::{MemoryUse, Slot, SlotAllocator, StackClass};
pub use state::{GvtState, Priority, WaitReason};
pub use timer::{IdleWait, TimerBackend, TimerEntry, TimerHandle, TimerType};
pub use worker_state::{WorkerState, WorkerTable};

/// Address space of one slot unless the builder says otherwise: 16 MiB.
pub const SLOT_SIZE: usize = 16 << 20;
/// The smallest slot that a runtime accepts: 64 KiB.
pub const MIN_SLOT_SIZE: usize = 64 << 10;
/// The guard below each stack: one page that faults.
pub const GUARD_SIZE: usize = 4096;
/// Green threads alive at once in one runtime unless the builder says otherwise.
pub const MAX_GVTHREADS: usize = 2_097_152;
/// The most workers in one runtime, so that a set of workers is one `u64`.
pub const MAX_WORKERS: usize = 64;
/// How long a thread may run without a safepoint before it is asked to yield: 10 ms.
pub const TIME_SLICE_NS: u64 = 10_000_000;
/// How long after being asked a thread is taken off by force: 1 ms.
pub const GRACE_PERIOD_NS: u64 = 1_000_000;
/// How often the monitor looks at timers while every worker is busy: 1 ms.
pub const TIMER_INTERVAL_NS: u64 = 1_000_000;
