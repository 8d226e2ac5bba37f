//! Detached threads: green threads that keep their OS thread while their worker runs others elsewhere.
//!
//! This is Go's `handoffp`, also for threads that are preempted by force. There are four ways into that state
//! and one way out.
//!
//! | way in | when | queued |
//! |---|---|---|
//! | [`park_detached`] | it waits while it unwinds: the panic count is this OS thread's | when woken |
//! | [`blocking`] | it announces that it will block in the kernel | when it comes back |
//! | [`take_from_blocked`] | the monitor finds it blocked, or deaf | when it enters the runtime, or runs |
//! | [`on_interrupt`] | the preemption signal takes it off | at once |
//!
//! **Protocol.** **Y1** The record's `suspended` names the OS thread; the OS thread's `bound_thread` names
//! the record. **Y2** The worker is given to a spare OS thread (`os_thread` H1, H2). **Y3** The thread's
//! `Runnable` is queued when it may continue: by the spare on arrival if the thread was preempted
//! (`After::preempted`), else as the table says. **Y4** The worker that pops it sees `suspended` and is
//! passed to that OS thread's inbox. **Y5** The thread takes the worker from the inbox, undoes Y1, and
//! continues.
//!
//! The thread may be queued before it sleeps at its inbox (a preempted one always may): the worker stays in
//! the inbox until the thread looks.
//!
//! **Why this is sound at any instruction.** A preempted thread keeps its OS thread. Its thread-locals, the
//! locks that it holds, and the state of the allocator and the unwinder are as if the kernel had descheduled
//! the OS thread. Nothing else runs on that OS thread meanwhile. (Shiina, Iwasaki, Taura, Balaji:
//! "Lightweight Preemptive User-Level Threads", PPoPP 2021, kernel-level-thread switching.) The kernel keeps
//! its registers in the signal frame.
//!
//! **Rejected.** Switching stacks in the handler: the next thread on this OS thread would enter the
//! interrupted `malloc` again, or borrow a `RefCell` in a thread-local that the interrupted thread has
//! borrowed.
//!
//! **Hazard: the runtime's own locks.** See `lock_holders`: some preempted threads may run without a worker
//! for a while.
//!
//! A reentrant thread is preempted without all this: see `pinned`.
//!
//! **Limits.** OS threads are bounded (`max_os_threads`). At the bound a panicking thread that waits keeps
//! its worker until an OS thread is spare, or until a detached thread, which has its own OS thread, is ready;
//! meanwhile the worker fires timers. `blocking` blocks its worker, and threads are asked to yield but not
//! forced.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use gvt_traits::{GvtState, Interrupted, WaitReason};

use crate::kernel::sched::enqueue;
use crate::kernel::sched::pick::pick;
use crate::kernel::sched::timers::fire_timers;
use crate::kernel::thread::record::{FAST, Record};
use crate::kernel::worker::core::{After, Core, CoreBase, OsThread, Parts, Worker, WorkerBase, spare};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::handoff::{keep, resume, resume_with_worker, vacate};
use crate::kernel::worker::{quiet, section, tls};
use crate::os::is_asleep_in_kernel;
use crate::protocol::wait;
use crate::protocol::wait::Committed;

/// Gives the worker of this OS thread to a spare one (Y1, Y2); `false` if there is none.
///
/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime. After `true` the caller must not
/// touch the worker again, and must end with [`resume`].
pub(crate) unsafe fn release_worker<P: Parts>(base: &WorkerBase) -> bool {
    // SAFETY: C1: the table's entry for these parts.
    let worker = unsafe { Worker::<P>::of(base) };
    let Some(spare) = spare(&worker.core().base) else {
        return false;
    };
    // SAFETY: C1; a spare waits at its inbox.
    unsafe { give(worker, spare) };
    true
}

/// # Safety
///
/// C1 of [`release_worker`]; `receiver` is spare, or keeps a thread whose `Runnable` the caller has consumed.
unsafe fn give<P: Parts>(worker: &Worker<P>, receiver: &OsThread) {
    let base = &worker.base;
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*tls::os_thread() };
    keep(os_thread, base.current());
    os_thread.set_worker(ptr::null());
    vacate(base, After::NOTHING);
    receiver.give(base);
}

/// Pause of a worker that can neither continue nor be passed on.
const RETRY: Duration = Duration::from_micros(200);

/// [`release_worker`] for a thread that unwinds and so cannot leave its OS thread; `false` if its wait ends
/// first. The worker fires timers until it can be passed on.
///
/// # Safety
///
/// C1 of [`release_worker`], with the thread's wait armed.
unsafe fn release_worker_at_any_cost<P: Parts>(worker: &Worker<P>, record: &Record) -> bool {
    let core: &Core<P> = worker.core();
    loop {
        if let Some(receiver) = spare(&core.base) {
            // SAFETY: C1; a spare waits at its inbox.
            unsafe { give(worker, receiver) };
            return true;
        }
        if wait::is_notified(&record.meta.wait) {
            return false;
        }
        // SAFETY: C1: this OS thread carries `worker`.
        unsafe { fire_timers(worker) };
        // SAFETY: C1: this OS thread carries `worker`.
        if let Some(next) = unsafe { pick(worker) } {
            // SAFETY: records outlive their tokens.
            let next = unsafe { &*next };
            // SAFETY: a detached thread's OS thread is alive.
            if let Some(keeper) = unsafe { next.keeper().as_ref() } {
                // SAFETY: C1; `next` was just picked.
                unsafe { give(worker, keeper) };
                return true;
            }
            // SAFETY: C1; `next` was just picked.
            unsafe { enqueue::put_back(worker, next) };
        }
        std::thread::sleep(RETRY);
    }
}

/// Runs `f` without a worker, so that other threads run meanwhile.
pub(crate) fn blocking<T>(f: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            // Finds no worker, and waits for one.
            section::enter();
            tls::leave();
        }
    }
    // SAFETY: a carried worker is alive.
    let released = match unsafe { section::enter_from_outside().as_ref() } {
        // SAFETY: a green thread runs on `worker`, inside the runtime; `Back` ends this.
        Some(worker) => {
            let record = worker.current();
            record.meta.wait_reason.store(WaitReason::BlockingCall as u8, Relaxed);
            record.meta.blocked_since_ns.store(worker.coarse_ns.load(Relaxed), Relaxed);
            record.set_state(GvtState::Blocked);
            // SAFETY: a green thread on its worker, inside the runtime.
            let released = unsafe { (worker.vtable.release_worker)(worker) };
            if released {
                Counters::add(&record.core().counters.blocking_calls);
            }
            released
        }
        None => false,
    };
    tls::leave();
    let _back = released.then_some(Back);
    f()
}

/// Waits without leaving the OS thread.
///
/// # Safety
///
/// **C1**: called by the green thread `record`, which runs on `worker`, inside the runtime, with its wait
/// armed.
pub(crate) unsafe fn park_detached<P: Parts>(worker: &Worker<P>, record: &Record) {
    // SAFETY: C1: the running thread, its wait armed.
    if !unsafe { release_worker_at_any_cost(worker, record) } {
        record.set_state(GvtState::Running);
        return;
    }
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*tls::os_thread() };
    os_thread.queued.store(true, Relaxed);
    if wait::commit(&record.meta.wait) == Committed::Queue {
        // SAFETY: W2 of `wait`: the committer queues it.
        let task = unsafe { record.runnable() };
        record.core().inject(task);
    } else {
        quiet::parked_without_worker(record.core());
    }
    // SAFETY: queued, or to be queued by its waker.
    unsafe { resume_with_worker(os_thread, record) };
}

/// A spare OS thread for the monitor, which starts none itself: one from the pool, or one that is offered to
/// a signal handler and not used yet (each blocked worker may have been offered one). If there is none, the
/// spare starter is asked, at every look again.
pub(crate) fn idle_spare(core: &CoreBase) -> Option<&'static OsThread> {
    let spare = core.pool.take_spare().or_else(|| {
        core.starter.ask();
        (0..core.worker_count).find_map(|index| {
            // ORDERING O2: as in `preempt`.
            let offered = core.worker(index).preempt_spare.swap(ptr::null_mut(), AcqRel);
            // SAFETY: OS threads of the pool are alive.
            unsafe { offered.as_ref() }
        })
    });
    if spare.is_none() {
        Counters::add(&core.counters.spares_exhausted);
        core.pool.want_more(core.worker_count);
    }
    spare
}

/// Y1 for a thread that loses its worker outside the runtime and runs on without one.
fn note_taken(os_thread: &OsThread, record: &Record, since_ns: u64) {
    record.meta.wait_reason.store(WaitReason::BlockingCall as u8, Relaxed);
    record.meta.blocked_since_ns.store(since_ns, Relaxed);
    record.set_state(GvtState::Blocked);
    keep(os_thread, record);
    os_thread.running_looks.store(0, Relaxed);
    os_thread.taken.store(true, Relaxed);
}

/// Takes the worker of an OS thread outside the runtime that sleeps in the kernel, or does not answer
/// interrupts, and gives it to another; `true` if it did. The thread gets a worker again when it next enters
/// the runtime.
///
/// Context: the monitor.
pub(crate) fn take_from_blocked<P: Parts>(core: &Core<P>, base: &WorkerBase, os_thread: &OsThread) -> bool {
    let Some(spare) = idle_spare(&core.base) else {
        return false;
    };
    let taken = os_thread.detach(base, || {
        // SAFETY: an OS thread with a worker outside the runtime runs a green thread, whose record is mapped;
        // `current` does not change before that thread is inside.
        let record = unsafe { &*base.current.get() };
        note_taken(os_thread, record, base.coarse_ns.load(Relaxed));
    });
    if taken {
        vacate(base, After::NOTHING);
        spare.give(base);
        Counters::add(&core.base.counters.workers_taken);
    } else {
        core.base.pool.add_spare(spare);
    }
    taken
}

/// The preemption signal's hook: puts the whole OS thread to sleep; its worker continues elsewhere.
///
/// # Safety
///
/// Called by a preemptor's signal handler, which keeps `errno`. Async-signal-safe: atomics and futex calls.
pub(crate) unsafe extern "C" fn on_interrupt(context: *mut c_void) -> Interrupted {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::os_thread().as_ref() }) else {
        return Interrupted::NotOurs;
    };
    if os_thread.depth() != 0 {
        // Inside the runtime: the preempt flag is set, and the thread will read it.
        return Interrupted::Taken;
    }
    os_thread.preempt_disable();
    os_thread.wait_for_decision();
    // SAFETY: a carried worker is alive.
    match unsafe { os_thread.worker().as_ref() } {
        Some(worker) if os_thread.gives_worker.swap(false, Relaxed) => give_from_blocked(os_thread, worker),
        Some(worker) => {
            // SAFETY: outside the runtime until just now, with this worker and this context.
            if worker.current().has_flag(FAST) && unsafe { divert(os_thread, worker, context) } {
                // Inside the runtime until the thread continues.
                return Interrupted::Taken;
            }
            preempt(os_thread, worker);
        }
        // It computes without a worker: it takes the one in its inbox, or waits for one.
        None => come_back(os_thread),
    }
    os_thread.preempt_enable();
    Interrupted::Taken
}

/// [`take_from_blocked`] without `membarrier`: the OS thread does it itself, interrupted in its sleep, to
/// which it returns.
fn give_from_blocked(os_thread: &OsThread, worker: &WorkerBase) {
    // ORDERING O2: Acquire pairs with the Release in the monitor's `offer_spare`.
    let spare = worker.preempt_spare.swap(ptr::null_mut(), AcqRel);
    // SAFETY: OS threads of the pool are alive.
    let Some(spare) = (unsafe { spare.as_ref() }) else {
        return;
    };
    Counters::add(&worker.core().counters.workers_taken);
    note_taken(os_thread, worker.current(), worker.coarse_ns.load(Relaxed));
    os_thread.set_worker(ptr::null());
    vacate(worker, After::NOTHING);
    spare.give(worker);
}

/// An interrupted thread that computes without a worker waits for one. Either it was let run without one
/// (`lock_holders`), or it has returned from the kernel after its worker was taken. If it is let run once
/// more meanwhile it may miss that; the monitor repeats it.
fn come_back(os_thread: &OsThread) {
    // SAFETY: a kept record is mapped.
    let Some(record) = (unsafe { os_thread.bound_thread().as_ref() }) else {
        return;
    };
    if os_thread.taken.load(Relaxed) && !os_thread.queued.swap(true, Relaxed) {
        record.set_state(GvtState::Preempted);
        let core = record.core();
        Counters::add(&core.counters.forced_preemptions);
        os_thread.turn.begin();
        core.returning.push(record);
        // An awake worker looks at its next maintenance, a sleeping one is woken; all of it is signal-safe.
        for index in 0..core.worker_count {
            core.worker(index).need_resched.store(true, Relaxed);
        }
        let sleepers = core.idle.sleepers();
        if sleepers != 0 {
            core.unpark(sleepers.trailing_zeros() as usize);
        }
    } else if !os_thread.turn.end_freedom() {
        // In `blocking`, or about to enter the runtime: nothing brings it a worker.
        return;
    }
    // SAFETY: queued, or to be queued by `welcome_back`.
    unsafe { resume(os_thread, record) };
}

/// Looks that must find a thread running after its worker was taken, before it is interrupted.
const RUNNING_LOOKS: u32 = 2;

/// Whether it keeps a thread whose `Runnable` is queued, or that is being interrupted to wait for its turn.
pub(crate) fn is_or_will_be_queued(os_thread: &OsThread) -> bool {
    // Relaxed: written before the monitor's own interrupt, or by the interrupted OS thread.
    os_thread.queued.load(Relaxed)
        || (os_thread.taken.load(Relaxed) && os_thread.running_looks.load(Relaxed) >= RUNNING_LOOKS)
}

/// Of the next `some` threads whose worker was taken, those that run nevertheless. The monitor interrupts
/// them, so that they wait for their turn.
///
/// Context: the monitor. A look costs some microseconds for each thread.
pub(crate) fn back_from_kernel(core: &CoreBase, from: &mut usize, some: usize) -> impl Iterator<Item = i32> {
    let is_taken = |os_thread: &&OsThread| os_thread.taken.load(Relaxed) && !os_thread.queued.load(Relaxed);
    let count = core.pool.each().filter(is_taken).count();
    let skip = if count == 0 { 0 } else { *from % count };
    *from = skip + some;
    core.pool.each().filter(is_taken).skip(skip).take(some).filter_map(|os_thread| {
        let thread = os_thread.thread_id.load(Relaxed);
        if is_asleep_in_kernel(thread) {
            os_thread.running_looks.store(0, Relaxed);
            return None;
        }
        let looks = os_thread.running_looks.load(Relaxed) + 1;
        os_thread.running_looks.store(looks, Relaxed);
        (looks >= RUNNING_LOOKS).then_some(thread)
    })
}

fn preempt(os_thread: &OsThread, worker: &WorkerBase) {
    // ORDERING O2: Acquire pairs with the Release in the monitor's `offer_spare`.
    let spare = worker.preempt_spare.swap(ptr::null_mut(), AcqRel);
    // SAFETY: OS threads of the pool are alive.
    let Some(spare) = (unsafe { spare.as_ref() }) else {
        return;
    };
    let record = worker.current();
    record.set_state(GvtState::Preempted);
    record.answer();
    section::has_yielded();
    Counters::add(&worker.core().counters.forced_preemptions);
    keep(os_thread, record);
    os_thread.queued.store(true, Relaxed);
    os_thread.turn.begin();
    os_thread.set_worker(ptr::null());
    vacate(worker, After::preempted(record));
    spare.give_place(worker);
    // SAFETY: queued by the spare on arrival.
    unsafe { resume(os_thread, record) };
}

/// For the preemption signal's hook: makes the interrupted thread switch stacks; `false` if that is
/// impossible at this point. After `true`, `pinned::diverted` lowers the preempt count.
///
/// # Safety
///
/// **C1**: `context` is the handler's; this OS thread carries `worker`, and was outside the runtime.
pub(crate) unsafe fn divert(
    os_thread: &OsThread,
    worker: &WorkerBase,
    context: *mut std::ffi::c_void,
) -> bool {
    // SAFETY: C1; the kernel's signal set is the first word of `uc_sigmask`.
    let mask = unsafe { (&raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>().read() };
    // In another signal's handler, or with signals blocked on purpose: must not be left. Nor must a panic.
    if mask != os_thread.signal_mask.load(Relaxed) || std::thread::panicking() {
        return false;
    }
    // SAFETY: C1: the handler's context, outside the runtime.
    unsafe { (worker.vtable.divert)(worker, context) }
}
