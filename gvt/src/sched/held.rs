//! A green thread that keeps its OS thread while its worker goes on elsewhere.
//!
//! **Why.** std counts panics per OS thread: a thread that waits inside a destructor while it unwinds
//! must come back to the OS thread whose count it has raised, and nobody else may run there meanwhile.
//! The same hand-over serves calls that block in the kernel.
//!
//! **Protocol.** **Y1** `suspended` names the OS thread. **Y2** The worker is given to a spare OS
//! thread (`os_thread` H1, H2). **Y3** The thread's `Runnable` is queued when it may go on. **Y4** The
//! worker that pops it sees `suspended` and is passed to that OS thread's inbox. **Y5** The thread takes
//! it from there, clears `suspended`, and goes on.
//!
//! **Limits.** If no OS thread can be had for Y2, the thread waits with its worker: what it waits for
//! must then come from another worker.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::GvtState;

use super::core::{Core, Parts, Worker, WorkerBase};
use super::lifecycle;
use super::local;
use super::os_thread::OsThread;
use super::record::Record;
use super::schedule::{install, run_after};
use super::wait::{self, Committed};

/// Gives the worker of this OS thread to another (Y1, Y2); `false` if none can be had.
///
/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime. If `true`, the caller
/// may not touch the worker again and must end with [`resume`].
pub(crate) unsafe fn release_worker<P: Parts>(base: &WorkerBase) -> bool {
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    let core: &Core<P> = worker.core();
    let Some(spare) = core.base.os_threads.take_spare().or_else(|| lifecycle::start_os_thread(core).ok())
    else {
        return false;
    };
    let record = base.current();
    // ORDERING O1: Release pairs with the Acquire in `schedule::carry`; the token's own hand-over
    // orders it as well.
    record.meta.suspended.store(local::os_thread().cast_mut().cast(), Release);
    base.current.set(ptr::null());
    base.row().current_gvthread.store(u32::MAX, Relaxed);
    local::set_worker(ptr::null());
    spare.give(base);
    true
}

/// Takes the worker that was passed to this OS thread (Y5).
///
/// # Safety
///
/// **C1**: called on the OS thread that keeps `record`, after its `Runnable` was queued.
pub(crate) unsafe fn resume<P: Parts>(record: &Record) {
    // SAFETY: a held thread's OS thread is one of the runtime's.
    let os_thread: &OsThread = unsafe { &*local::os_thread() };
    let base = os_thread.receive();
    debug_assert!(!base.is_null(), "an OS thread is told to end only when it is spare");
    local::set_worker(base);
    // SAFETY: received.
    let worker = unsafe { Worker::<P>::of(&*base) };
    worker.base.row().thread_id.store(os_thread.thread_id.load(Relaxed) as u64, Relaxed);
    record.meta.suspended.store(ptr::null_mut(), Relaxed);
    // SAFETY: received, inside the runtime.
    unsafe { run_after(worker) };
    install(&worker.base, record);
}

/// Waits without leaving the OS thread.
///
/// # Safety
///
/// **C1**: called by the green thread `record` that runs on `worker`, inside the runtime, with its
/// wait armed.
pub(crate) unsafe fn park_held<P: Parts>(worker: &Worker<P>, record: &Record) {
    // SAFETY: C1.
    if !unsafe { release_worker::<P>(&worker.base) } {
        // Without an OS thread to hand the worker to: wait for the word itself.
        while !wait::is_notified(&record.meta.wait) {
            std::thread::yield_now();
        }
        record.set_state(GvtState::Running);
        return;
    }
    if wait::commit(&record.meta.wait) == Committed::Queue {
        // SAFETY: W2: the committer queues it.
        let task = unsafe { record.runnable() };
        record.core().push(task, gvt_traits::PushKind::Wake);
    }
    // SAFETY: queued, or to be queued by its waker.
    unsafe { resume::<P>(record) };
}
