//! The runtime, from its owner's side.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use gvt_arch_x86_64::X86_64;
use gvt_mem_mmap::MmapSlots;
use gvt_preempt_sigurg::Sigurg;
use gvt_queue_go::GoQueue;
use gvt_timer_heap::HeapTimer;
use gvt_traits::{
    ContextSwitch, Factory, Plan, Preemptor, ReadyQueue, SchedError, SlotAllocator, Strength, TimerBackend,
    WorkerError, WorkerId, WorkerTable,
};

use crate::cancel::token::CancellationToken;
use crate::kernel::lifecycle::close::{Closed, Remaining};
use crate::kernel::lifecycle::{close, overflow};
use crate::kernel::monitor::look::Periods;
use crate::kernel::monitor::{look, report, spare_starter};
use crate::kernel::sched::detach;
use crate::kernel::sched::start::start_os_thread;
use crate::kernel::state::deadlock::{DeadlockReport, ThreadInfo, Watch, lines};
use crate::kernel::state::lifecycle::Lifecycle;
use crate::kernel::state::monitor::MonitorState;
use crate::kernel::state::starter::StarterState;
use crate::kernel::thread::table::RecordTable;
use crate::kernel::worker::core::{Core, CoreBase, Parts, Worker, WorkerBase};
use crate::kernel::worker::pool::Pool;
use crate::kernel::worker::scale::Scale;
use crate::os::EventFd;
use crate::protocol::idle::IdleSet;
use crate::protocol::links::Changes;
use crate::protocol::mailbox::Mailbox;
use crate::runtime::config::SchedulerConfig;
use crate::runtime::handle::Handle;
use crate::runtime::upper::Above;
use crate::thread::{self, Refused};
use crate::wait::park;

/// OS threads that a runtime may start beyond one a worker, for threads that keep theirs.
const SPARE_OS_THREADS: usize = 4096;

/// A runtime: workers on OS threads, and the green threads that they run.
///
/// Any number of runtimes may live in one process. Dropping one waits for its green threads; those that it
/// waits for longer than five seconds it names on stderr.
///
/// Its type names its parts; `Runtime` alone is the default assembly.
pub struct Runtime<Q = GoQueue, T = HeapTimer, P = Sigurg, C = X86_64, S = MmapSlots>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    core: *const Core<Assembly<Q, T, P, C, S>>,
    /// Monitor and starter.
    helpers: Vec<std::thread::JoinHandle<()>>,
    handle: Handle,
}

/// The parts of a runtime, named by the types of their factories.
#[allow(clippy::type_complexity, reason = "the five parts, and nothing to name among them")]
struct Assembly<Q, T, P, C, S>(PhantomData<fn() -> (Q, T, P, C, S)>);

impl<Q, T, P, C, S> Parts for Assembly<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    type Queue = Q::Output;
    type Timer = T::Output;
    type Preempt = P::Output;
    type Context = C;
    type Slots = S::Output;
}

// SAFETY: the core is `Sync`; everything a `&Runtime` can do is.
unsafe impl<Q, T, P, C, S> Sync for Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
}
// SAFETY: the core is `Send`, and nothing in it belongs to the OS thread that built it.
unsafe impl<Q, T, P, C, S> Send for Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
}

impl<Q, T, P, C, S> Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    pub(crate) fn assemble(
        config: SchedulerConfig,
        queue: &Q,
        timer: &T,
        preemptor: &P,
        slots: &S,
    ) -> Result<Self, SchedError> {
        config.check()?;
        crate::runtime::panic_hook::install();
        let workers = config.num_workers;
        let table = RecordTable::new(config.max_gvthreads, workers)?;
        // As many as may be admitted, plus the slots that ending threads still hold (`RecordTable::grow`).
        let plan = Plan::new(workers, table.capacity() + workers)
            .with_low_priority_workers(config.num_low_priority_workers);
        let low_workers = (0..workers).filter(|&index| plan.is_low_priority(index));
        let low_workers = low_workers.fold(0_u64, |set, index| set | 1 << index);
        let slots = slots.build(&plan)?;
        let default_class = slots.class_for(config.stack_size)?;
        let mut core = Box::new(Core::<Assembly<Q, T, P, C, S>> {
            base: CoreBase {
                vtable: &Core::<Assembly<Q, T, P, C, S>>::VTABLE,
                table,
                idle: IdleSet::new(low_workers),
                rows: Box::new(WorkerTable::new()),
                worker_count: workers,
                wake_descriptor: EventFd::new()
                    .map_err(|errno| WorkerError::Descriptor { what: "waking a worker", errno })?,
                pool: Pool::new(config.max_os_threads.unwrap_or(workers + SPARE_OS_THREADS))?,
                keeps_spare: false,
                signal_mask: crate::os::signal_mask(),
                has_membarrier: false,
                monitor: MonitorState::new(),
                starter: StarterState::new(),
                deadlock: Watch::new(config.deadlock_report),
                counters: Default::default(),
                lifecycle: Lifecycle::new(),
                cancelled: AtomicBool::new(false),
                changes: Changes::new(),
                spawned_outside: AtomicU64::new(0),
                workers: Default::default(),
                timer_watch_ns: AtomicU64::new(u64::MAX),
                poller: AtomicU32::new(0),
                default_class,
                scale: None,
                upper: Box::new(Above::new()),
                is_virtual: false,
                draws: AtomicU64::new(0),
                admitted: Default::default(),
                debug: config.debug_logging,
                returning: Mailbox::new(),
                migrates: config.migrate_always,
            },
            queue: queue.build(&plan)?,
            timer: timer.build(&plan)?,
            preempt: preemptor.build(&plan)?,
            slots,
            workers: Vec::new(),
        });
        core.base.is_virtual = core.timer.is_virtual();
        core.base.scale = core.timer.now_ns().map(Scale::beginning_at);
        core.base.keeps_spare = config.enable_forced_preempt && core.preempt.strength() == Strength::Anywhere;
        // What the first thread needs (`RecordTable::grow`): an address space too small for one thread is an
        // error here.
        core.slots.reserve(default_class, 1 + workers)?;
        let base: *const CoreBase = &raw const core.base;
        for index in 0..workers {
            let id = WorkerId::new(index);
            let worker = Box::new(Worker {
                // SAFETY: C1: the core is boxed and owns the worker.
                base: unsafe { WorkerBase::new(core.base.vtable, base, index) },
                queue: core.queue.local(id).into(),
                slots: core.slots.local(id).into(),
            });
            let low = u8::from(plan.is_low_priority(index));
            core.base.rows.rows[index].is_low_priority.store(low, Relaxed);
            core.base.workers.get_mut().push(&raw const worker.base);
            core.workers.push(worker);
        }
        overflow::install()?;
        core.base.has_membarrier = crate::os::prepare_membarrier();
        // SAFETY: C1: the hook is signal-safe.
        unsafe { core.preempt.attach(detach::on_interrupt)? };
        let core = Box::into_raw(core).cast_const();
        let mut helpers = Vec::new();
        // SAFETY: leaked above; freed by `stop`.
        match unsafe { start(core, &config, &mut helpers) } {
            Ok(()) => Ok(Runtime {
                core,
                helpers,
                // SAFETY: C1: the runtime shuts it before it frees the core.
                handle: unsafe { Handle::new(base) },
            }),
            Err(error) => {
                // SAFETY: no thread was spawned, and nothing else refers to the core.
                unsafe { close::stop(core, helpers) };
                Err(error.into())
            }
        }
    }

    fn base(&self) -> &CoreBase {
        // SAFETY: the core lives as long as its runtime.
        unsafe { &(*self.core).base }
    }

    /// Runs `f` as a green thread and returns its value as soon as `f` returns. Threads that `f` spawned may
    /// still run; dropping the runtime waits for them (while its owner panics, dropping it is
    /// [`shutdown`](Self::shutdown)).
    ///
    /// Context: an OS thread, which blocks. `f` may borrow from its stack. Several OS threads may do this at
    /// once.
    ///
    /// # Panics
    ///
    /// With `f`'s payload if that panics. On a green thread, with the sentence of
    /// [`SchedError::NestedBlockOn`]; when a thread cannot be spawned, with that error's.
    #[track_caller]
    pub fn block_on<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        match self.try_block_on(f) {
            Ok(value) => value,
            Err(error) => thread::refused(error),
        }
    }

    /// [`block_on`](Self::block_on) that returns the error.
    ///
    /// # Errors
    ///
    /// [`SchedError::NestedBlockOn`] on a green thread; as [`Handle::try_spawn`] otherwise.
    ///
    /// # Panics
    ///
    /// With `f`'s payload if that panics.
    pub fn try_block_on<F, R>(&self, f: F) -> Result<R, SchedError>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        crate::kernel::worker::section::demand_outside();
        // Also while it has no worker.
        if park::current().is_some() {
            return Err(SchedError::NestedBlockOn);
        }
        // SAFETY: C1: joined below, before anything that `f` borrows can end. C2: no worker here. C3: the
        // core lives as long as `self`.
        let spawned = unsafe { thread::spawn_on(self.base(), None, None, move |_: &CancellationToken| f()) };
        let handle = spawned.map_err(|Refused(error, _)| error)?;
        let ran = handle.wait_and_see();
        match handle.join() {
            Ok(value) => Ok(value),
            Err(payload) => match payload.downcast::<SchedError>() {
                // The runtime's own; a payload of that type from `f` is the caller's.
                Ok(error) if !ran => Err(*error),
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(payload) => std::panic::resume_unwind(payload),
            },
        }
    }

    /// A handle to spawn with from outside.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The number of green threads that are alive.
    pub fn live_threads(&self) -> usize {
        self.base().live() as usize
    }

    /// The green threads that are alive, and what each does or waits for.
    ///
    /// A gauge: the figures of a thread that runs meanwhile may be of different moments.
    ///
    /// ```
    /// use gvt::{Builder, Runtime, WaitReason};
    /// let runtime = Runtime::new(Default::default());
    /// let (sender, receiver) = gvt::channel::<()>(0);
    /// runtime.handle().spawn_builder(Builder::new().name("server"), move |_| receiver.recv())?;
    /// # std::thread::sleep(std::time::Duration::from_millis(20));
    /// let threads = runtime.threads();
    /// assert_eq!(threads[0].name.as_deref(), Some("server"));
    /// assert_eq!(threads[0].reason, Some(WaitReason::ChannelRecv));
    /// # Ok::<(), gvt::SchedError>(())
    /// ```
    ///
    /// Context: anywhere; allocates. Looks at every record that was ever used.
    pub fn threads(&self) -> Vec<ThreadInfo> {
        report::threads(self.base())
    }

    /// [`threads`](Self::threads) as text, a line for each. The first line has their number, the last the
    /// number in each state.
    ///
    /// Context: as [`threads`](Self::threads).
    pub fn dump(&self) -> String {
        let threads = self.threads();
        format!("gvt: {} green threads{}", threads.len(), lines(&threads, usize::MAX))
    }

    /// Calls `hook` with reports of deadlocks, instead of printing them to stderr.
    ///
    /// The monitor calls it, and handles neither preemption nor timers meanwhile: keep it brief. Without
    /// [`SchedulerConfig::deadlock_report`] there are no reports.
    pub fn on_deadlock(&self, hook: impl Fn(&DeadlockReport) + Send + Sync + 'static) {
        self.base().deadlock.set_hook(Box::new(hook));
    }

    /// How many OS threads the runtime has, monitor and starter not counted.
    pub fn os_threads(&self) -> usize {
        self.base().pool.running()
    }

    /// Counts of rare events so far.
    pub fn counters(&self) -> RuntimeCounters {
        let base = self.base();
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        RuntimeCounters {
            asked_to_yield: read(&base.counters.asked),
            forced_preemptions: read(&base.counters.forced_preemptions),
            fast_preemptions: read(&base.counters.fast_preemptions),
            grace_expiries: read(&base.counters.grace_expired),
            workers_taken_from_blocked: read(&base.counters.workers_taken),
            blocking_calls: read(&base.counters.blocking_calls),
            rescues: read(&base.counters.rescues),
            spares_exhausted: read(&base.counters.spares_exhausted),
            workers_woken: read(&base.counters.workers_woken),
            longest_overrun: Duration::from_nanos(read(&base.counters.longest_overrun_ns)),
            os_threads: base.pool.running(),
            spare_os_threads: base.pool.spares(),
        }
    }

    /// Calls `f` with the allocator of stacks. That may hold locks that workers and the monitor take, so the
    /// calling thread is not preempted meanwhile.
    pub(crate) fn ask_slots<R>(&self, f: impl FnOnce(&S::Output) -> R) -> R {
        let _steady = crate::protocol::preempt_count::Steady::new();
        // SAFETY: the core lives as long as its runtime.
        f(&unsafe { &*self.core }.slots)
    }

    pub(crate) fn table(&self) -> &RecordTable {
        &self.base().table
    }

    pub(crate) fn default_class(&self) -> gvt_traits::StackClass {
        self.base().default_class
    }

    /// Cancels the root token and waits for all green threads. Threads that wait for ever, or for longer than
    /// a second, are unwound from their wait, so that their destructors run; their `join` returns
    /// [`SchedError::ShutDown`] as payload.
    ///
    /// In a program built with `panic = "abort"` no thread can be unwound. Such threads then keep waiting;
    /// once only such threads are left, this says so on stderr and returns, and the runtime is leaked.
    /// [`shutdown_timeout`](Self::shutdown_timeout) waits for them until its limit, since other threads may
    /// wake them.
    ///
    /// Context: an OS thread. On a green thread of this runtime it cannot wait for that thread: it says so on
    /// stderr and leaves the runtime running.
    pub fn shutdown(self) {
        // Waits for a thread that never stops, as `drop` does.
        let _ = self.end(None);
    }

    /// [`shutdown`](Self::shutdown) that gives up after `limit`; the runtime then stays, and its workers keep
    /// running.
    ///
    /// # Errors
    ///
    /// [`StillRunning`], with the number of threads that are left.
    pub fn shutdown_timeout(self, limit: Duration) -> Result<(), StillRunning> {
        match self.end(Some(limit)) {
            Closed::Empty => Ok(()),
            Closed::Left(threads) => Err(StillRunning { threads: threads as usize }),
        }
    }

    fn end(mut self, limit: Option<Duration>) -> Closed {
        let closed = self.close(Remaining::Unwind, limit);
        // Freed or leaked.
        self.core = std::ptr::null();
        closed
    }

    fn close(&mut self, remaining: Remaining, limit: Option<Duration>) -> Closed {
        self.handle.shut();
        let base = self.base();
        if remaining == Remaining::Unwind {
            crate::cancel::token::cancel_root(base);
        }
        if park::current().is_some_and(|me| std::ptr::eq(me.core(), base)) {
            eprintln!(
                "gvt: a runtime was dropped or shut down on one of its own green threads, which it cannot wait \
                 for; it is left running. Drop it on the thread that built it."
            );
            return Closed::Left(base.live());
        }
        let closed = close::close(base, remaining, limit);
        if closed == Closed::Empty {
            if base.debug {
                eprintln!("gvt: runtime ends");
            }
            // SAFETY: no thread is left, and the gate is shut.
            unsafe { close::stop(self.core, std::mem::take(&mut self.helpers)) };
        }
        closed
    }
}

/// Starts a runtime's OS threads: one for each worker; as `helpers` the monitor, and the starter where it is
/// needed.
///
/// # Safety
///
/// **C1**: `core` stays alive until `stop`.
unsafe fn start<A: Parts>(
    core: *const Core<A>,
    config: &SchedulerConfig,
    helpers: &mut Vec<std::thread::JoinHandle<()>>,
) -> Result<(), WorkerError> {
    // SAFETY: C1.
    let this: &'static Core<A> = unsafe { &*core };
    // All are started before one gets a worker: a worker may start a spare, which counts towards the bound.
    let mut started = Vec::with_capacity(this.workers.len());
    for _ in &this.workers {
        match start_os_thread(this, |_| ()) {
            Ok(os_thread) => started.push(os_thread),
            Err(error) => {
                started.into_iter().for_each(|os_thread| this.base.pool.add_spare(os_thread));
                return Err(error);
            }
        }
    }
    for (worker, os_thread) in this.workers.iter().zip(started) {
        os_thread.give(&worker.base);
    }
    // A period may be `Duration::MAX`; sums of periods must fit.
    let ns = |period: Duration| period.as_nanos().min(u128::from(u64::MAX / 8)) as u64;
    let periods = Periods {
        time_slice_ns: ns(config.time_slice),
        grace_ns: ns(config.grace_period),
        timer_interval_ns: ns(config.timer_interval),
        wake_wait_ns: ns(config.wake_wait),
        min_run_ns: ns(config.min_run),
        is_urgent: config.urgent_monitor,
        strength: if config.enable_forced_preempt {
            this.preempt.strength()
        } else {
            this.preempt.strength().min(Strength::AtSafepoints)
        },
    };
    let mut help = |name: &str, main: Box<dyn FnOnce() + Send>| {
        let started = std::thread::Builder::new().name(name.into()).spawn(main);
        helpers.push(started.map_err(|error| WorkerError::ThreadCreation {
            running: this.base.pool.running(),
            errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
        })?);
        Ok(())
    };
    if this.base.keeps_spare {
        help("gvt-starter", Box::new(move || spare_starter::run(this)))?;
    }
    help("gvt-monitor", Box::new(move || look::run(this, periods)))?;
    // OS threads that any thread starts from here on may run where the monitor may (`wake_affine::begin`).
    while this.base.monitor.thread_id() == 0 {
        std::thread::yield_now();
    }
    if config.debug_logging {
        eprintln!(
            "gvt: runtime of {} workers ({} for Low threads only), room for {} green threads",
            config.num_workers, config.num_low_priority_workers, config.max_gvthreads
        );
    }
    Ok(())
}

impl<Q, T, P, C, S> Drop for Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    fn drop(&mut self) {
        if !self.core.is_null() {
            // Threads may wait for something that this panicking caller was to do, and nothing else would
            // wake them.
            let remaining = if std::thread::panicking() { Remaining::Unwind } else { Remaining::Wait };
            let _ = self.close(remaining, None);
        }
    }
}

impl<Q, T, P, C, S> fmt::Debug for Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.base().worker_count)
            .field("live_threads", &self.live_threads())
            .finish_non_exhaustive()
    }
}

/// Counts of a runtime's rare events; see [`Runtime::counters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RuntimeCounters {
    /// Threads asked to yield at their next safepoint.
    pub asked_to_yield: u64,
    /// Threads preempted by the signal, together with their OS thread.
    pub forced_preemptions: u64,
    /// Threads preempted by the signal through a stack switch
    /// ([`Builder::reentrant`](crate::Builder::reentrant)).
    pub fast_preemptions: u64,
    /// How often the monitor found a thread still running after its grace period.
    pub grace_expiries: u64,
    /// Workers taken from OS threads that were blocked in the kernel.
    pub workers_taken_from_blocked: u64,
    /// Calls of [`blocking`](crate::blocking()) that handed off their worker.
    pub blocking_calls: u64,
    /// How often preempted threads were resumed without a worker, because the runtime itself waited for a
    /// lock, or a thread slept in a futex.
    pub rescues: u64,
    /// How often no spare OS thread was available.
    pub spares_exhausted: u64,
    /// How often a sleeping worker was woken for a thread.
    pub workers_woken: u64,
    /// The longest time that a thread was seen to run past its slice while others waited.
    pub longest_overrun: Duration,
    /// OS threads, monitor and starter not counted.
    pub os_threads: usize,
    /// OS threads that wait for a worker.
    pub spare_os_threads: usize,
}

impl fmt::Display for RuntimeCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "asked {}, preempted {} and {} by a switch, grace over {}, taken from blocked {}, blocking {}, rescues {}, spares \
             exhausted {}, workers woken {}, longest overrun {:?}, OS threads {} ({} spare)",
            self.asked_to_yield,
            self.forced_preemptions,
            self.fast_preemptions,
            self.grace_expiries,
            self.workers_taken_from_blocked,
            self.blocking_calls,
            self.rescues,
            self.spares_exhausted,
            self.workers_woken,
            self.longest_overrun,
            self.os_threads,
            self.spare_os_threads
        )
    }
}

/// [`Runtime::shutdown_timeout`] gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StillRunning {
    /// Threads that had not ended.
    pub threads: usize,
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the shutdown gave up with {} green thread{} still running; give it more time, or have them look at \
             their tokens",
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}

impl std::error::Error for StillRunning {}
