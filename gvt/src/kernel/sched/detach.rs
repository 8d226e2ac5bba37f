//! Green threads that keep their OS thread while their worker goes on elsewhere.
//!
//! Four ways into that state, one way out.
//!
//! | in | when | queued |
//! |---|---|---|
//! | [`park_held`] | it waits while a panic unwinds on this OS thread, whose panic count it has raised | when woken |
//! | [`blocking`] | it says that it is going to block in the kernel | when it comes back |
//! | [`take_from_blocked`] | the monitor finds it blocked in the kernel, or deaf to interrupts | when it enters the runtime again, or is found running |
//! | [`on_interrupt`] | the preemption signal takes it off | at once |
//!
//! **Protocol.** **Y1** The record's `suspended` names the OS thread, the OS thread's `bound_thread` the record. **Y2** The
//! worker is given to a spare OS thread (`os_thread` H1, H2). **Y3** The thread's `Runnable` is queued when it may go on: by the spare on
//! arrival if it was preempted (`After::preempted`), else as the table says. **Y4** The
//! worker that pops it sees `suspended` and is passed to that OS thread's inbox. **Y5** The thread takes
//! it from there, undoes Y1, and goes on.
//!
//! The thread may be queued before it sleeps at its inbox (a preempted one always may): the inbox keeps the
//! worker until it looks.
//!
//! **Why this is sound at any instruction.** A preempted thread keeps its OS thread, so its thread-locals, the locks that it
//! holds, the allocator's and the unwinder's state are as they would be had the kernel taken the OS thread off. Nothing
//! that runs meanwhile runs on that OS thread. (Shiina, Iwasaki, Taura, Balaji: "Lightweight Preemptive User-Level Threads",
//! PPoPP 2021, kernel-level-thread switching.) The kernel keeps its registers in the signal's frame.
//!
//! **Rejected.** Switching stacks in the handler: the next thread on this OS thread would enter the interrupted malloc
//! again, or borrow the interrupted borrow of a thread-local.
//!
//! **Hazard: the runtime's own locks.** See `lock_holders`: some of those that were preempted may be let go on without a worker for a while.
//!
//! A thread whose author says that it is reentrant is taken off without all this: see `pinned`.
//!
//! **Limits.** OS threads are bounded (`max_os_threads`). At the bound a panicking thread that waits keeps its worker until an
//! OS thread is spare or a held thread is ready, which brings its own; meanwhile the worker fires timers; `blocking` blocks
//! its worker, and threads are asked but not forced.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use gvt_traits::{GvtState, Interrupted, WaitReason};

use crate::kernel::sched::enqueue;
use crate::kernel::sched::pick::pick;
use crate::kernel::sched::timers::fire_timers;
use crate::kernel::thread::record::{FAST, Record};
use crate::kernel::worker::core::OsThread;
use crate::kernel::worker::core::spare;
use crate::kernel::worker::core::{After, Core, CoreBase, Parts, Worker, WorkerBase};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::handoff::keep;
use crate::kernel::worker::handoff::resume;
use crate::kernel::worker::handoff::resume_with_worker;
use crate::kernel::worker::handoff::vacate;
use crate::kernel::worker::quiet;
use crate::kernel::worker::section;
use crate::kernel::worker::tls;
use crate::os::is_asleep_in_kernel;
use crate::protocol::wait;
use crate::protocol::wait::Committed;

/// Gives the worker of this OS thread to another (Y1, Y2); `false` if none can be had.
///
/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime. If `true`, the caller
/// may not touch the worker again and must end with [`resume`].
pub(crate) unsafe fn release_worker<P: Parts>(base: &WorkerBase) -> bool {
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    let Some(spare) = spare(&worker.core().base) else {
        return false;
    };
    // SAFETY: C1; spare.
    unsafe { give(worker, spare) };
    true
}

/// # Safety
///
/// C1 of [`release_worker`]; `receiver` is spare, or keeps a thread whose token the caller has taken apart.
unsafe fn give<P: Parts>(worker: &Worker<P>, receiver: &OsThread) {
    let base = &worker.base;
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*tls::os_thread() };
    keep(os_thread, base.current());
    os_thread.set_worker(ptr::null());
    vacate(base, After::NOTHING);
    receiver.give(base);
}

/// How long a worker waits that can neither go on nor be passed on.
const RETRY: Duration = Duration::from_micros(200);

/// [`release_worker`] for a thread that unwinds and so cannot leave its OS thread; `false` if its wait came to its end
/// first. Until the worker can be passed on, it fires timers.
///
/// # Safety
///
/// C1 of [`release_worker`], with the thread's wait armed.
unsafe fn release_worker_at_any_cost<P: Parts>(worker: &Worker<P>, record: &Record) -> bool {
    let core: &Core<P> = worker.core();
    loop {
        if let Some(receiver) = spare(&core.base) {
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
            // SAFETY: a held thread's keeper is alive.
            if let Some(keeper) = unsafe { next.keeper().as_ref() } {
                // SAFETY: C1; its thread was just picked.
                unsafe { give(worker, keeper) };
                return true;
            }
            // SAFETY: C1; just picked.
            unsafe { enqueue::put_back(worker, next) };
        }
        std::thread::sleep(RETRY);
    }
}

/// Runs `f` without a worker: others run meanwhile.
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
        // SAFETY: a green thread that runs on `worker`, inside the runtime; `Back` ends it.
        Some(worker) => {
            let record = worker.current();
            record.meta.wait_reason.store(WaitReason::BlockingCall as u8, Relaxed);
            record.meta.blocked_since_ns.store(worker.coarse_ns.load(Relaxed), Relaxed);
            record.set_state(GvtState::Blocked);
            // SAFETY: as above.
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
/// **C1**: called by the green thread `record` that runs on `worker`, inside the runtime, with its
/// wait armed.
pub(crate) unsafe fn park_held<P: Parts>(worker: &Worker<P>, record: &Record) {
    // SAFETY: C1.
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

/// A spare OS thread for the monitor, which starts none: from the pool, or one that was offered to a handler and is not in use
/// yet. As many workers as are blocked at once may each have been offered one. If there is none the starter is told, at each look anew.
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

/// What a thread notes that is about to lose its worker outside the runtime, and goes on without.
fn note_taken(os_thread: &OsThread, record: &Record, since_ns: u64) {
    record.meta.wait_reason.store(WaitReason::BlockingCall as u8, Relaxed);
    record.meta.blocked_since_ns.store(since_ns, Relaxed);
    record.set_state(GvtState::Blocked);
    keep(os_thread, record);
    os_thread.running_looks.store(0, Relaxed);
    os_thread.taken.store(true, Relaxed);
}

/// Takes the worker of an OS thread outside the runtime that sleeps in the kernel, or does not answer interrupts, and gives it to another;
/// whether that was done. The thread gets a worker again when it next enters the runtime.
///
/// Context: the monitor.
pub(crate) fn take_from_blocked<P: Parts>(core: &Core<P>, base: &WorkerBase, os_thread: &OsThread) -> bool {
    let Some(spare) = idle_spare(&core.base) else {
        return false;
    };
    let taken = os_thread.detach(base, || {
        // SAFETY: outside the runtime with a worker it runs a green thread, whose record is mapped; and it does not change
        // what runs before it is inside.
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

/// The preemption signal's hook: puts the whole OS thread to sleep, and its worker goes on elsewhere.
///
/// # Safety
///
/// Called by a preemptor's signal handler, which keeps `errno`. Async-signal-safe: atomics and futex calls.
pub(crate) unsafe extern "C" fn on_interrupt(context: *mut c_void) -> Interrupted {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    let Some(os_thread) = (unsafe { tls::os_thread().as_ref() }) else {
        return Interrupted::NotOurs;
    };
    if os_thread.depth() != 0 {
        // Inside the runtime: the flag is set, and it will look.
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
                // Inside it from here on, until it goes on.
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

/// [`take_from_blocked`] where there is no `membarrier`: by the OS thread itself, interrupted in its sleep, to which it returns.
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

/// An interrupted thread computes without a worker, since it was let go on (`lock_holders`), or has lost its worker while it was
/// blocked in the kernel and has come back: it waits for one. A thread that is let go on once more meanwhile may miss that; the
/// monitor says it again.
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
        // Whoever is awake looks at its next round, whoever sleeps is woken; all of it signal-safe.
        for index in 0..core.worker_count {
            core.worker(index).need_resched.store(true, Relaxed);
        }
        let sleepers = core.idle.sleepers();
        if sleepers != 0 {
            core.unpark(sleepers.trailing_zeros() as usize);
        }
    } else if !os_thread.turn.end_freedom() {
        // In `blocking`, or about to enter the runtime: nobody brings a worker.
        return;
    }
    // SAFETY: queued, or to be queued by `welcome_back`.
    unsafe { resume(os_thread, record) };
}

/// Looks that find a thread running whose worker was taken, before it is interrupted.
const RUNNING_LOOKS: u32 = 2;

/// Whether it keeps a thread whose `Runnable` is out, or that is being interrupted to wait for its turn.
pub(crate) fn is_or_will_be_queued(os_thread: &OsThread) -> bool {
    // Relaxed: what was noted before the monitor's own interrupt, or by who was interrupted.
    os_thread.queued.load(Relaxed)
        || (os_thread.taken.load(Relaxed) && os_thread.running_looks.load(Relaxed) >= RUNNING_LOOKS)
}

/// Of the threads whose worker was taken, those that run all the same, among the `some` that are looked at this time. They are to
/// be interrupted, so that they wait for their turn.
///
/// Context: the monitor. Looking costs some microseconds each.
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

/// For the preemption signal's hook: has the interrupted thread switch stacks; `false` if that cannot be done just here. If
/// `true`, `depth` is [`diverted`]'s to lower.
///
/// # Safety
///
/// **C1**: `context` is the handler's; this OS thread carries `worker`, and was outside the runtime.
pub(crate) unsafe fn divert(
    os_thread: &OsThread,
    worker: &WorkerBase,
    context: *mut std::ffi::c_void,
) -> bool {
    // SAFETY: C1; the kernel's set of signals is its first word.
    let mask = unsafe { (&raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>().read() };
    // In another signal's handler, or with signals blocked for a reason: not to be left. Nor is a panic.
    if mask != os_thread.signal_mask.load(Relaxed) || std::thread::panicking() {
        return false;
    }
    // SAFETY: C1.
    unsafe { (worker.vtable.divert)(worker, context) }
}
