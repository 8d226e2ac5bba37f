//! Assembling a runtime from parts.

use std::marker::PhantomData;
use std::time::Duration;

use gvt_arch_x86_64::X86_64;
use gvt_mem_mmap::MmapSlots;
use gvt_preempt_sigurg::Sigurg;
use gvt_queue_go::GoQueue;
use gvt_timer_heap::HeapTimer;
use gvt_traits::{ContextSwitch, Factory, Preemptor, ReadyQueue, SchedError, SlotAllocator, TimerBackend};

use crate::runtime::config::SchedulerConfig;
use crate::runtime::runtime::Runtime;

/// Assembles a [`Runtime`]: each part can be replaced alone, the rest stays the default.
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
/// A value that is no such part does not compile, and the compiler says so:
///
/// ```compile_fail
/// gvt::Runtime::builder().queue(gvt::HeapTimer::default());
/// ```
#[derive(Clone, Debug)]
pub struct RuntimeBuilder<Q = GoQueue, T = HeapTimer, P = Sigurg, C = X86_64, S = MmapSlots> {
    config: SchedulerConfig,
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

    /// Replaces all settings.
    pub fn config(mut self, config: SchedulerConfig) -> Self {
        self.config = config;
        self
    }

    /// [`SchedulerConfig::num_workers`].
    pub fn workers(mut self, count: usize) -> Self {
        self.config = self.config.num_workers(count);
        self
    }

    /// [`SchedulerConfig::num_workers`].
    pub fn num_workers(self, count: usize) -> Self {
        self.workers(count)
    }

    /// [`SchedulerConfig::num_low_priority_workers`].
    pub fn num_low_priority_workers(mut self, count: usize) -> Self {
        self.config = self.config.num_low_priority_workers(count);
        self
    }

    /// [`SchedulerConfig::max_gvthreads`].
    pub fn max_gvthreads(mut self, count: usize) -> Self {
        self.config = self.config.max_gvthreads(count);
        self
    }

    /// [`SchedulerConfig::stack_size`].
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config = self.config.stack_size(bytes);
        self
    }

    /// [`SchedulerConfig::time_slice`].
    pub fn time_slice(mut self, duration: Duration) -> Self {
        self.config = self.config.time_slice(duration);
        self
    }

    /// [`SchedulerConfig::grace_period`].
    pub fn grace_period(mut self, duration: Duration) -> Self {
        self.config = self.config.grace_period(duration);
        self
    }

    /// [`SchedulerConfig::timer_interval`].
    pub fn timer_interval(mut self, duration: Duration) -> Self {
        self.config = self.config.timer_interval(duration);
        self
    }

    /// [`SchedulerConfig::enable_forced_preempt`].
    pub fn enable_forced_preempt(mut self, enable: bool) -> Self {
        self.config = self.config.enable_forced_preempt(enable);
        self
    }

    /// [`SchedulerConfig::urgent_monitor`].
    pub fn urgent_monitor(mut self, enable: bool) -> Self {
        self.config = self.config.urgent_monitor(enable);
        self
    }

    /// [`SchedulerConfig::deadlock_report`].
    pub fn deadlock_report(mut self, after: Duration) -> Self {
        self.config = self.config.deadlock_report(after);
        self
    }

    /// [`SchedulerConfig::max_os_threads`].
    pub fn max_os_threads(mut self, count: usize) -> Self {
        self.config = self.config.max_os_threads(count);
        self
    }

    /// [`SchedulerConfig::migrate_always`].
    pub fn migrate_always(mut self, enable: bool) -> Self {
        self.config = self.config.migrate_always(enable);
        self
    }

    /// [`SchedulerConfig::debug_logging`].
    pub fn debug_logging(mut self, enable: bool) -> Self {
        self.config = self.config.debug_logging(enable);
        self
    }

    /// Builds the runtime and starts its workers.
    ///
    /// # Errors
    ///
    /// [`SchedError::Config`] for a setting that cannot work, [`SchedError::Memory`] if address space is short,
    /// [`SchedError::Worker`] if an OS thread, a descriptor or a signal handler cannot be had. Nothing is
    /// left behind.
    pub fn build(self) -> Result<Runtime<Q, T, P, C, S>, SchedError>
    where
        // Here, not on the `impl`: of a part that does not fit the compiler then speaks in that trait's words.
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
