//! The parts of a running runtime.
//!
//! Two layers. [`CoreBase`] and [`WorkerBase`] are plain: records, idle set, counters; what `spawn` or a
//! `JoinHandle` needs without knowing the runtime's parts. [`Core`] and [`Worker`] add the parts, as types,
//! so that a queue's `pop` or a switch is a direct call. A free function such as `yield_now` finds its worker
//! and makes one indirect call, through [`Vtable`], into code that is compiled for exactly these parts.
//!
//! **Ownership.** A `Core` is one allocation. It outlives its `Runtime` while there are references to its
//! records (`JoinHandle`s and tokens may be kept for ever); see `lifecycle`.

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use gvt_traits::{
    ContextSwitch, MemoryError, Preemptor, PushKind, ReadyQueue, Runnable, SlotAllocator, StackClass,
    TimerBackend, TimerEntry, TimerHandle, WorkerState, WorkerTable,
};

use crate::kernel::state::deadlock::Watch;
use crate::kernel::state::lifecycle::Lifecycle;
use crate::kernel::state::monitor::MonitorState;
use crate::kernel::state::starter::StarterState;
use crate::kernel::state::upper::Upper;
use crate::kernel::thread::record::{Record, StackChoice};
use crate::kernel::thread::table::{Owner, RecordCache, RecordTable};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::scale::Scale;
use crate::kernel::worker::timer_moderation::Moderation;
use crate::kernel::worker::{os_thread, pool};
use crate::os::EventFd;
use crate::protocol::idle::{Class, IdleSet};
use crate::protocol::links::Changes;
use crate::protocol::mailbox::Mailbox;
use crate::protocol::parker::Parker;
use gvt_traits::GvtState;

/// The parts of a runtime, as one type.
pub(crate) trait Parts: Send + Sync + Sized + 'static {
    type Queue: ReadyQueue;
    type Timer: TimerBackend;
    type Preempt: Preemptor;
    type Context: ContextSwitch;
    type Slots: SlotAllocator;
}

/// An OS thread that carries a worker of a runtime.
pub(crate) type OsThread = os_thread::OsThread<WorkerBase>;
/// All OS threads of a runtime.
pub(crate) type Pool = pool::Pool<WorkerBase>;

impl OsThread {
    /// H2 of `os_thread`. Async-signal-safe.
    pub(crate) fn give(&self, worker: &WorkerBase) {
        self.give_beside(worker, worker.core().monitor.thread_id());
    }

    /// Restores the affinity of this OS thread, the calling one: it runs for longer than to pass a worker on.
    #[inline]
    pub(crate) fn settle(&self, core: &CoreBase) {
        self.settle_beside(core.monitor.thread_id());
    }
}

/// Entry points into code that is compiled for a runtime's parts.
pub(crate) struct Vtable {
    /// Lets other threads run; returns when it is this thread's turn again.
    pub(crate) yield_now: unsafe fn(&WorkerBase),
    /// Leaves the stack until the running thread's wait ends.
    pub(crate) park: unsafe fn(&WorkerBase),
    /// [`park`](Self::park) until the given thread ends; that thread should run next.
    pub(crate) park_for: unsafe fn(&WorkerBase, &Record),
    /// Queues a thread, through the calling worker if it is of this runtime, and wakes a sleeping worker if
    /// that helps.
    pub(crate) push: unsafe fn(&CoreBase, Runnable, PushKind),
    /// Queues a thread globally.
    pub(crate) inject: unsafe fn(&CoreBase, Runnable),
    /// Queues a new thread through the worker that the caller carries.
    pub(crate) push_spawned: unsafe fn(&WorkerBase, Runnable),
    /// Queues a woken thread through the worker that the caller carries.
    pub(crate) push_woken: unsafe fn(&WorkerBase, Runnable),
    pub(crate) insert_timer: unsafe fn(&CoreBase, TimerEntry) -> TimerHandle,
    pub(crate) cancel_timer: unsafe fn(&CoreBase, TimerHandle) -> Option<TimerEntry>,
    pub(crate) now_ns: unsafe fn(&CoreBase) -> u64,
    pub(crate) reserve_slots: unsafe fn(&CoreBase, StackClass, usize) -> Result<(), MemoryError>,
    pub(crate) class_for: unsafe fn(&CoreBase, usize) -> Result<StackClass, MemoryError>,
    pub(crate) stack_bounds: unsafe fn(&CoreBase, u32) -> (usize, usize),
    /// Gives the worker of this OS thread to another and keeps the OS thread; the running thread is bound to
    /// it until `handoff::resume`.
    pub(crate) release_worker: unsafe fn(&WorkerBase) -> bool,
    /// Makes interrupted code call into the scheduler; see `pinned`.
    pub(crate) divert: unsafe fn(&WorkerBase, *mut std::ffi::c_void) -> bool,
    /// A thread's first function, `first_frame::first_frame`.
    pub(crate) first_frame: unsafe extern "C" fn(*mut ()) -> !,
    /// Starts an OS thread, which becomes spare.
    pub(crate) start_spare: unsafe fn(&CoreBase) -> Option<&'static OsThread>,
    /// Frees the core.
    pub(crate) destroy: unsafe fn(*const CoreBase),
}

pub(crate) struct CoreBase {
    pub(crate) vtable: &'static Vtable,
    pub(crate) table: RecordTable,
    pub(crate) idle: IdleSet,
    pub(crate) rows: Box<WorkerTable>,
    pub(crate) worker_count: usize,
    pub(crate) wake_descriptor: EventFd,
    pub(crate) pool: Pool,
    pub(crate) starter: StarterState,
    /// Whether a spare OS thread is kept ready for forced preemption.
    pub(crate) keeps_spare: bool,
    /// The signals that the runtime's creator blocked; each of its OS threads blocks them at its start.
    pub(crate) signal_mask: u64,
    /// Whether the kernel has `membarrier`, for `retake`.
    pub(crate) has_membarrier: bool,
    pub(crate) monitor: MonitorState,
    pub(crate) deadlock: Watch,
    pub(crate) counters: Counters,
    pub(crate) lifecycle: Lifecycle,
    /// The runtime's root token is cancelled.
    pub(crate) cancelled: AtomicBool,
    /// Changes of threads' links to their parents; beside the root token, which a climb along the links reads
    /// last.
    pub(crate) changes: Changes,
    /// Threads spawned from outside all workers.
    pub(crate) spawned_outside: AtomicU64,
    /// By index. Written while the runtime is built.
    pub(crate) workers: UnsafeCell<Vec<*const WorkerBase>>,
    /// The deadline that an idle worker watches; `u64::MAX` for none.
    pub(crate) timer_watch_ns: AtomicU64,
    /// The worker that waits in a backend's descriptor, plus one.
    pub(crate) poller: AtomicU32,
    /// The stack class of threads that ask for none.
    pub(crate) default_class: StackClass,
    /// Maps the timer backend's clock to instants, if it has its own.
    pub(crate) scale: Option<Scale>,
    pub(crate) upper: Box<dyn Upper>,
    /// Whether that clock moves only when the runtime lets it.
    pub(crate) is_virtual: bool,
    /// Random numbers drawn under such a clock. Relaxed: only that they differ matters.
    pub(crate) draws: AtomicU64,
    /// Live threads of the other classes.
    pub(crate) admitted: [AtomicUsize; StackClass::COUNT],
    pub(crate) debug: bool,
    /// Threads that have returned from the kernel and are to be queued (`detach::come_back`).
    pub(crate) returning: Mailbox<Record>,
    /// Whether threads change OS threads at every turn, for tests.
    pub(crate) migrates: bool,
}

// SAFETY: `workers` is written before the core is shared, and only read afterwards; the rest is `Sync`.
unsafe impl Sync for CoreBase {}
// SAFETY: as for `Sync`; the rest is `Send`.
unsafe impl Send for CoreBase {}

impl CoreBase {
    pub(crate) fn workers(&self) -> &[*const WorkerBase] {
        // SAFETY: written before the core is shared.
        unsafe { &*self.workers.get() }
    }

    pub(crate) fn worker(&self, index: usize) -> &WorkerBase {
        // SAFETY: workers live as long as the core.
        unsafe { &*self.workers()[index] }
    }

    /// Ensures that so many threads of the default class can have stacks.
    pub(crate) fn reserve_slots(&self, threads: usize) -> Result<(), MemoryError> {
        // SAFETY: the table belongs to this core's type.
        unsafe { (self.vtable.reserve_slots)(self, self.default_class, threads) }
    }

    /// The class of a stack of `bytes`, 0 for the default, with room for one more thread of it. Unless it is
    /// the default, [`discharge`](Self::discharge) must follow.
    #[cold]
    pub(crate) fn admit(&self, bytes: usize) -> Result<StackChoice, MemoryError> {
        if bytes == 0 {
            return Ok(StackChoice::DEFAULT);
        }
        // SAFETY: the table belongs to this core's type.
        let class = unsafe { (self.vtable.class_for)(self, bytes)? };
        if class == self.default_class {
            return Ok(StackChoice::DEFAULT);
        }
        // Relaxed: a count. Each caller reserves as many slots as its increment made it, so the last one
        // reserves enough for all.
        let threads = self.admitted[class.index()].fetch_add(1, Relaxed) + 1;
        // A thread is discharged before it leaves its slot: each worker may have one such slot in use.
        // SAFETY: the table belongs to this core's type.
        match unsafe { (self.vtable.reserve_slots)(self, class, threads + self.worker_count) } {
            Ok(()) => Ok(StackChoice::of(class)),
            Err(error) => {
                self.discharge(StackChoice::of(class));
                Err(error)
            }
        }
    }

    /// A thread of that class has ended, or was refused.
    #[inline]
    pub(crate) fn discharge(&self, choice: StackChoice) {
        if let Some(class) = choice.class() {
            self.admitted[class.index()].fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        // SAFETY: the table belongs to this core's type.
        unsafe { (self.vtable.now_ns)(self) }
    }

    /// Whether every worker has announced itself idle.
    pub(crate) fn are_all_idle(&self) -> bool {
        self.idle.sleepers().count_ones() as usize == self.worker_count
    }

    /// Queues a thread for any worker, without touching the caller's.
    pub(crate) fn inject(&self, task: Runnable) {
        // SAFETY: the table belongs to this core's type.
        unsafe { (self.vtable.inject)(self, task) }
    }

    pub(crate) fn push(&self, task: Runnable, kind: PushKind) {
        // SAFETY: the table belongs to this core's type.
        unsafe { (self.vtable.push)(self, task, kind) }
    }

    /// Wakes worker `index`, which was taken out of the idle set.
    #[cold]
    pub(crate) fn unpark(&self, index: usize) {
        Counters::add(&self.counters.workers_woken);
        self.worker(index).parker.unpark(|| self.wake_descriptor.signal());
    }

    /// Live threads: spawned and not ended. Exact if nothing changes meanwhile; zero is returned only if it
    /// was true at some moment of the call.
    pub(crate) fn live(&self) -> u64 {
        // ORDERING O1: the ends are read first. Each end is counted after its spawn, so if the later sum of
        // spawns equals the earlier sum of ends, no thread was alive in between.
        let ended: u64 = self.workers().iter().map(|&w| unsafe_ref(w).ended.load(SeqCst)).sum();
        let spawned: u64 = self.workers().iter().map(|&w| unsafe_ref(w).spawned.load(SeqCst)).sum();
        (spawned + self.spawned_outside.load(SeqCst)).saturating_sub(ended)
    }
}

fn unsafe_ref<'a>(worker: *const WorkerBase) -> &'a WorkerBase {
    // SAFETY: workers live as long as their core, which alone calls this.
    unsafe { &*worker }
}

/// What the code that runs next on a worker does for the thread that left: one word, whose low bits say what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct After(usize);

impl After {
    /// Nothing.
    pub(crate) const NOTHING: After = After(0);
    const YIELDED: usize = 1;
    const PARKED: usize = 2;
    const ENDED: usize = 3;
    const PREEMPTED: usize = 4;
    const KIND: usize = 7;

    /// It was preempted by force: queue it, behind the others.
    pub(crate) fn preempted(record: &Record) -> Self {
        After(&raw const *record as usize | Self::PREEMPTED)
    }

    /// It yielded: queue it.
    #[inline]
    pub(crate) fn yielded(record: &Record) -> Self {
        After(&raw const *record as usize | Self::YIELDED)
    }

    /// It parks: commit the wait.
    #[inline]
    pub(crate) fn parked(record: &Record) -> Self {
        After(&raw const *record as usize | Self::PARKED)
    }

    /// It ended: release its slot.
    #[inline]
    pub(crate) fn ended(slot: u32) -> Self {
        After((slot as usize) << 3 | Self::ENDED)
    }

    /// The thread that yielded, if one did.
    #[inline(always)]
    pub(crate) fn yielder(self) -> Option<*const Record> {
        (self.0 & Self::KIND == Self::YIELDED).then_some((self.0 & !Self::KIND) as *const Record)
    }

    /// Everything but a yield.
    #[inline]
    pub(crate) fn decode(self) -> Departed {
        let record = (self.0 & !Self::KIND) as *const Record;
        match self.0 & Self::KIND {
            Self::PARKED => Departed::Parked(record),
            Self::PREEMPTED => Departed::Preempted(record),
            Self::ENDED => Departed::Ended((self.0 >> 3) as u32),
            _ => Departed::Nobody,
        }
    }
}

/// [`After`], decoded.
pub(crate) enum Departed {
    Nobody,
    Parked(*const Record),
    Preempted(*const Record),
    Ended(u32),
}

/// A worker's plain part. Its cells belong to the OS thread that carries the worker.
#[repr(C)]
pub(crate) struct WorkerBase {
    pub(crate) vtable: &'static Vtable,
    pub(crate) core: *const CoreBase,
    /// Its row in the worker table.
    row: *const WorkerState,
    /// The thread that runs here.
    pub(crate) current: Cell<*const Record>,
    pub(crate) after: Cell<After>,
    pub(crate) index: usize,
    /// A thread that must continue on another OS thread.
    pub(crate) handoff: Cell<*const Record>,
    /// It was woken to search and has found no thread yet.
    pub(crate) searching: Cell<bool>,
    /// Woken threads that were pushed since the last scheduling decision, and, while a worker sleeps, spawned
    /// ones. The first of them may be kept.
    pub(crate) wakes: Cell<u32>,
    /// The clock as last read here, or by the monitor for this worker. Relaxed: for reports.
    pub(crate) coarse_ns: AtomicU64,
    pub(crate) moderation: Moderation,
    /// When it was woken for a first child, or when its nap ended with one pending (`idle`), if it has not
    /// slept since.
    pub(crate) errand_ns: Cell<Option<u64>>,
    /// User-visible ids: the next one, and the end of this worker's batch.
    pub(crate) ids: Cell<(u64, u64)>,
    /// Deferred releases of references to a parent's record: which record, and how many.
    pub(crate) deferred: Cell<(*const Record, u32)>,
    pub(crate) records: UnsafeCell<RecordCache>,
    /// Written by the carrier only; summed by others.
    pub(crate) spawned: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// The monitor's offer: the OS thread that takes the worker if its thread is preempted by force.
    pub(crate) preempt_spare: AtomicPtr<OsThread>,
    /// The OS thread that carries the worker; null on the way to the next one.
    carrier: AtomicPtr<OsThread>,
    /// Asks for maintenance at the next scheduling decision.
    pub(crate) need_resched: AtomicBool,
    pub(crate) parker: Parker,
}

impl WorkerBase {
    /// Wakes a sleeping worker for a new thread, unless that is a first child and a worker naps (`idle`).
    #[inline]
    pub(crate) fn offer_child(&self) {
        if self.core().idle.sleepers() != 0 {
            self.offer_child_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn offer_child_slow(&self) {
        let core = self.core();
        let pushed = self.wakes.get();
        self.wakes.set(pushed + 1);
        let chosen = if pushed == 0 { core.idle.choose_for_child() } else { core.idle.choose(Class::Normal) };
        if let Some(index) = chosen {
            core.unpark(index);
        }
    }

    /// # Safety
    ///
    /// **C1**: `core` is initialised and outlives the worker.
    pub(crate) unsafe fn new(vtable: &'static Vtable, core: *const CoreBase, index: usize) -> Self {
        WorkerBase {
            vtable,
            core,
            // SAFETY: rows are allocated before the workers, and live as long.
            row: unsafe { &raw const (&(*core).rows.rows)[index] },
            current: Cell::new(ptr::null()),
            after: Cell::new(After::NOTHING),
            index,
            handoff: Cell::new(ptr::null()),
            searching: Cell::new(false),
            wakes: Cell::new(0),
            coarse_ns: AtomicU64::new(0),
            moderation: Moderation::new(),
            errand_ns: Cell::new(None),
            ids: Cell::new((0, 0)),
            deferred: Cell::new((ptr::null(), 0)),
            records: UnsafeCell::new(RecordCache::new()),
            spawned: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            preempt_spare: AtomicPtr::new(ptr::null_mut()),
            carrier: AtomicPtr::new(ptr::null_mut()),
            need_resched: AtomicBool::new(false),
            parker: Parker::new(),
        }
    }

    #[inline]
    pub(crate) fn core(&self) -> &CoreBase {
        // SAFETY: the core owns its workers.
        unsafe { &*self.core }
    }

    /// The running thread's record; only on a worker that runs a thread.
    #[inline]
    pub(crate) fn current(&self) -> &Record {
        debug_assert!(!self.current.get().is_null());
        // SAFETY: records outlive their threads.
        unsafe { &*self.current.get() }
    }

    #[inline]
    pub(crate) fn row(&self) -> &WorkerState {
        // SAFETY: C1 of `new`.
        unsafe { &*self.row }
    }

    /// Notes the OS thread that carries the worker. Relaxed: a hint for the monitor, whose next steps check
    /// it.
    pub(crate) fn set_carrier(&self, os_thread: Option<&OsThread>) {
        let thread_id = os_thread.map_or(0, |os_thread| os_thread.thread_id.load(Relaxed) as u64);
        self.row().thread_id.store(thread_id, Relaxed);
        self.carrier
            .store(os_thread.map_or(ptr::null_mut(), |place| ptr::from_ref(place).cast_mut()), Relaxed);
    }

    /// The OS thread that carries the worker, or null. An entry outlives its OS thread.
    pub(crate) fn carrier(&self) -> *const OsThread {
        self.carrier.load(Relaxed)
    }

    /// Adds to the activity counter, and returns it. Relaxed: a gauge, written by the carrier only.
    #[inline]
    pub(crate) fn count_activity(&self, by: u32) -> u32 {
        let counter = &self.row().activity_counter;
        let count = counter.load(Relaxed).wrapping_add(by);
        counter.store(count, Relaxed);
        count
    }

    #[inline]
    pub(crate) fn count_spawned(&self) {
        // ORDERING O1: Release pairs with the loads in `CoreBase::live`; no read-modify-write, since only the
        // carrier writes.
        self.spawned.store(self.spawned.load(Relaxed) + 1, Release);
    }

    #[inline]
    pub(crate) fn count_ended(&self) {
        // ORDERING O1: as in `count_spawned`.
        self.ended.store(self.ended.load(Relaxed) + 1, Release);
    }
}

/// A worker with its local ends of the parts.
#[repr(C)]
pub(crate) struct Worker<P: Parts> {
    pub(crate) base: WorkerBase,
    pub(crate) queue: UnsafeCell<<P::Queue as ReadyQueue>::Local>,
    pub(crate) slots: UnsafeCell<<P::Slots as SlotAllocator>::Local>,
}

/// A runtime with its parts.
#[repr(C)]
pub(crate) struct Core<P: Parts> {
    pub(crate) base: CoreBase,
    pub(crate) queue: P::Queue,
    pub(crate) timer: P::Timer,
    pub(crate) preempt: P::Preempt,
    pub(crate) slots: P::Slots,
    pub(crate) workers: Vec<Box<Worker<P>>>,
}

// SAFETY: a worker's cells and local ends are used only by the OS thread that carries it; they are `Send`,
// and handing a worker over orders the accesses (`os_thread`). The parts are `Sync`.
unsafe impl<P: Parts> Sync for Core<P> {}
// SAFETY: as for `Sync`; cells and ends are `Send`.
unsafe impl<P: Parts> Send for Core<P> {}

impl<P: Parts> Core<P> {
    /// # Safety
    ///
    /// **C1**: `base` is the first field of a `Core<P>`.
    #[inline]
    pub(crate) unsafe fn of(base: &CoreBase) -> &Core<P> {
        // SAFETY: C1 and `repr(C)`.
        unsafe { &*(&raw const *base).cast() }
    }

    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.timer.now_ns().unwrap_or_else(crate::os::monotonic_ns)
    }
}

impl<P: Parts> Worker<P> {
    /// # Safety
    ///
    /// **C1**: `base` is the first field of a `Worker<P>`.
    #[inline]
    pub(crate) unsafe fn of(base: &WorkerBase) -> &Worker<P> {
        // SAFETY: C1 and `repr(C)`.
        unsafe { &*(&raw const *base).cast() }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core<P> {
        // SAFETY: a worker's core has its type, and `CoreBase` is its first field.
        unsafe { &*self.base.core.cast() }
    }

    /// This worker's end of the queue.
    ///
    /// # Safety
    ///
    /// **C1**: the calling OS thread carries the worker, and no other such borrow is live.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "C1 makes it exclusive")]
    pub(crate) unsafe fn queue(&self) -> &mut <P::Queue as ReadyQueue>::Local {
        // SAFETY: C1: carried here, no other borrow.
        unsafe { &mut *self.queue.get() }
    }

    /// This worker's slot cache.
    ///
    /// # Safety
    ///
    /// C1 of [`queue`](Self::queue).
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "C1 makes it exclusive")]
    pub(crate) unsafe fn slots(&self) -> &mut <P::Slots as SlotAllocator>::Local {
        // SAFETY: C1: carried here, no other borrow.
        unsafe { &mut *self.slots.get() }
    }
}

/// Maintenance (timers, deferred releases) is done at every this-many-th decision. A safepoint counts as this
/// many decisions, so that it does not disturb the rhythm.
pub(crate) const MAINTENANCE: u32 = 64;

/// Notes that `record` runs on this worker.
#[inline]
pub(crate) fn install(base: &WorkerBase, record: &Record) {
    record.set_state(GvtState::Running);
    record.meta.worker_id.store(base.index as u32, Relaxed);
    base.current.set(record);
    base.row().current_gvthread.store(record.meta.gvthread_id, Relaxed);
}

impl Owner for CoreBase {
    fn address(&self) -> *mut () {
        ptr::from_ref(self).cast_mut().cast()
    }

    fn workers(&self) -> usize {
        self.worker_count
    }

    fn reserve(&self, threads: usize) -> Result<(), MemoryError> {
        self.reserve_slots(threads)
    }
}

impl Record {
    /// The runtime that the record belongs to.
    #[inline]
    pub(crate) fn core(&self) -> &CoreBase {
        // Relaxed: written once, before the record is first handed out.
        let core = self.meta.runtime.load(Relaxed) as *const CoreBase;
        // SAFETY: the core outlives its table.
        unsafe { &*core }
    }
}

impl CoreBase {
    /// Ensures that the monitor finds spare OS threads.
    pub(crate) fn keep_spare(&self) {
        if self.keeps_spare && self.pool.missing() > 0 {
            self.starter.ask();
        }
    }
}

/// A spare OS thread, a new one if there is none and the limit allows it.
pub(crate) fn spare(core: &CoreBase) -> Option<&'static OsThread> {
    // SAFETY: the table belongs to this core's type.
    core.pool.take_spare().or_else(|| unsafe { (core.vtable.start_spare)(core) })
}
