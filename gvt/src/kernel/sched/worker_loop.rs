//! The worker loop, for when there is no thread to switch to directly (Go's `schedule` on `g0`, tokio's
//! `worker::run`).
//!
//! It runs on the native stack of the OS thread that carries a worker: when nothing is ready, when a thread
//! must continue on another OS thread (`detach`, `pinned`), and between the two.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::ContextSwitch;

use crate::kernel::sched::pinned;
use crate::kernel::sched::switch::{run_after, target, target_slow};
use crate::kernel::worker::binding::remind;
use crate::kernel::worker::core::{OsThread, Parts, Worker, WorkerBase, spare};
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::tls;

/// The loop of an OS thread that has received `worker`, on its native stack. Returns when the OS thread has
/// no worker; `false` if it should end.
///
/// # Safety
///
/// **C1**: `worker` was received by this OS thread, which is `os_thread`.
pub(crate) unsafe fn run<P: Parts>(os_thread: &'static OsThread, worker: *const WorkerBase) -> bool {
    let no_unwind = NoUnwind;
    os_thread.set_worker(worker);
    {
        // SAFETY: C1: received, so alive and of this type.
        let worker = unsafe { Worker::<P>::of(&*worker) };
        worker.base.set_carrier(Some(os_thread));
        worker.base.coarse_ns.store(worker.core().now_ns(), Relaxed);
        worker.core().base.keep_spare();
        remind(&worker.base, os_thread);
    }
    let goes_on = loop {
        // The worker that this OS thread carries at present: a detached thread may have left with another.
        // SAFETY: C1: all of one runtime, so of this type.
        let worker = unsafe { Worker::<P>::of(&*tls::worker()) };
        // SAFETY: carried by this OS thread.
        unsafe { run_after(worker) };
        let picked = worker.base.handoff.replace(ptr::null());
        // SAFETY: null, or a record, which outlives its thread.
        let target = if let Some(record) = unsafe { picked.as_ref() } {
            // SAFETY: just picked; carried by this OS thread.
            match unsafe { pinned::route(worker, os_thread, record) } {
                // SAFETY: just picked; carried by this OS thread.
                pinned::Route::Here => unsafe { target_slow(worker, picked) },
                pinned::Route::Forwarded => continue,
                pinned::Route::To(receiver) => {
                    // SAFETY: C1; `receiver` waits at its inbox, or will.
                    break unsafe { hand_over(worker, os_thread, receiver) };
                }
            }
        } else {
            // SAFETY: carried by this OS thread.
            unsafe { target(worker) }
        };
        if !worker.base.current.get().is_null() {
            os_thread.settle(&worker.core().base);
            // SAFETY: the loop's own registers; a fresh target.
            unsafe { P::Context::switch(os_thread.native.get(), target) };
        } else if worker.base.handoff.get().is_null() {
            os_thread.settle(&worker.core().base);
            // A spent OS thread does not stay.
            if os_thread.home.is_spent()
                && !worker.core().base.lifecycle.is_stopping()
                && let Some(spare) = spare(&worker.core().base)
            {
                // SAFETY: C1; a spare waits at its inbox.
                break unsafe { hand_over(worker, os_thread, spare) };
            }
            // SAFETY: carried by this OS thread.
            if unsafe { crate::kernel::sched::idle_worker::sleep(worker) }
                == crate::kernel::sched::idle_worker::Slept::Stop
            {
                os_thread.set_worker(ptr::null());
                break false;
            }
        }
    };
    std::mem::forget(no_unwind);
    goes_on
}

/// Gives the worker of this OS thread to `receiver`; `false` if this OS thread should end.
///
/// # Safety
///
/// **C1**: `os_thread` is the calling one and carries `worker`, with no thread; `receiver` waits at its
/// inbox, or will.
unsafe fn hand_over<P: Parts>(worker: &Worker<P>, os_thread: &OsThread, receiver: &OsThread) -> bool {
    // H1 of `os_thread`: forgotten before it is given. `stay` comes first: after the gift this OS thread must
    // not touch the core, which could end with the last worker.
    os_thread.set_worker(ptr::null());
    worker.base.set_carrier(None);
    let then = pinned::stay(&worker.core().base, os_thread);
    receiver.give_place(&worker.base);
    then == pinned::Then::Stays
}
