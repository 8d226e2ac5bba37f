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
//! **Bound.** The pool's limit holds for threads that could also go on without an OS thread of their own. A thread
//! that unwinds cannot, so its OS thread is started beyond the limit. If the system has none to give, the worker
//! stays, fires timers, and is passed on as soon as an OS thread is spare or a held thread is ready, which brings
//! its own.
//!
//! **Limits.** In that last case what the thread waits for must come from a timer, a held thread, or another worker.

use std::ptr;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use gvt_traits::{GvtState, PushKind};

use super::core::{Core, Parts, Worker, WorkerBase};
use super::lifecycle;
use super::local;
use super::os_thread::OsThread;
use super::record::Record;
use super::schedule::{fire_timers, install, pick, push_here, run_after, wake_one};
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
    let core = worker.core();
    let threads = &core.base.os_threads;
    let start =
        || (threads.started() < threads.limit).then(|| lifecycle::start_os_thread(core).ok()).flatten();
    let Some(spare) = threads.take_spare().or_else(start) else {
        return false;
    };
    // SAFETY: C1.
    unsafe { give(worker, spare) };
    true
}

/// # Safety
///
/// C1 of [`release_worker`]; `receiver` is spare, or keeps a thread whose token the caller has.
unsafe fn give<P: Parts>(worker: &Worker<P>, receiver: &OsThread) {
    let base = &worker.base;
    let record = base.current();
    // ORDERING O1: Release pairs with the Acquire in `schedule::carry`; the token's own hand-over
    // orders it as well.
    record.meta.suspended.store(local::os_thread().cast_mut().cast(), Release);
    base.current.set(ptr::null());
    base.row().current_gvthread.store(u32::MAX, Relaxed);
    local::set_worker(ptr::null());
    receiver.give(base);
}

/// Gives the worker of this OS thread to another, which is started if need be; `false` if the thread's wait
/// came to its end first.
///
/// # Safety
///
/// C1 of [`release_worker`], with the thread's wait armed.
unsafe fn release_worker_at_any_cost<P: Parts>(worker: &Worker<P>, record: &Record) -> bool {
    let core: &Core<P> = worker.core();
    loop {
        let spare = core.base.os_threads.take_spare();
        if let Some(receiver) = spare.or_else(|| lifecycle::start_os_thread(core).ok()) {
            // SAFETY: C1; spare.
            unsafe { give(worker, receiver) };
            return true;
        }
        if wait::is_notified(&record.meta.wait) {
            return false;
        }
        // SAFETY: C1.
        unsafe { fire_timers(worker) };
        // SAFETY: C1.
        if let Some(next) = unsafe { pick(worker) } {
            // SAFETY: records outlive their tokens.
            let next = unsafe { &*next };
            let keeper = next.meta.suspended.load(Acquire) as *const OsThread;
            // SAFETY: a held thread's keeper is alive.
            if let Some(keeper) = unsafe { keeper.as_ref() } {
                // SAFETY: C1; its thread was just picked.
                unsafe { give(worker, keeper) };
                return true;
            }
            // SAFETY: just picked.
            let task = unsafe { next.runnable() };
            // SAFETY: C1.
            unsafe { push_here(worker, task, PushKind::Yield) };
            wake_one(&core.base);
        }
        std::thread::sleep(RETRY);
    }
}

/// How long a worker waits that can neither go on nor be passed on.
const RETRY: Duration = Duration::from_micros(200);

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
    if !unsafe { release_worker_at_any_cost(worker, record) } {
        record.set_state(GvtState::Running);
        return;
    }
    if wait::commit(&record.meta.wait) == Committed::Queue {
        // SAFETY: W2: the committer queues it.
        let task = unsafe { record.runnable() };
        record.core().push(task, PushKind::Wake);
    }
    // SAFETY: queued, or to be queued by its waker.
    unsafe { resume::<P>(record) };
}
