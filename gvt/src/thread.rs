//! Spawning, yielding, and what a thread knows of itself.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use gvt_traits::{GvtState, Priority, PushKind, SchedError};

use crate::join_handle::JoinHandle;
use crate::park::{self, ShutdownUnwind};
use crate::sched::core::{CoreBase, WorkerBase};
use crate::sched::local;
use crate::sched::record::{Cold, EntryFn, Outcome, PINNED, REENTRANT, Record, StackChoice, Step};
use crate::sched::resident::Stay;
use crate::sync::give_way;
use crate::token::{self, Borrowed, CancellationToken};
use crate::user;

/// User-visible ids that a worker draws at once. As with Go's goroutine ids, ids drawn by one worker
/// grow, and none is used twice in a process.
const ID_BATCH: u64 = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The unique number of a green thread: never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub(crate) u64);

impl ThreadId {
    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

impl std::fmt::Display for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which OS threads a thread may run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Migration {
    /// Any: after whatever yields or waits the OS thread may be another.
    #[default]
    Free,
    /// One, which is its own: from its closure's first instruction to its last the thread runs on one OS thread, and
    /// meanwhile no other green thread runs there.
    ///
    /// So everything holds that holds on an OS thread: thread-locals keep their address and their value over every wait, also
    /// borrowed ones; guards and handles that are bound to an OS thread may be held. Each pinned thread takes one OS thread of
    /// [`max_os_threads`](crate::SchedulerConfig::max_os_threads), at the bound of which others run beside it, and each
    /// change to and from it costs a hand-over in the kernel, some 5 to 10 µs.
    Pinned,
}

/// What to spawn a thread with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) tag: u64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: Priority,
    pub(crate) affinity: Option<usize>,
    pub(crate) token: Option<CancellationToken>,
    /// 0: the default.
    pub(crate) stack_bytes: usize,
    pub(crate) migration: Migration,
    pub(crate) reentrant: bool,
}

/// Spawns a green thread.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let thread = gvt::spawn(|token| {
///     let mut turns = 0;
///     while !token.is_cancelled() {
///         turns += 1;
///         gvt::yield_now();
///     }
///     turns
/// });
/// gvt::sleep_ms(1);
/// thread.token().cancel();
/// assert!(thread.join().unwrap() > 0);
/// # });
/// ```
///
/// The closure receives the thread's own [`CancellationToken`], a child of the spawning thread's. The
/// new thread takes its turn when this one waits, yields or ends, or at once on an idle worker. Dropping
/// the handle leaves the thread running; dropping the [`Runtime`](crate::Runtime) waits for it.
///
/// Context: a green thread. Does not block; allocates only if the closure is larger than 64 bytes.
///
/// # Panics
///
/// Outside a runtime, and when `max_gvthreads` threads are alive: with the sentence of the
/// [`SchedError`] that [`try_spawn`] returns instead.
#[inline]
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    match try_spawn(f) {
        Ok(handle) => handle,
        Err(error) => refused(error),
    }
}

#[cold]
#[track_caller]
pub(crate) fn refused(error: SchedError) -> ! {
    panic!("{error}")
}

/// [`spawn`] that returns the error.
///
/// # Errors
///
/// [`SchedError::NoRuntime`] outside a runtime; [`SchedError::TooManyThreads`];
/// [`SchedError::Memory`] if address space for one more stack cannot be reserved.
#[inline]
pub fn try_spawn<F, T>(f: F) -> Result<JoinHandle<T>, SchedError>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing that the closure borrows can end: it is `'static`.
    unsafe { spawn_here(None, f) }
}

/// [`spawn`] at a priority other than [`Priority::Normal`].
///
/// Under the default queue Critical and High threads run before Normal ones, and Low ones when there is nothing
/// else; while more urgent threads are always ready, the others still get a share. Other queues have other orders;
/// one of [`Order::Fair`](gvt_traits::Order::Fair) ignores priorities.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let urgent = gvt::spawn_with_priority(|_| gvt::current_priority(), gvt::Priority::Critical);
/// assert_eq!(urgent.join().unwrap(), Some(gvt::Priority::Critical));
/// # });
/// ```
///
/// # Panics
///
/// As [`spawn`].
#[track_caller]
pub fn spawn_with_priority<F, T>(f: F, priority: Priority) -> JoinHandle<T>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().priority(priority).spawn(f) {
        Ok(handle) => handle,
        Err(error) => refused(error),
    }
}

/// Spawns a thread with a name, a priority, a preferred worker, or a stack of another size.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let handle = gvt::Builder::new().name("counter").spawn(|_| gvt::current_name())?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("counter"));
/// # Ok::<(), gvt::SchedError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) options: Options,
}

impl Builder {
    /// A nameless thread of Normal priority.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the thread: in reports of panics, overflows and deadlocks.
    ///
    /// Of panics if the process has std's own panic hook when its first runtime is built. Other hooks get the name from
    /// [`current_name`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into().into());
        self
    }

    /// Sets how urgent it is; see [`spawn_with_priority`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// Names the worker that it should rather run on. A wish: an idle worker may take it all the same.
    pub fn affinity(mut self, worker: usize) -> Self {
        self.options.affinity = Some(worker);
        self
    }

    /// Spawns it under `token`: the thread's own token is a child of that one, and not of the spawning thread's. (For both,
    /// let `token` be a child of the spawning thread's.) A shutdown of the runtime cancels it all the same.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let group = gvt::CancellationToken::new();
    /// let thread = gvt::Builder::new().token(&group).spawn(|token| token.cancelled().wait())?;
    /// group.cancel();
    /// thread.join().unwrap();
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn token(mut self, token: &CancellationToken) -> Self {
        self.options.token = Some(token.clone());
        self
    }

    /// Asks for a stack of `bytes` of address space, instead of the runtime's default: the thread gets one of the
    /// smallest class of the runtime that is as large. With the default slots there are classes of 64 KiB, 256 KiB, 1 MiB
    /// and 16 MiB. The guard and some staggering go off it; three quarters at least are stack.
    ///
    /// 0 asks for the default. A thread in 64 KiB costs about 4.5 KiB while it waits, one in 16 MiB about 8.5.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let small = gvt::Builder::new().stack_size(64 << 10).spawn(|_| 1 + 1)?;
    /// assert_eq!(small.join().unwrap(), 2);
    /// let error = gvt::Builder::new().stack_size(1 << 40).spawn(|_| ()).unwrap_err();
    /// assert!(error.to_string().contains("the largest slot is 16 MiB"), "{error}");
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.options.stack_bytes = bytes;
        self
    }

    /// Sets which OS threads it may run on.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// use std::cell::Cell;
    /// thread_local!(static TURNS: Cell<u32> = const { Cell::new(0) });
    ///
    /// let pinned = gvt::Builder::new().migration(gvt::Migration::Pinned).spawn(|_| {
    ///     TURNS.with(|turns| {
    ///         let before = turns.get();
    ///         // Over a wait, which threads that migrate may not do.
    ///         gvt::sleep_us(100);
    ///         turns.set(before + 1);
    ///         turns.get()
    ///     })
    /// })?;
    /// assert_eq!(pinned.join().unwrap(), 1);
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn migration(mut self, migration: Migration) -> Self {
        self.options.migration = migration;
        self
    }

    /// Lets the thread be taken off by a stack switch: a forced preemption then costs about what a signal costs, and puts no
    /// OS thread to sleep, as long as reentrant threads follow each other. Without this, and always where it cannot be done (the thread
    /// is pinned, or unwinds, or little of its stack is left, or it is in another signal's handler), the whole OS thread is put to
    /// sleep, which is right for any code.
    ///
    /// The thread resumes on the same OS thread, so the addresses of its thread-locals stay right.
    ///
    /// # Safety
    ///
    /// While the closure runs, from its first instruction to its last and the destructors of its locals included, any other
    /// reentrant thread may run on the same OS thread between any two instructions. So the code must be reentrant, as a signal
    /// handler's must be. It may compute, on its own stack and on memory that is its own or atomic, and call this crate's
    /// functions as far as these do not allocate. It must not:
    ///
    /// - allocate or free memory, also hidden in `Vec`, `String`, `Box`, `Arc`, formatting, or a collection that grows;
    /// - take a lock that knows its OS thread or that another such thread takes too: std's, parking_lot's, libc's (standard
    ///   output among them), or one that spins;
    /// - touch a `thread_local!`, borrowed or not, or what uses one: `HashMap::new`, `rand::rng`, `std::thread::current`;
    /// - panic, or unwind through its frames: that allocates, takes locks, and counts in a thread-local;
    /// - call foreign functions that are not async-signal-safe, or any through a symbol that is bound lazily;
    /// - rely on `errno` over more than one instruction.
    ///
    /// What it needs (buffers, handles) it takes along in the closure, and what is to be freed it returns: the closure is
    /// unpacked before, and the result stored after, under the ordinary preemption.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let numbers: Vec<u64> = (0..10_000).collect();
    /// let builder = gvt::Builder::new();
    /// // SAFETY: it reads memory of its own, and returns it with the sum, to be freed by whoever joins.
    /// let builder = unsafe { builder.reentrant() };
    /// let handle = builder.spawn(move |_| (numbers.iter().sum::<u64>(), numbers))?;
    /// assert_eq!(handle.join().unwrap().0, 49_995_000);
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub unsafe fn reentrant(mut self) -> Self {
        self.options.reentrant = true;
        self
    }

    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`]; [`SchedError::Memory`] if there is no stack as large as asked, or no room for one more; [`SchedError::Config`] for a worker number that no runtime has.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        check(&self.options)?;
        // SAFETY: `'static`.
        unsafe { spawn_here(Some(self.options), staying(f)) }
    }

    pub(crate) fn into_options(self) -> Result<Options, SchedError> {
        check(&self.options)?;
        Ok(self.options)
    }
}

/// `f`, on the OS thread and in the mode that its `Builder` has asked for.
pub(crate) fn staying<F, T>(f: F) -> impl FnOnce(&CancellationToken) -> T + Send
where
    F: FnOnce(&CancellationToken) -> T + Send,
{
    move |token| {
        let _stay = Stay::begin();
        f(token)
    }
}

fn check(options: &Options) -> Result<(), SchedError> {
    match options.affinity {
        Some(worker) if worker >= gvt_traits::MAX_WORKERS => Err(SchedError::Config {
            setting: "affinity",
            problem: format!(
                "worker {worker} was asked for, but workers are numbered below {}",
                gvt_traits::MAX_WORKERS
            ),
        }),
        _ => Ok(()),
    }
}

/// Spawns from the running green thread.
///
/// # Safety
///
/// **C1**: the thread ends, and its result is dropped or taken, before anything that `F` or `T` borrow ends.
#[inline]
pub(crate) unsafe fn spawn_here<F, T>(options: Option<Options>, f: F) -> Result<JoinHandle<T>, SchedError>
where
    F: FnOnce(&CancellationToken) -> T + Send,
    T: Send,
{
    give_way();
    let worker = local::enter_from_outside();
    // SAFETY: a carried worker is alive.
    let Some(worker) = (unsafe { worker.as_ref() }) else {
        local::leave();
        return Err(SchedError::NoRuntime { call: "spawn" });
    };
    // SAFETY: C1; entered, on the worker's OS thread.
    let spawned = unsafe { spawn_on(worker.core(), Some(worker), options, f) };
    local::leave();
    // What was refused is dropped here, outside the runtime: its destructor is user code.
    spawned.map_err(|Refused(error, _)| error)
}

/// Why a thread was not spawned, and what it was to run.
pub(crate) struct Refused<F>(pub(crate) SchedError, pub(crate) F);

/// Spawns on a runtime, from one of its workers or from outside. The closure comes back if it is refused;
/// the caller drops it outside the runtime and without a lock.
///
/// # Safety
///
/// C1 of [`spawn_here`]; **C2**: `worker` is carried by this OS thread, inside the runtime, and of this
/// core; **C3**: the core is alive throughout.
#[inline]
pub(crate) unsafe fn spawn_on<F, T>(
    core: &CoreBase,
    worker: Option<&WorkerBase>,
    options: Option<Options>,
    f: F,
) -> Result<JoinHandle<T>, Refused<F>>
where
    F: FnOnce(&CancellationToken) -> T + Send,
    T: Send,
{
    let choice = match &options {
        None => StackChoice::DEFAULT,
        Some(options) => match core.admit(options.stack_bytes) {
            Ok(choice) => choice,
            Err(error) => return Err(Refused(error.into(), f)),
        },
    };
    // SAFETY: C2: the cache is the carrier's.
    let cache = worker.map(|worker| unsafe { &mut *worker.records.get() });
    let record = match core.table.allocate(core, cache) {
        Ok(record) => record,
        Err(error) => {
            core.discharge(choice);
            return Err(Refused(error, f));
        }
    };
    // SAFETY: fresh from the table, and this call's alone.
    let record = unsafe { record.as_ref() };
    let meta = &record.meta;

    // Relaxed throughout, but where it says more: pushing the token publishes the record.
    meta.preempt_flag.store(0, Relaxed);
    // ORDERING O1: Release pairs with the looks along links that have led here by mistake (L6 of `links`); so does the link's.
    meta.cancelled.store(0, Release);
    meta.flags.store(choice.as_flags(), Relaxed);
    meta.wait_reason.store(0, Relaxed);
    meta.wake_time_ns.store(0, Relaxed);
    meta.join_waiters.store(0, Relaxed);
    meta.outcome.store(Outcome::None as u8, Relaxed);
    meta.priority.store(Priority::Normal as u8, Relaxed);
    meta.affinity.store(u8::MAX, Relaxed);
    // One that the thread shares with its handle, and what it may hand to its children.
    meta.references.store(1 + token::CREDIT, Relaxed);
    meta.children_credit.store(token::CREDIT, Relaxed);
    record.set_state(GvtState::Created);
    let parent = worker.and_then(|worker| {
        meta.worker_id.store(worker.index as u32, Relaxed);
        // SAFETY: the running thread's record is mapped; null on the worker's own stack.
        unsafe { worker.current.get().as_ref() }
    });
    // SAFETY: C2: the parent is the running thread.
    let parent = parent.map_or(u32::MAX, |parent| unsafe { token::take_parent(parent) }.index());
    // ORDERING O1: as of `cancelled`.
    meta.parent_id.store(parent, Release);
    meta.unique_id.store(next_id(worker), Relaxed);
    if let Some(options) = options {
        apply(record, options);
    }
    meta.entry_fn.store(entry::<F, T> as EntryFn as usize as u64, Relaxed);
    // SAFETY: the storage of a fresh record holds nothing.
    unsafe { record.put(&meta.entry_arg, f) };
    // SAFETY: C1 of `runnable`: it is ready now, and this is its first token.
    let task = unsafe { record.runnable() };
    match worker {
        Some(worker) => {
            worker.count_spawned();
            // SAFETY: C2.
            unsafe { (worker.vtable.push_spawned)(worker, task) };
        }
        None => {
            // ORDERING: SeqCst pairs with the loads in `CoreBase::live`.
            core.spawned_outside.fetch_add(1, SeqCst);
            core.push(task, PushKind::Spawn);
        }
    }
    // SAFETY: C1: the thread's end leaves the record to its handle.
    Ok(unsafe { JoinHandle::from_record(record) })
}

#[cold]
fn apply(record: &Record, options: Options) {
    record.meta.priority.store(options.priority as u8, Relaxed);
    if let Some(worker) = options.affinity {
        record.meta.affinity.store(worker as u8, Relaxed);
        record.meta.worker_id.store(worker as u32, Relaxed);
    }
    let mut flags = record.meta.flags.load(Relaxed);
    if options.migration == Migration::Pinned {
        flags |= PINNED;
    }
    if options.reentrant {
        flags |= REENTRANT;
    }
    // Relaxed: as in `spawn_on`.
    record.meta.flags.store(flags, Relaxed);
    if options.token.is_some() {
        token::adopt(record);
    }
    let Options { tag, name, token, .. } = options;
    if tag != 0 || name.is_some() || token.is_some() {
        record.set_cold(Box::new(Cold { tag, name, token, ..Cold::default() }));
    }
}

#[inline]
fn next_id(worker: Option<&WorkerBase>) -> u64 {
    let Some(worker) = worker else {
        return NEXT_ID.fetch_add(1, Relaxed);
    };
    let (mut next, mut end) = worker.ids.get();
    if next == end {
        next = NEXT_ID.fetch_add(ID_BATCH, Relaxed);
        end = next + ID_BATCH;
    }
    worker.ids.set((next + 1, end));
    next
}

/// A thread's code: see [`EntryFn`].
///
/// # Safety
///
/// **C1**: called as the step says: `Run` or `Refuse` once, by the thread's own runner, with the closure stored;
/// `DropResult` once, by whoever owns the stored outcome.
unsafe fn entry<F, T>(record: &Record, step: Step)
where
    F: FnOnce(&CancellationToken) -> T,
{
    match step {
        Step::Run => {
            // SAFETY: C1: `spawn_on` stored it.
            let f = unsafe { record.take::<F>(&record.meta.entry_arg) };
            // SAFETY: the record outlives its thread.
            let token = unsafe { Borrowed::new(record) };
            match user::catch(|| f(token.get())) {
                Ok(value) => {
                    crate::locals::end_of(record);
                    // SAFETY: the closure was taken out, so the storage is free.
                    unsafe { record.put(&record.meta.result_ptr, value) };
                    record.set_outcome(Outcome::Value);
                }
                Err(payload) => {
                    crate::locals::end_of(record);
                    let payload =
                        if payload.is::<ShutdownUnwind>() { Box::new(SchedError::ShutDown) } else { payload };
                    // SAFETY: as above.
                    unsafe { record.put_panic(payload) };
                }
            }
        }
        Step::DropResult => {
            // SAFETY: C1.
            let result = UnsafeCell::new(Some(unsafe { record.take_result::<T>() }));
            user::discard(result.into_inner());
        }
        Step::Refuse => {
            // SAFETY: C1.
            let f = unsafe { record.take::<F>(&record.meta.entry_arg) };
            user::discard(f);
        }
    }
}

/// Steps back: lets other threads that are ready run, and returns when it is this one's turn again.
///
/// Returns at once if nothing else can run on this worker. Outside a runtime:
/// `std::thread::yield_now`. While the thread unwinds it does nothing.
///
/// Context: a green thread, or an OS thread. After it the OS thread may be another.
#[inline]
pub fn yield_now() {
    // SAFETY: a carried worker is alive.
    let green = match unsafe { local::enter_from_outside().as_ref() } {
        Some(worker) => {
            // SAFETY: a green thread that runs on `worker`, inside the runtime.
            unsafe { (worker.vtable.yield_now)(worker) };
            true
        }
        None => false,
    };
    local::leave();
    if !green {
        std::thread::yield_now();
    }
}

/// Runs `f`, which may block in the kernel for long, without holding up other green threads: the worker is
/// handed on before and another taken after.
///
/// Not needed for soundness or progress where the preemptor is [`Sigurg`](crate::Sigurg): a thread found blocked in the
/// kernel loses its worker after about a slice. It spares that slice.
///
/// Outside a runtime it just runs `f`. At the bound on OS threads `f` blocks its worker.
///
/// Context: a green thread, or an OS thread. `f` runs on the same OS thread throughout; what it calls of this crate works
/// as usual.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    give_way();
    crate::sched::held::blocking(f)
}

/// The running green thread's id; `None` outside a runtime.
///
/// Context: anywhere.
pub fn current_id() -> Option<ThreadId> {
    park::current().map(|record| ThreadId(record.meta.unique_id.load(Relaxed)))
}

/// Whether the caller is a green thread.
///
/// Context: anywhere.
pub fn is_in_gvthread() -> bool {
    park::current().is_some()
}

/// The worker that the running green thread is on at this moment; `None` outside a runtime.
///
/// Context: anywhere. The answer may be old by the time it is read.
pub fn current_worker() -> Option<usize> {
    give_way();
    let _section = local::Section::new();
    // SAFETY: a carried worker is alive.
    unsafe { local::worker().as_ref() }.map(|worker| worker.index)
}

/// What [`safepoint!`](crate::safepoint) expands to.
#[doc(hidden)]
#[inline]
pub fn __safepoint() {
    if local::safepoint() {
        yield_now();
    }
}

/// Marks a point where a long computation can be interrupted: yields if the monitor has asked for
/// it, and otherwise costs a few instructions.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let mut sum = 0u64;
/// for i in 0..100_000u64 {
///     gvt::safepoint!();
///     sum = sum.wrapping_add(i * i);
/// }
/// # assert!(sum > 0); });
/// ```
#[macro_export]
macro_rules! safepoint {
    () => {
        $crate::__safepoint()
    };
}
