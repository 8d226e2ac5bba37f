//! Assembling a runtime from parts.

use std::marker::PhantomData;

use gvt_arch_x86_64::X86_64;
use gvt_mem_mmap::MmapSlots;
use gvt_preempt_sigurg::Sigurg;
use gvt_queue_go::GoQueue;
use gvt_timer_heap::HeapTimer;
use gvt_traits::{ContextSwitch, Factory, Preemptor, ReadyQueue, SchedError, SlotAllocator, TimerBackend};

use crate::runtime::config::SchedulerConfig;
use crate::runtime::runtime::Runtime;

/// Assembles a [`Runtime`]. Each part can be replaced alone; the others stay the default.
///
/// The parts are types of the runtime, so every call to them is direct.
///
/// ```
/// use gvt::{HeapTimer, Runtime};
/// let runtime = Runtime::builder().workers(2).timer(HeapTimer::default()).build()?;
/// assert_eq!(runtime.block_on(|| 1 + 1), 2);
/// # Ok::<(), gvt::SchedError>(())
/// ```
///
/// A value that is not such a part is a compile error:
///
/// ```compile_fail
/// gvt::Runtime::builder().queue(gvt::HeapTimer::default());
/// ```
#[derive(Clone, Debug)]
pub struct RuntimeBuilder<Q = GoQueue, T = HeapTimer, P = Sigurg, C = X86_64, S = MmapSlots> {
    pub(super) config: SchedulerConfig,
    queue: Q,
    timer: T,
    preemptor: P,
    context: PhantomData<fn() -> C>,
    slots: S,
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        RuntimeBuilder {
            config: SchedulerConfig::default(),
            queue: GoQueue,
            timer: HeapTimer,
            preemptor: Sigurg,
            context: PhantomData,
            slots: MmapSlots::default(),
        }
    }
}

impl<Q, T, P, C, S> RuntimeBuilder<Q, T, P, C, S> {
    /// Replaces the ready queue.
    pub fn queue<N>(self, queue: N) -> RuntimeBuilder<N, T, P, C, S>
    where
        N: Factory<Output: ReadyQueue>,
    {
        let Self { config, timer, preemptor, context, slots, .. } = self;
        RuntimeBuilder { config, queue, timer, preemptor, context, slots }
    }

    /// Replaces the timer.
    pub fn timer<N>(self, timer: N) -> RuntimeBuilder<Q, N, P, C, S>
    where
        N: Factory<Output: TimerBackend>,
    {
        let Self { config, queue, preemptor, context, slots, .. } = self;
        RuntimeBuilder { config, queue, timer, preemptor, context, slots }
    }

    /// Replaces the preemptor.
    pub fn preemptor<N>(self, preemptor: N) -> RuntimeBuilder<Q, T, N, C, S>
    where
        N: Factory<Output: Preemptor>,
    {
        let Self { config, queue, timer, context, slots, .. } = self;
        RuntimeBuilder { config, queue, timer, preemptor, context, slots }
    }

    /// Replaces the way stacks are switched.
    pub fn context<N>(self, _context: N) -> RuntimeBuilder<Q, T, P, N, S>
    where
        N: ContextSwitch,
    {
        let Self { config, queue, timer, preemptor, slots, .. } = self;
        RuntimeBuilder { config, queue, timer, preemptor, context: PhantomData, slots }
    }

    /// Replaces the allocator of stacks.
    pub fn slots<N>(self, slots: N) -> RuntimeBuilder<Q, T, P, C, N>
    where
        N: Factory<Output: SlotAllocator>,
    {
        let Self { config, queue, timer, preemptor, context, .. } = self;
        RuntimeBuilder { config, queue, timer, preemptor, context, slots }
    }

    /// Replaces all settings. Each can also be set alone, by a method with the name of the setting.
    pub fn config(mut self, config: SchedulerConfig) -> Self {
        self.config = config;
        self
    }

    /// [`num_workers`](Self::num_workers) by a shorter name.
    pub fn workers(self, count: usize) -> Self {
        self.num_workers(count)
    }

    /// Builds the runtime and starts its workers.
    ///
    /// # Errors
    ///
    /// [`SchedError::Config`] for a setting that cannot work, [`SchedError::Memory`] if address space is
    /// short, [`SchedError::Worker`] if an OS thread, a descriptor or a signal handler cannot be had. What
    /// was started by then is undone.
    pub fn build(self) -> Result<Runtime<Q, T, P, C, S>, SchedError>
    where
        // Here, not on the `impl`, so that the compiler's error for a wrong part is that trait's own message.
        Q: Factory<Output: ReadyQueue>,
        T: Factory<Output: TimerBackend>,
        P: Factory<Output: Preemptor>,
        C: ContextSwitch,
        S: Factory<Output: SlotAllocator>,
    {
        Runtime::assemble(self.config, &self.queue, &self.timer, &self.preemptor, &self.slots)
    }
}

impl Runtime {
    /// A runtime of the default parts.
    ///
    /// # Panics
    ///
    /// With the sentence of the error that [`try_new`](Self::try_new) returns.
    #[track_caller]
    pub fn new(config: SchedulerConfig) -> Self {
        match Self::try_new(config) {
            Ok(runtime) => runtime,
            Err(error) => panic!("{error}"),
        }
    }

    /// A runtime of the default parts.
    ///
    /// # Errors
    ///
    /// As [`RuntimeBuilder::build`].
    pub fn try_new(config: SchedulerConfig) -> Result<Self, SchedError> {
        Self::builder().config(config).build()
    }

    /// Assembles a runtime from parts.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }
}
