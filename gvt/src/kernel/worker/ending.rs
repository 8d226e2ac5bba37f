//! The end of a thread that has no handle, or that never ran.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{GvtState, MemoryError, SchedError};

use crate::kernel::thread::record::{EntryFn, Record, Step};
use crate::kernel::worker::core::{Parts, Worker, WorkerBase};
use crate::kernel::worker::lineage::pass_over;
use crate::kernel::worker::references::{credit, release};
use crate::kernel::worker::{joiner, tls};
use crate::protocol::join::{self, Ended, Prepared};

#[inline]
pub(crate) fn entry(record: &Record) -> EntryFn {
    // Relaxed: written before the thread is pushed.
    let entry = record.meta.entry_fn.load(Relaxed);
    // SAFETY: `spawn` stored an `EntryFn` there.
    unsafe { std::mem::transmute::<u64, EntryFn>(entry) }
}

/// Releases the references of a thread without a handle: the one that thread and handle share, and those
/// taken for children and not used.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`, inside the runtime; **C2**: the thread's end found it without a
/// handle, and its outcome was dropped.
pub(crate) unsafe fn let_go(record: &Record, state: GvtState, prepared: Prepared, worker: &WorkerBase) {
    record.set_state(state);
    let count = match prepared {
        Prepared::No => credit(record) + 1,
        Prepared::Yes => credit(record) + 2,
    };
    pass_over(record, count);
    // SAFETY: C2: the references are this thread's.
    unsafe { release(record, count, worker) };
}

/// Ends a thread that cannot be given a stack: its handle's `join` reports why.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`; **C2**: `record` was just picked and never ran.
#[cold]
pub(crate) unsafe fn refuse<P: Parts>(worker: &Worker<P>, record: &Record, error: MemoryError) {
    let base = &worker.base;
    base.core().discharge(record.stack_choice());
    // The closure's destructor is user code, without a stack of its own. It runs here, on the stack of a
    // thread that is about to leave, so it must not find a worker to park on: it runs as if outside the
    // runtime, with preemption off.
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*tls::os_thread() };
    os_thread.set_worker(ptr::null());
    // SAFETY: C2: its closure was never run.
    unsafe { entry(record)(record, Step::Refuse) };
    os_thread.set_worker(base);
    // SAFETY: the closure is gone, so the storage is free.
    unsafe { record.put_panic(Box::new(SchedError::Memory(error))) };
    record.set_state(GvtState::Cancelled);
    // Prepared: no green thread runs the waker below, so no record has to be kept for it.
    match join::end(&record.meta.join_waiters, Prepared::Yes) {
        Ended::Nobody => {}
        Ended::Wake(waiter) => {
            // A future's waker is user code, like the closure's destructor.
            os_thread.set_worker(if waiter.is_task() { ptr::null() } else { base });
            // SAFETY: taken out of its word, so it is this call's to wake.
            unsafe { joiner::wake(waiter, base.core()) };
            os_thread.set_worker(base);
        }
        Ended::Detached => {
            os_thread.set_worker(ptr::null());
            // SAFETY: stored above, and reachable by this call only.
            unsafe { entry(record)(record, Step::DropResult) };
            os_thread.set_worker(base);
            // SAFETY: C1; no handle, outcome dropped.
            unsafe { let_go(record, GvtState::Cancelled, Prepared::No, base) };
        }
        Ended::Unprepared => unreachable!("it said that it was prepared"),
    }
    base.count_ended();
}
