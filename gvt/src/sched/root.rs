//! A green thread's first function: runs closures until the stack is needed no more.
//!
//! The end of a thread: its result is stored, its joiner woken, its references dropped; then the
//! next thread is picked. If that one never ran, its closure is run right here, on the same, warm
//! stack; a burst of short threads thus runs on a handful of stacks without a switch.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, MemoryError, SchedError};

use super::core::{After, Parts, Worker, WorkerBase};
use super::join::{self, Ended};
use super::local;
use super::record::{EntryFn, Record, Step};
use super::schedule::{self, Place, arrive, pick, place};

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
    record.meta.start_time_ns.store(base.coarse_ns.get(), Relaxed);
    local::leave();
    // SAFETY: C1; the closure was stored when the thread was spawned, and is run once.
    unsafe { entry(record)(record, Step::Run) };
    // SAFETY: C1; its outcome is stored.
    unsafe { announce_end(record) };
    local::enter();
    // Anew: the thread may have moved.
    // SAFETY: a green thread runs on a worker.
    let worker = unsafe { Worker::<P>::of(&*local::worker()) };
    let no_unwind = schedule::NoUnwind;
    let slot = record.meta.slot.swap(u32::MAX, Relaxed);
    // SAFETY: entered; it has just ended.
    unsafe { retire(&worker.base, record, GvtState::Finished) };

    // SAFETY: this OS thread carries the worker.
    let registers = match unsafe { pick(worker) } {
        Some(next) => {
            // SAFETY: records outlive their tokens.
            let next_record = unsafe { &*next };
            if next_record.is_fresh() {
                next_record.meta.slot.store(slot, Relaxed);
                schedule::install(&worker.base, next_record);
                std::mem::forget(no_unwind);
                return next;
            }
            // SAFETY: just picked.
            match unsafe { place(worker, next) } {
                Ok(Place::Here(_)) => next_record.registers().cast_const(),
                Ok(Place::Held(_)) => {
                    worker.base.handoff.set(next);
                    schedule::native(&worker.base)
                }
                Err(_) => unreachable!("only a thread that never ran needs memory"),
            }
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

/// Tells whoever waits for the thread's end, or drops the result that nobody waits for.
///
/// # Safety
///
/// **C1**: `record`'s outcome is stored. Called outside the runtime, since a result's destructor is
/// user code.
unsafe fn announce_end(record: &Record) {
    match join::end(&record.meta.join_waiters) {
        Ended::Nobody => {}
        // SAFETY: C1; the handle is gone, so nobody else can reach the result.
        Ended::Detached => unsafe { entry(record)(record, Step::DropResult) },
        // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
        Ended::Wake(waiter) => unsafe { join::wake(waiter) },
    }
}

/// Counts a thread's end and lets go of what it held.
///
/// # Safety
///
/// **C1**: this OS thread carries `base`, inside the runtime; **C2**: the thread's end was announced.
unsafe fn retire(base: &WorkerBase, record: &Record, state: GvtState) {
    record.set_state(state);
    base.count_ended();
    // The thread's own reference, and those it took for children and did not use.
    let unused = record.meta.children_credit.load(Relaxed);
    record.meta.children_credit.store(0, Relaxed);
    // SAFETY: they are this thread's.
    unsafe { release(record, 1 + unused, Some(base)) };
}

/// Ends a thread that could not be given a stack: its handle's `join` says why.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`; **C2**: `record` was just picked and never ran.
#[cold]
pub(crate) unsafe fn refuse<P: Parts>(worker: &Worker<P>, record: &Record, error: MemoryError) {
    // The closure's destructor is user code and must not run on the stack of another thread with
    // the runtime entered; but it has no stack of its own. It runs here, guarded, with preemption
    // off; it may not wait.
    // SAFETY: C2.
    unsafe { entry(record)(record, Step::Refuse) };
    // SAFETY: the closure is gone, so the storage is free.
    unsafe { record.put_panic(Box::new(SchedError::Memory(error))) };
    // SAFETY: stored above.
    unsafe { announce_end(record) };
    // SAFETY: C1, announced.
    unsafe { retire(&worker.base, record, GvtState::Cancelled) };
}

/// Lets go of `count` references to a record; the last frees it, and lets go of its parent's.
///
/// # Safety
///
/// **C1**: the references are the caller's.
#[inline]
pub(crate) unsafe fn release(record: &Record, count: u32, worker: Option<&WorkerBase>) {
    // ORDERING O1: Acquire on the shortcut, and the fence below, pair with the Release of the others
    // that let go: their last accesses happen before the record is reused.
    if record.meta.references.load(Acquire) != count
        && record.meta.references.fetch_sub(count, Release) != count
    {
        return;
    }
    std::sync::atomic::fence(Acquire);
    // SAFETY: the last reference.
    unsafe { free(record, worker) };
}

/// # Safety
///
/// **C1**: nobody refers to the record any more.
unsafe fn free(record: &Record, worker: Option<&WorkerBase>) {
    let core = record.core();
    record.meta.references.store(0, Relaxed);
    if !record.meta.cold.load(Relaxed).is_null() {
        let _dumps = core.lifecycle.names.lock().unwrap();
        // SAFETY: C1.
        unsafe { record.drop_cold() };
    }
    let parent = record.meta.parent_id.swap(u32::MAX, Relaxed);
    let parent = (parent != u32::MAX).then(|| core.table.get(gvt_traits::GvtId::new(parent)));
    match worker {
        Some(worker) if ptr::eq(worker.core, core) => {
            // SAFETY: this OS thread carries the worker, inside the runtime.
            core.table.release(record, Some(unsafe { &mut *worker.records.get() }));
            if let Some(parent) = parent {
                owe(worker, parent);
            }
        }
        _ => {
            let last = core.table.release_outside(record, &core.lifecycle.orphans);
            if let Some(parent) = parent {
                // Then the parent is outstanding, so the core is there.
                // SAFETY: the freed record held a reference to it.
                unsafe { release(parent, 1, None) };
            } else if last {
                // SAFETY: the runtime is gone and nobody refers to a record any more.
                unsafe { (core.vtable.destroy)(core) };
            }
        }
    }
}

/// Notes a reference to let go of later: children of one parent end in a row, on several workers,
/// and would all meet on the parent's counter.
fn owe(worker: &WorkerBase, parent: &Record) {
    let (owed_to, count) = worker.debt.get();
    if ptr::eq(owed_to, parent) {
        worker.debt.set((owed_to, count + 1));
        return;
    }
    worker.debt.set((parent, 1));
    if !owed_to.is_null() {
        // SAFETY: the debt held them.
        unsafe { release(&*owed_to, count, Some(worker)) };
    }
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
