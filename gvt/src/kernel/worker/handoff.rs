//! How a detached thread gets a worker again: steps Y1, Y2 and Y5 of `detach`.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::GvtState;

use crate::kernel::thread::record::Record;
use crate::kernel::worker::binding;
use crate::kernel::worker::core::{After, Core, CoreBase, OsThread, Parts, WorkerBase, install};
use crate::kernel::worker::os_thread::Received;
use crate::protocol::mailbox::Linked;

/// Y1: notes that `record` keeps `os_thread`.
pub(crate) fn keep(os_thread: &OsThread, record: &Record) {
    // ORDERING O1: Release pairs with the Acquire in `worker_loop`.
    record.meta.suspended.store(ptr::from_ref(os_thread).cast_mut().cast(), Release);
    os_thread.set_bound_thread(record);
}

/// Y2: leaves `worker` without a thread and without a carrier, ready to be given.
pub(crate) fn vacate(worker: &WorkerBase, after: After) {
    worker.after.set(after);
    worker.current.set(ptr::null());
    worker.row().current_gvthread.store(u32::MAX, Relaxed);
    worker.set_carrier(None);
}

/// Takes the worker that is passed to this OS thread (Y5). Returns without a worker if the thread is let run
/// so (`lock_holders`). Async-signal-safe.
///
/// # Safety
///
/// **C1**: called on the OS thread that `record` keeps; its `Runnable` is queued, or will be.
pub(crate) unsafe fn resume(os_thread: &OsThread, record: &Record) {
    let Received::Worker(base) = os_thread.receive(None) else {
        // Let run without a worker; only a spare is told to end.
        return;
    };
    os_thread.settle(record.core());
    // SAFETY: received; a worker lives as long as its core.
    let base = unsafe { &*base };
    os_thread.queued.store(false, Relaxed);
    os_thread.taken.store(false, Relaxed);
    os_thread.set_bound_thread(ptr::null());
    record.set_at_large(os_thread);
    base.set_carrier(Some(os_thread));
    binding::remind(base, os_thread);
    if os_thread.is_deaf.load(Relaxed) {
        base.need_resched.store(true, Relaxed);
    }
    install(base, record);
    os_thread.set_worker(base);
    if os_thread.lag.is_much(record.meta.id()) {
        record.core().monitor.nudge();
    }
}

/// [`resume`] until there is a worker: the thread is inside the runtime and needs one.
///
/// # Safety
///
/// C1 of [`resume`].
pub(crate) unsafe fn resume_with_worker(os_thread: &OsThread, record: &Record) {
    while os_thread.worker().is_null() {
        os_thread.turn.end_freedom();
        // SAFETY: C1: its OS thread; its `Runnable` is queued.
        unsafe { resume(os_thread, record) };
    }
}

/// A green thread has entered the runtime and has no worker: waits for one. Null on an OS thread that carries
/// no worker and keeps no thread.
#[cold]
pub(crate) fn rejoin(os_thread: &OsThread) -> *const WorkerBase {
    os_thread.wait_for_decision();
    if os_thread.worker().is_null() {
        // SAFETY: a kept record is mapped.
        let Some(record) = (unsafe { os_thread.bound_thread().as_ref() }) else {
            return ptr::null();
        };
        if !os_thread.queued.swap(true, Relaxed) {
            record.set_state(GvtState::Ready);
            // SAFETY: it runs here without a worker and is not queued: it has no `Runnable`.
            let task = unsafe { record.runnable() };
            record.core().inject(task);
        }
        // SAFETY: its OS thread; queued just now.
        unsafe { resume_with_worker(os_thread, record) };
    }
    os_thread.worker()
}

/// Queues the threads that have returned from the kernel.
pub(crate) fn welcome_back(core: &CoreBase) {
    let mut first = ptr::null_mut();
    if core.returning.has_any() {
        // SAFETY: C1: records outlive their threads; a thread returns once.
        unsafe { core.returning.drain(&mut first) };
    }
    // SAFETY: records outlive their threads; the list is this call's.
    while let Some(record) = unsafe { first.as_ref() } {
        first = record.next();
        // SAFETY: it waits on the OS thread that it keeps, without a `Runnable`.
        core.inject(unsafe { record.runnable() });
    }
}

/// Queues a preempted thread when its worker arrives elsewhere: behind everything local, since it has had its
/// slice.
pub(crate) fn queue_preempted<P: Parts>(core: &Core<P>, record: &Record) {
    // SAFETY: it keeps its OS thread, runs nowhere, and has no `Runnable`.
    let task = unsafe { record.runnable() };
    let base: &CoreBase = &core.base;
    base.inject(task);
}
