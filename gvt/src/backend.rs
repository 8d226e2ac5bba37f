//! The parts of a runtime: five traits, and what comes with gvt for each.
//!
//! A runtime is assembled from five parts. Each part is a type of the runtime, so calls to it are direct.
//! [`RuntimeBuilder`](crate::RuntimeBuilder) replaces a part; it takes a plain value, of which [`Factory`]
//! makes the part when the runtime is built.
//!
//! | trait | decides | set by | comes with gvt |
//! |---|---|---|---|
//! | [`ReadyQueue`] | which thread runs next | [`queue`](crate::RuntimeBuilder::queue) | [`GoQueue`]; `gvt-queue-priority` |
//! | [`TimerBackend`] | which deadline is next | [`timer`](crate::RuntimeBuilder::timer) | [`HeapTimer`]; `gvt-timer-wheel`, `gvt-timer-timerfd` |
//! | [`Preemptor`] | how a running thread is interrupted | [`preemptor`](crate::RuntimeBuilder::preemptor) | [`Sigurg`], [`Cooperative`], [`NoPreempt`] |
//! | [`ContextSwitch`] | how one stack is left for another | [`context`](crate::RuntimeBuilder::context) | [`X86_64`]; `X86_64Lean` of `gvt-arch-x86_64` |
//! | [`SlotAllocator`] | where stacks come from | [`slots`](crate::RuntimeBuilder::slots) | [`MmapSlots`] |
//!
//! The first name in each row is the default.
//!
//! ```
//! use gvt::Runtime;
//! use gvt::backend::{Cooperative, MmapSlots};
//!
//! let slots = MmapSlots::default().slot_size(64 << 10);
//! let runtime = Runtime::builder().workers(2).preemptor(Cooperative).slots(slots).build()?;
//! assert_eq!(runtime.block_on(|| 6 * 7), 42);
//! # Ok::<(), gvt::SchedError>(())
//! ```
//!
//! A part of your own implements a trait of the crate `gvt-traits`, which also has the types that the traits
//! speak of; `docs/WRITING_A_BACKEND.md` goes through one, and `gvt-conformance` tests it.

pub use gvt_arch_x86_64::X86_64;
pub use gvt_mem_mmap::MmapSlots;
pub use gvt_preempt_sigurg::{Cooperative, NoPreempt, Sigurg};
pub use gvt_queue_go::GoQueue;
pub use gvt_timer_heap::HeapTimer;
pub use gvt_traits::{ContextSwitch, Factory, Preemptor, ReadyQueue, SlotAllocator, TimerBackend};
