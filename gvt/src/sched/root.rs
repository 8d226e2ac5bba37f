//! A green thread's first function: runs closures until the stack is needed no more.
//!
//! The end of a thread: its result is stored, its joiner woken, its references dropped; then the
//! next thread is picked. If that one never ran, its closure is run right here, on the same, warm
//! stack; a burst of short threads thus runs on a handful of stacks without a switch.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, MemoryError, SchedError};

use super::core::{After, CoreBase, Parts, Worker, WorkerBase};
use super::join::{self, Ended};
use super::local;
use super::record::{EntryFn, Record, Step};
use super::schedule::{self, arrive, pick};
use crate::token;

/// The first function on a stack; `argument` is the record of the thread it was bound for.
///
/// # Safety
///
/// **C1**: entered by a switch on an OS thread that carries a `Worker<P>`, with that record current.
pub(crate) unsafe extern "C" fn root<P: Parts>(argument: *mut ()) -> ! {
    let mut record = argument as *const Record;
    // SAFETY: C1.
    unsafe { arrive::<P>() };
    loop {
        // SAFETY: C1, or installed below.
        record = unsafe { run_one::<P>(&*record) };
    }
}

/// Runs a thread from its closure to its end; returns the next that is to run on this stack, or
/// leaves the stack for good.
///
/// # Safety
///
/// **C1**: `record` is current on the worker that this OS thread carries, inside the runtime.
unsafe fn run_one<P: Parts>(record: &Record) -> *const Record {
    // SAFETY: C1.
    let base = unsafe { &*local::worker() };
    record.meta.start_time_ns.store(base.coarse_ns.load(Relaxed), Relaxed);
    local::leave();
    // SAFETY: C1; the closure was stored when the thread was spawned, and is run once.
    unsafe { entry(record)(record, Step::Run) };
    let slot = record.meta.slot.load(Relaxed);
    let choice = record.stack_choice();
    loop {
        if join::is_detached(&record.meta.join_waiters) {
            // Its destructor is user code, so this is done outside the runtime.
            // SAFETY: the outcome is stored, and the handle is gone, so nobody else can reach it.
            unsafe { entry(record)(record, Step::DropResult) };
            local::enter();
            // SAFETY: a green thread runs on a worker.
            let worker = unsafe { &*local::worker() };
            // SAFETY: the references are the thread's, since it has no handle.
            unsafe { let_go(record, GvtState::Finished, worker) };
            break;
        }
        local::enter();
        record.set_state(GvtState::Finished);
        match join::end(&record.meta.join_waiters) {
            // From here on the record is the handle's, and may be another thread's any moment.
            Ended::Nobody => break,
            Ended::Wake(waiter) => {
                // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
                unsafe { join::wake(waiter) };
                break;
            }
            Ended::Detached => {
                record.set_state(GvtState::Running);
                local::leave();
            }
        }
    }
    // Anew: the thread may have moved.
    // SAFETY: a green thread runs on a worker.
    let worker = unsafe { Worker::<P>::of(&*local::worker()) };
    let no_unwind = schedule::NoUnwind;
    worker.base.count_ended();
    worker.base.core().discharge(choice);

    // SAFETY: this OS thread carries the worker.
    let registers = match unsafe { pick(worker) } {
        Some(next) => {
            // SAFETY: records outlive their tokens.
            let next_record = unsafe { &*next };
            // A stack of its own class would do as well, but not one of another.
            if next_record.is_fresh() && next_record.stack_choice() == choice {
                next_record.meta.slot.store(slot, Relaxed);
                schedule::install(&worker.base, next_record);
                std::mem::forget(no_unwind);
                return next;
            }
            // SAFETY: just picked.
            unsafe { schedule::target_of(worker, next) }
        }
        None => schedule::native(&worker.base),
    };
    worker.base.after.set(After::ended(slot));
    // SAFETY: C2 of `switch`: fresh from `pick`, or this OS thread's loop. The stack is released by
    // whoever arrives.
    unsafe { P::Context::leave(registers) }
}

fn entry(record: &Record) -> EntryFn {
    // Relaxed: written before the thread was pushed.
    let entry = record.meta.entry_fn.load(Relaxed);
    // SAFETY: `spawn` stored an `EntryFn` there.
    unsafe { std::mem::transmute::<u64, EntryFn>(entry) }
}

/// Lets go of what a thread without a handle holds: the reference that the two shared, and those that it took
/// for children and did not use.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`, inside the runtime; **C2**: the thread's end found it detached, and
/// its outcome was dropped.
unsafe fn let_go(record: &Record, state: GvtState, worker: &WorkerBase) {
    record.set_state(state);
    // SAFETY: C2: they are this thread's.
    unsafe { release_own(record, Some(worker)) };
}

/// Lets go of the references that go with the last of a thread and its handle.
///
/// # Safety
///
/// **C1**: the thread has ended, and the references are the caller's.
#[inline]
pub(crate) unsafe fn release_own(record: &Record, worker: Option<&WorkerBase>) {
    // Relaxed: the thread's own; the handle reads it after the end, ordered by `join_waiters`.
    let count = 1 + record.meta.children_credit.load(Relaxed);
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        // Somebody looks along its link for long yet; while these references keep it.
        token::pass_over_ancestors(record);
    }
    // SAFETY: C1.
    unsafe { release(record, count, worker) };
}

/// Ends a thread that could not be given a stack: its handle's `join` says why.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`; **C2**: `record` was just picked and never ran.
#[cold]
pub(crate) unsafe fn refuse<P: Parts>(worker: &Worker<P>, record: &Record, error: MemoryError) {
    let base = &worker.base;
    base.core().discharge(record.stack_choice());
    // The closure's destructor is user code, and has no stack of its own to run on. It runs here, on the
    // stack of a thread that is about to leave, so it must not find a worker to park on: it runs as if
    // outside the runtime, with preemption off.
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*local::os_thread() };
    os_thread.set_worker(ptr::null());
    // SAFETY: C2.
    unsafe { entry(record)(record, Step::Refuse) };
    os_thread.set_worker(base);
    // SAFETY: the closure is gone, so the storage is free.
    unsafe { record.put_panic(Box::new(SchedError::Memory(error))) };
    record.set_state(GvtState::Cancelled);
    match join::end(&record.meta.join_waiters) {
        Ended::Nobody => {}
        // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
        Ended::Wake(waiter) => unsafe { join::wake(waiter) },
        Ended::Detached => {
            // SAFETY: stored above, and nobody else can reach it. It is no user's type.
            unsafe { entry(record)(record, Step::DropResult) };
            // SAFETY: C1, dropped.
            unsafe { let_go(record, GvtState::Cancelled, base) };
        }
    }
    base.count_ended();
}

/// Lets go of `count` references to a record; the last frees it, and lets go of its parent's.
///
/// # Safety
///
/// **C1**: the references are the caller's.
#[inline]
pub(crate) unsafe fn release(record: &Record, count: u32, worker: Option<&WorkerBase>) {
    if is_last(record, count) {
        // SAFETY: the last reference.
        unsafe { free(record, worker) };
    }
}

/// Takes `count` off a record's references, unless they are all there are: then says so.
#[inline]
fn is_last(record: &Record, count: u32) -> bool {
    // ORDERING O1: Acquire on the shortcut, and the fence below, pair with the Release of the others
    // that let go: their last accesses happen before the record is reused.
    if record.meta.references.load(Acquire) != count
        && record.meta.references.fetch_sub(count, Release) != count
    {
        return false;
    }
    std::sync::atomic::fence(Acquire);
    true
}

/// Frees a record, then the ancestors that it was the last to refer to: one after the other, since a family
/// may be deep.
///
/// # Safety
///
/// **C1**: nobody refers to the record any more.
unsafe fn free(record: &Record, worker: Option<&WorkerBase>) {
    let mut record = record;
    // SAFETY: C1, and then `is_last`.
    while let Some((next, count)) = unsafe { free_one(record, worker) } {
        if !is_last(next, count) {
            return;
        }
        record = next;
    }
}

/// Frees a record; returns references that are now to be let go of.
///
/// # Safety
///
/// C1 of [`free`].
unsafe fn free_one<'a>(record: &Record, worker: Option<&'a WorkerBase>) -> Option<(&'a Record, u32)> {
    // SAFETY: the core is there: the record is outstanding.
    let core: &'a CoreBase = unsafe { &*ptr::from_ref(record.core()) };
    record.meta.references.store(0, Relaxed);
    if !record.meta.cold.load(Relaxed).is_null() {
        let dumps = core.lifecycle.names.lock();
        // SAFETY: C1.
        let cold = unsafe { record.take_cold() };
        drop(dumps);
        // Without the lock: its token may be the last of other records.
        drop(cold);
    }
    // ORDERING O3: Release: as the stores in `spawn_on`.
    let parent = record.meta.parent_id.swap(u32::MAX, Release);
    let parent = (parent != u32::MAX).then(|| core.table.get(gvt_traits::GvtId::new(parent)));
    match worker {
        Some(worker) if ptr::eq(worker.core, core) => {
            // SAFETY: this OS thread carries the worker, inside the runtime.
            core.table.release(record, Some(unsafe { &mut *worker.records.get() }));
            let parent = parent?;
            if core.table.is_exact() { Some((parent, 1)) } else { owe(worker, parent) }
        }
        _ => {
            let last = core.table.release_outside(record, &core.lifecycle.orphans);
            if last {
                debug_assert!(parent.is_none(), "a parent is outstanding as long as its child");
                // SAFETY: the runtime is gone and nobody refers to a record any more.
                unsafe { (core.vtable.destroy)(core) };
            }
            // If there is a parent it is outstanding, so the core is there.
            parent.map(|parent| (parent, 1))
        }
    }
}

/// Notes a reference to let go of later: children of one parent end in a row, on several workers,
/// and would all meet on the parent's counter. Returns what was owed to another.
fn owe<'a>(worker: &WorkerBase, parent: &Record) -> Option<(&'a Record, u32)> {
    let (owed_to, count) = worker.debt.get();
    if ptr::eq(owed_to, parent) {
        worker.debt.set((owed_to, count + 1));
        return None;
    }
    worker.debt.set((parent, 1));
    // SAFETY: null, or kept by the debt.
    unsafe { owed_to.as_ref() }.map(|owed_to| (owed_to, count))
}

/// Lets go of what is owed.
pub(crate) fn settle_debt(worker: &WorkerBase) {
    loop {
        let (owed_to, count) = worker.debt.replace((ptr::null(), 0));
        if owed_to.is_null() {
            return;
        }
        // Freeing it may run up a debt with its own parent.
        // SAFETY: the debt held them.
        unsafe { release(&*owed_to, count, Some(worker)) };
    }
}
