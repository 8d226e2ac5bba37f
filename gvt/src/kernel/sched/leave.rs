//! How a running thread leaves its worker: it yields, or it parks.

use std::sync::atomic::Ordering::*;

use gvt_traits::{GvtState, ReadyQueue};

use crate::kernel::sched::detach;
use crate::kernel::sched::pick::pick;
use crate::kernel::sched::switch::{depart, native, target, target_of};
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{After, Parts, Worker, WorkerBase};
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::section;

/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime.
pub(super) unsafe fn yield_now<P: Parts>(base: &WorkerBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: the table's entry for these parts.
    let worker = unsafe { Worker::<P>::of(base) };
    let record = base.current();
    if record.is_asked() {
        record.answer();
        section::has_yielded();
        // A thread may wait for a timer.
        base.need_resched.store(true, Relaxed);
    }
    // A thread that unwinds stays on its OS thread, whose panic count it has raised.
    if !std::thread::panicking() {
        // SAFETY: C1: inside the runtime, on `worker`.
        if let Some(next) = unsafe { pick(worker) } {
            // SAFETY: C1; `next` was just picked.
            let target = unsafe { target_of(worker, next) };
            // No thread at all: those picked could not be given a stack.
            if base.current.get().is_null() && base.handoff.get().is_null() {
                base.current.set(record);
            } else {
                record.set_state(GvtState::Ready);
                // SAFETY: C1; inside the runtime, and the target is fresh.
                unsafe { depart(worker, record, After::yielded(record), target) };
            }
        } else if base.need_resched.load(Relaxed) {
            // SAFETY: C1; inside the runtime, with nothing picked.
            unsafe { yield_to_loop(worker, record) };
        }
    }
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime, with its wait armed.
pub(super) unsafe fn park<P: Parts>(base: &WorkerBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: the table's entry for these parts.
    let worker = unsafe { Worker::<P>::of(base) };
    let record = base.current();
    record.set_state(GvtState::Blocked);
    record.meta.blocked_since_ns.store(base.coarse_ns.load(Relaxed), Relaxed);
    if std::thread::panicking() {
        // SAFETY: C1: the running thread, its wait armed.
        unsafe { detach::park_detached::<P>(worker, record) };
    } else {
        // SAFETY: C1: inside the runtime, on `worker`.
        let target = unsafe { target(worker) };
        // SAFETY: C1; the target is fresh.
        unsafe { depart(worker, record, After::parked(record), target) };
    }
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of [`park`].
pub(super) unsafe fn park_for<P: Parts>(base: &WorkerBase, awaited: &Record) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: the table's entry for these parts.
    let worker = unsafe { Worker::<P>::of(base) };
    // SAFETY: C1: carried here; no other borrow.
    worker.core().queue.expedite(unsafe { worker.queue() }, awaited.shown());
    std::mem::forget(no_unwind);
    // SAFETY: C1: the caller's, its wait armed.
    unsafe { park::<P>(base) };
}

/// A yield for which [`pick`] found no thread that runs here. It goes through the loop if `pick` has found
/// one for another OS thread, or if `record` itself must migrate.
///
/// # Safety
///
/// C1 of `pick::pick`; `record` is the running thread's.
#[cold]
pub(super) unsafe fn yield_to_loop<P: Parts>(worker: &Worker<P>, record: &Record) {
    let base = &worker.base;
    if !base.handoff.get().is_null() || base.core().migrates {
        let target = native(base);
        record.set_state(GvtState::Ready);
        // SAFETY: C1; the loop of this OS thread.
        unsafe { depart(worker, record, After::yielded(record), target) };
    }
}
