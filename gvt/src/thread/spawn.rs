//! Spawning: takes a record, stores the closure in it, and pushes it to the ready queue.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use gvt_traits::{GvtState, Priority, PushKind, SchedError};

use crate::cancel::token::{Borrowed, CancellationToken, Extras};
use crate::kernel::thread::id::{self, ID_BATCH};
use crate::kernel::thread::record::{EntryFn, Outcome, PINNED, REENTRANT, Record, StackChoice, Step};
use crate::kernel::worker::core::{CoreBase, WorkerBase};
use crate::kernel::worker::{lineage, section, tls};
use crate::protocol::user;
use crate::thread::join_handle::JoinHandle;
use crate::wait::host::give_way;
use crate::wait::park::ShutdownUnwind;

/// Which OS threads a thread may run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Migration {
    /// Any. After each call that yields or waits, the thread may be on another OS thread.
    #[default]
    Free,
    /// One, for itself: the closure runs on one OS thread from beginning to end, and no other green thread
    /// runs there meanwhile. Go's `LockOSThread`.
    ///
    /// So thread-locals keep their address and value over every wait, also while borrowed, and guards and
    /// handles that are bound to an OS thread may be held. Each pinned thread takes one OS thread of
    /// [`max_os_threads`](crate::SchedulerConfig::max_os_threads); at that bound other threads share it. Each
    /// switch to and from a pinned thread is a hand-off in the kernel, some 5 to 10 µs.
    Pinned,
}

/// What a [`Builder`](crate::Builder) has chosen.
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
/// The closure receives the thread's own [`CancellationToken`], a child of the spawning thread's. The new
/// thread runs when this one waits, yields or ends, or at once on an idle worker. Dropping the handle leaves
/// the thread running; dropping the [`Runtime`](crate::Runtime) waits for it.
/// [`thread::spawn`](crate::thread::spawn()) takes a closure without a token.
///
/// Context: a green thread. Does not block; allocates only if the closure is larger than 64 bytes.
///
/// # Panics
///
/// Outside a runtime, and when `max_gvthreads` threads are alive: with the message of the [`SchedError`] that
/// [`try_spawn`] returns.
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
    // SAFETY: the closure is `'static`, so nothing that it borrows can end.
    unsafe { spawn_here(None, f) }
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
    let worker = section::enter_from_outside();
    // SAFETY: a carried worker is alive.
    let Some(worker) = (unsafe { worker.as_ref() }) else {
        tls::leave();
        return Err(SchedError::NoRuntime { call: "spawn" });
    };
    // SAFETY: C1; entered, on the worker's OS thread.
    let spawned = unsafe { spawn_on(worker.core(), Some(worker), options, f) };
    tls::leave();
    // A refused closure is dropped here, outside the runtime: its destructor is user code.
    spawned.map_err(|Refused(error, _)| error)
}

/// Why a thread was not spawned, and its closure.
pub(crate) struct Refused<F>(pub(crate) SchedError, pub(crate) F);

/// Spawns on a runtime, from one of its workers or from outside. Returns the closure if it is refused; the
/// caller drops it outside the runtime and without a lock.
///
/// # Safety
///
/// C1 of [`spawn_here`]; **C2**: this OS thread carries `worker`, which is of this core, and is inside the
/// runtime; **C3**: the core is alive throughout.
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
    // SAFETY: fresh from the table; only this call has it.
    let record = unsafe { record.as_ref() };
    let meta = &record.meta;

    // Relaxed, unless it says otherwise: pushing the `Runnable` publishes the record.
    meta.preempt_flag.store(0, Relaxed);
    // ORDERING O1: Release pairs with the reads of walkers that a stale link led here (L6 of `links`); the
    // link's store below does too.
    meta.cancelled.store(0, Release);
    meta.flags.store(choice.as_flags(), Relaxed);
    meta.wait_reason.store(0, Relaxed);
    meta.wake_time_ns.store(0, Relaxed);
    meta.join_waiters.store(0, Relaxed);
    meta.outcome.store(Outcome::None as u8, Relaxed);
    meta.priority.store(Priority::Normal as u8, Relaxed);
    meta.affinity.store(u8::MAX, Relaxed);
    // One reference that the thread shares with its handle, and those that it may hand to its children.
    meta.references.store(1 + lineage::CREDIT, Relaxed);
    meta.children_credit.store(lineage::CREDIT, Relaxed);
    record.set_state(GvtState::Created);
    let parent = worker.and_then(|worker| {
        meta.worker_id.store(worker.index as u32, Relaxed);
        // SAFETY: the running thread's record is mapped; null on the worker's own stack.
        unsafe { worker.current.get().as_ref() }
    });
    // SAFETY: C2: the parent is the running thread.
    let parent = parent.map_or(u32::MAX, |parent| unsafe { lineage::take_parent(parent) }.index());
    // ORDERING O1: as of `cancelled`.
    meta.parent_id.store(parent, Release);
    meta.unique_id.store(next_id(worker), Relaxed);
    if let Some(options) = options {
        apply(record, options);
    }
    meta.entry_fn.store(entry::<F, T> as EntryFn as usize as u64, Relaxed);
    // SAFETY: the storage of a fresh record holds nothing.
    unsafe { record.put(&meta.entry_arg, f) };
    // SAFETY: C1 of `runnable`: the thread is ready, and this is its first `Runnable`.
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
    // SAFETY: C1: the thread and this handle share the reference; it is the only handle.
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
        lineage::adopt(record);
    }
    let Options { tag, name, token, .. } = options;
    if tag != 0 || name.is_some() || token.is_some() {
        record.set_cold(Extras::boxed(tag, name, token));
    }
}

#[inline]
fn next_id(worker: Option<&WorkerBase>) -> u64 {
    let Some(worker) = worker else {
        return id::draw(1);
    };
    let (mut next, mut end) = worker.ids.get();
    if next == end {
        next = id::draw(ID_BATCH);
        end = next + ID_BATCH;
    }
    worker.ids.set((next + 1, end));
    next
}

/// A thread's code: see [`EntryFn`].
///
/// # Safety
///
/// **C1**: called as the step says: `Run` or `Refuse` once, by the thread's own runner, with the closure
/// stored; `DropResult` once, by the owner of the stored outcome.
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
                    record.end_locals();
                    // SAFETY: the closure was taken out, so the storage is free.
                    unsafe { record.put(&record.meta.result_ptr, value) };
                    record.set_outcome(Outcome::Value);
                }
                Err(payload) => {
                    record.end_locals();
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
