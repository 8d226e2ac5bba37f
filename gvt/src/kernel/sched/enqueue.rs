//! Queueing threads, and waking a worker for them.

use gvt_traits::{PushFence, PushKind, ReadyQueue, Runnable};

use crate::kernel::sched::wakeup::{class_of, wake_one};
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{Core, CoreBase, Parts, Worker, WorkerBase};
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::{section, tls};
use crate::protocol::idle::Class;
use std::ptr;

/// Queues a thread on this worker, and wakes another worker if that helps.
///
/// # Safety
///
/// C1 of `pick::pick`.
#[inline(always)]
pub(crate) unsafe fn push_here<P: Parts>(worker: &Worker<P>, task: Runnable, kind: PushKind) {
    let core = worker.core();
    // A yield adds no thread to those queued, so no worker has to be woken. An only worker is awake: it is
    // this one.
    if kind == PushKind::Yield || core.base.worker_count == 1 {
        // SAFETY: C1: carried here; no other borrow.
        core.queue.push(unsafe { worker.queue() }, task, kind);
        return;
    }
    let class = class_of(&core.base, &task);
    // SAFETY: C1: carried here; no other borrow.
    core.queue.push(unsafe { worker.queue() }, task, kind);
    let base = &worker.base;
    let offer = match kind {
        // The first thread woken since the last decision is likely to run here next, when the present one
        // waits; waking another worker for it would tear a pair apart. If the present thread runs on instead,
        // the monitor offers it to a sleeping worker.
        PushKind::Wake | PushKind::Joined | PushKind::Timer | PushKind::TimerBusy => {
            let wakes = base.wakes.get();
            base.wakes.set(wakes + 1);
            let is_worth = wakes > 0 && (kind != PushKind::Timer || base.moderation.is_worth(wakes));
            // A worker that may not run it does not keep it.
            is_worth || (class == Class::Normal && core.base.idle.class_of(base.index) == Class::Low)
        }
        _ => true,
    };
    if offer {
        if P::Queue::PUSH_FENCE == PushFence::ByRuntime {
            core.base.idle.push_fence();
        }
        if kind == PushKind::Spawn && class == Class::Normal {
            base.offer_child();
        } else {
            wake_one(&core.base, class);
        }
    }
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn push<P: Parts>(base: &CoreBase, task: Runnable, kind: PushKind) {
    let no_unwind = NoUnwind;
    // Two sections are the caller's and this one. A third means that the scheduler itself pushes at a
    // thread's end, or that a part or a destructor called by the scheduler wakes a thread. This worker's end
    // of the queue may be borrowed then (B2).
    // SAFETY: a carried worker is alive.
    match unsafe { section::enter().as_ref() } {
        Some(worker) if ptr::eq(worker.core, base) && (kind == PushKind::Joined || tls::depth() <= 2) => {
            // SAFETY: carried by this OS thread, inside the runtime.
            unsafe { push_here(Worker::<P>::of(worker), task, kind) };
        }
        // SAFETY: C1: `base` begins a `Core<P>`.
        _ => unsafe { inject::<P>(base, task) },
    }
    tls::leave();
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn inject<P: Parts>(base: &CoreBase, task: Runnable) {
    let no_unwind = NoUnwind;
    let class = class_of(base, &task);
    // SAFETY: C1: `base` begins a `Core<P>`.
    unsafe { Core::<P>::of(base) }.queue.inject(task);
    std::mem::forget(no_unwind);
    if P::Queue::PUSH_FENCE == PushFence::ByRuntime {
        base.idle.push_fence();
    }
    wake_one(base, class);
}

/// # Safety
///
/// **C1**: this OS thread carries `base` and is inside the runtime.
pub(super) unsafe fn push_spawned<P: Parts>(base: &WorkerBase, task: Runnable) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: carried, inside the runtime.
    unsafe { push_here(Worker::<P>::of(base), task, PushKind::Spawn) };
    std::mem::forget(no_unwind);
}

/// Queues the joiner of a thread that ends on this worker.
///
/// # Safety
///
/// C1 of [`push_spawned`].
#[inline(always)]
pub(crate) unsafe fn push_joined<P: Parts>(base: &WorkerBase, task: Runnable) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: carried, inside the runtime.
    unsafe { push_here(Worker::<P>::of(base), task, PushKind::Joined) };
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of [`push_spawned`].
pub(super) unsafe fn push_woken<P: Parts>(base: &WorkerBase, task: Runnable) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: carried, inside the runtime.
    unsafe { push_here(Worker::<P>::of(base), task, PushKind::Wake) };
    std::mem::forget(no_unwind);
}

/// Queues a picked thread again, behind the others.
///
/// # Safety
///
/// **C1**: called on the OS thread that carries `worker`; `record` was just picked.
pub(crate) unsafe fn put_back<P: Parts>(worker: &Worker<P>, record: &Record) {
    // SAFETY: C1: just picked, so its only `Runnable`.
    unsafe { push_here(worker, record.runnable(), PushKind::Yield) };
    let core: &Core<P> = worker.core();
    wake_one(&core.base, core.base.idle.class_of(worker.base.index));
}
