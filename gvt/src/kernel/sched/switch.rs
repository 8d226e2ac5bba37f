//! Switching from one thread to the next.
//!
//! **Straight switches.** A thread that yields, parks or ends picks the next one itself and switches to it,
//! without a detour over the worker loop. The loop, on the OS thread's native stack, is for when there is
//! nothing to run. A thread that ends and finds a fresh one next does not even switch: it runs that one's
//! closure on its own stack (`first_frame`).
//!
//! **Hazard.** Until the registers of the leaving thread are saved, no worker may run it; once they are
//! saved, the leaver is gone and cannot queue itself.
//!
//! **Protocol.** **D1** The leaver notes in `after` what is to be done for it. **D2** It switches. **D3** The
//! code that arrives, on whichever stack, first does what `after` says (`arrive`): queue the yielder, commit
//! the wait, release the slot. D2 and D3 happen on one OS thread, so what D3 publishes is ordered after the
//! saving.
//!
//! **No caching.** `arrive` reads the worker anew: the arriving thread may have moved to another worker and
//! another OS thread since it left.
//!
//! **Rejected.** Publishing first and letting a thief spin until the registers are saved (Linux's `on_cpu`):
//! one store less, but a thief's wait then depends on an OS thread that may be descheduled. Returning to the
//! worker loop for every decision: a second switch each time.
//!
//! **Limits.** A panic in a backend aborts (B3): at these points the leaving thread cannot be put back.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, MemoryError, PushKind, Registers, Slot, SlotAllocator};

use crate::kernel::sched::enqueue::push_here;
use crate::kernel::sched::maintenance::maintain;
use crate::kernel::sched::pick::pick;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{After, Departed, Parts, Worker, WorkerBase, install};
use crate::kernel::worker::ending::refuse;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::{binding, handoff, tls};
use crate::protocol::wait;
use crate::protocol::wait::Committed;

/// Where a picked thread can run.
pub(crate) enum Ready {
    /// On this OS thread; its stack is bound and its registers are set.
    Here(*const Record),
    /// On the OS thread that it keeps (`detach`), or on which it is resident (`pinned`).
    Elsewhere(*const Record),
}

/// Makes a picked thread ready to be switched to.
///
/// # Safety
///
/// C1 of [`pick`]; **C2**: `next` was just picked.
#[inline]
pub(crate) unsafe fn make_ready<P: Parts>(
    worker: &Worker<P>,
    next: *const Record,
) -> Result<Ready, MemoryError> {
    // SAFETY: C2: records outlive their tokens.
    let record = unsafe { &*next };
    if record.is_fresh() {
        // SAFETY: C1, C2: just picked, on its worker.
        unsafe { bind::<P>(worker, record)? };
    } else if !record.meta.suspended.load(Relaxed).is_null() && !binding::come_home(record) {
        return Ok(Ready::Elsewhere(next));
    }
    install(&worker.base, record);
    Ok(Ready::Here(next))
}

/// Gives a stack to a thread that has never run.
///
/// # Safety
///
/// C1 and C2 of [`make_ready`].
unsafe fn bind<P: Parts>(worker: &Worker<P>, record: &Record) -> Result<(), MemoryError> {
    let core = worker.core();
    let class = record.stack_choice().class().unwrap_or(core.base.default_class);
    // SAFETY: C1: carried here; no other borrow.
    let slot = core.slots.acquire(unsafe { worker.slots() }, class)?;
    let stack = core.slots.bounds(&slot);
    record.meta.slot.store(slot.into_index(), Relaxed);
    let argument = (&raw const *record).cast_mut().cast();
    // SAFETY: C1 of `prepare`: the thread is this worker's. C2: the slot is fresh from the allocator.
    unsafe { P::Context::prepare(record.registers(), stack, worker.base.vtable.first_frame, argument) };
    Ok(())
}

/// Where a leaving thread should switch to: the next thread's registers, or the worker loop's.
///
/// # Safety
///
/// C1 of [`pick`].
#[inline(always)]
pub(crate) unsafe fn target<P: Parts>(worker: &Worker<P>) -> *const Registers {
    // SAFETY: C1: this OS thread carries `worker`.
    let Some(next) = (unsafe { pick(worker) }) else {
        return native(&worker.base);
    };
    // SAFETY: C1; `next` was just picked.
    unsafe { target_of(worker, next) }
}

/// [`target`] for a thread that is already picked.
///
/// # Safety
///
/// C1 and C2 of [`make_ready`].
#[inline(always)]
pub(crate) unsafe fn target_of<P: Parts>(worker: &Worker<P>, next: *const Record) -> *const Registers {
    // SAFETY: records outlive their tokens.
    let record = unsafe { &*next };
    if record.is_fresh() || !record.meta.suspended.load(Relaxed).is_null() {
        // SAFETY: C1; `next` was just picked.
        return unsafe { target_slow(worker, next) };
    }
    install(&worker.base, record);
    record.registers()
}

/// [`target`] for a thread that has no stack yet, or is bound to an OS thread.
///
/// # Safety
///
/// C1 and C2 of [`make_ready`].
#[inline(never)]
pub(crate) unsafe fn target_slow<P: Parts>(worker: &Worker<P>, mut next: *const Record) -> *const Registers {
    loop {
        // SAFETY: C1, C2: just picked, on its worker.
        match unsafe { make_ready(worker, next) } {
            // SAFETY: records outlive their threads.
            Ok(Ready::Here(next)) => return unsafe { &*next }.registers(),
            Ok(Ready::Elsewhere(next)) => {
                worker.base.handoff.set(next);
                return native(&worker.base);
            }
            // SAFETY: C1; just picked and not started.
            Err(error) => unsafe { refuse(worker, &*next, error) },
        }
        // SAFETY: C1: this OS thread carries `worker`.
        match unsafe { pick(worker) } {
            Some(other) => next = other,
            None => return native(&worker.base),
        }
    }
}

/// The registers of this OS thread's worker loop.
#[inline(never)]
pub(crate) fn native(base: &WorkerBase) -> *const Registers {
    base.current.set(ptr::null());
    // SAFETY: on a worker's OS thread, which is one of the runtime's.
    unsafe { (*tls::os_thread()).native.get() }
}

/// Leaves `record`'s stack for `target`; returns when `record` runs again.
///
/// # Safety
///
/// C1 of [`pick`]; **C2**: `record` runs here; `target` came from [`target`] or [`native`].
#[inline(always)]
pub(crate) unsafe fn depart<P: Parts>(
    worker: &Worker<P>,
    record: &Record,
    after: After,
    target: *const Registers,
) {
    worker.base.after.set(after);
    // SAFETY: C1 of `switch`: the record is this thread's. C2: `target` is a saved context that this
    // worker alone was handed. C3: no borrow of the OS thread's is live.
    unsafe { P::Context::switch(record.registers(), target) };
    // SAFETY: just arrived by a switch.
    unsafe { arrive::<P>() };
}

/// D3: does what the leaver noted in `after`.
///
/// # Safety
///
/// **C1**: just arrived by a switch, on an OS thread that carries a worker of type `Worker<P>`.
#[inline(always)]
pub(crate) unsafe fn arrive<P: Parts>() {
    let no_unwind = NoUnwind;
    // SAFETY: C1: a worker of this type.
    let worker = unsafe { Worker::<P>::of(&*tls::worker()) };
    // SAFETY: C1: this OS thread carries `worker`.
    unsafe { run_after(worker) };
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of [`pick`].
#[inline(always)]
pub(crate) unsafe fn run_after<P: Parts>(worker: &Worker<P>) {
    let after = worker.base.after.replace(After::NOTHING);
    if let Some(record) = after.yielder() {
        // SAFETY: it has left its stack, runs nowhere, and has no `Runnable`.
        let task = unsafe { (*record).runnable() };
        // SAFETY: C1: this OS thread carries `worker`.
        return unsafe { push_here(worker, task, PushKind::Yield) };
    }
    // SAFETY: C1: this OS thread carries `worker`.
    unsafe { run_rarer_after(worker, after) }
}

/// # Safety
///
/// C1 of [`pick`].
#[inline(never)]
unsafe fn run_rarer_after<P: Parts>(worker: &Worker<P>, after: After) {
    match after.decode() {
        Departed::Nobody => {}
        Departed::Parked(record) => {
            // SAFETY: records outlive their threads.
            let record = unsafe { &*record };
            if wait::commit(&record.meta.wait) == Committed::Queue {
                // SAFETY: W2 of `wait`: only the committer queues it.
                let task = unsafe { record.runnable() };
                // SAFETY: C1: this OS thread carries `worker`.
                unsafe { push_here(worker, task, PushKind::Wake) };
            }
        }
        // SAFETY: C1: this OS thread carries `worker`.
        Departed::Preempted(record) => unsafe {
            // Returned threads first: else the preempted thread could be next again.
            maintain(worker);
            handoff::queue_preempted(worker.core(), &*record);
        },
        Departed::Ended(slot) => {
            // SAFETY: the index came from the slot's token when it was bound.
            let slot = unsafe { Slot::from_index(slot) };
            // SAFETY: C1 of `release`: its thread has ended and has left its stack for good.
            unsafe { worker.core().slots.release(worker.slots(), slot) };
        }
    }
}
