//! Leaving one thread for the next.
//!
//! **Straight switches.** A thread that yields, waits or ends picks the next one itself and switches
//! to it without a detour over the scheduler's loop; the loop, on the OS thread's native stack, is
//! for when there is nothing to run. A thread that ends and finds a fresh one next does not even
//! switch: it runs that one's closure on the stack it stands on (`root`).
//!
//! **Hazard.** Until the registers of the leaving thread are saved nobody else may run it; once
//! they are, the leaver is gone and cannot queue itself.
//!
//! **Protocol.** **D1** The leaver notes in `after` what is to be done for it. **D2** It switches. **D3**
//! Whoever arrives, on whatever stack, first does what `after` says (`arrive`): queue the yielder,
//! commit the wait, release the slot. D2 and D3 happen on one OS thread, so what D3 publishes is
//! ordered after the saving.
//!
//! **No caching.** `arrive` reads the worker anew: the arriving thread may have been carried to
//! another worker and another OS thread since it left.
//!
//! **Rejected.** Publishing first and letting a thief spin until the registers are saved (as the
//! Linux kernel's `on_cpu` does): one store less, but a thief's wait then depends on an OS thread that
//! may have been descheduled. Returning to the scheduler's loop for every decision: a second
//! switch each time.
//!
//! **Limits.** A panic in a backend aborts (B3): at these points the leaving thread cannot be put
//! back.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{
    ContextSwitch, GvtState, MemoryError, Preemptor, Priority, PushFence, PushKind, ReadyQueue, Registers,
    Runnable, Slot, SlotAllocator, TimerBackend, TimerEntry, WakeTicket, WorkerId,
};

use super::core::{After, Core, CoreBase, Departed, Parts, Vtable, Worker, WorkerBase};
use super::idle::Class;
use super::look_ahead::{GROUP, look_ahead, prefetch_record};
use super::record::Record;
use super::wait::{self, Committed};
use super::{contract, entries, held, local, resident, root};

/// Rounds (timers, debts) are made at every this-many-th decision. Safepoints count as so many decisions, so
/// that they do not disturb the rhythm.
pub(crate) const ROUNDS: u32 = 64;

impl<P: Parts> Core<P> {
    pub(crate) const VTABLE: Vtable = Vtable {
        yield_now: yield_now::<P>,
        park: park::<P>,
        park_for: park_for::<P>,
        push: push::<P>,
        push_spawned: push_spawned::<P>,
        push_woken: push_woken::<P>,
        inject: inject::<P>,
        insert_timer: entries::insert_timer::<P>,
        cancel_timer: entries::cancel_timer::<P>,
        now_ns: entries::now_ns::<P>,
        reserve_slots: entries::reserve_slots::<P>,
        class_for: entries::class_for::<P>,
        stack_bounds: entries::stack_bounds::<P>,
        release_worker: held::release_worker::<P>,
        divert: resident::divert_on::<P>,
        destroy: entries::destroy::<P>,
    };
}

/// Aborts when dropped by unwinding: around calls of backends (B3).
pub(crate) struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("gvt: a backend panicked while threads were being scheduled (clause B3); aborting");
            std::process::abort();
        }
    }
}

/// Where a thread that was picked can be run.
pub(crate) enum Place {
    /// On this OS thread; its stack is bound and its registers are set.
    Here(*const Record),
    /// On the OS thread that keeps it.
    Held(*const Record),
}

/// Takes the next thread from the queue.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker` and is inside the runtime.
#[inline(always)]
pub(crate) unsafe fn pick<P: Parts>(worker: &Worker<P>) -> Option<*const Record> {
    let base = &worker.base;
    let activity = base.count_activity(1);
    base.wakes.set(0);
    if activity.is_multiple_of(ROUNDS) || base.poke.load(Relaxed) {
        // SAFETY: C1.
        unsafe { rounds(worker) };
        if base.poke.load(Relaxed) {
            // SAFETY: C1.
            return unsafe { resident::pick(worker) };
        }
    }
    let queue = &worker.core().queue;
    // SAFETY: C1.
    let local = unsafe { worker.queue() };
    let record = own(base, queue.pop(local)?);
    if activity.is_multiple_of(GROUP) {
        look_ahead::<P>(&base.core().table, queue, local);
    }
    if base.searching.get() {
        // SAFETY: C1.
        unsafe { found(worker) };
    }
    Some(record)
}

/// The record of a thread that a queue handed out, which must be of the worker's runtime (Q9).
#[inline(always)]
pub(crate) fn own(base: &WorkerBase, task: Runnable) -> *const Record {
    let record: *const Record = task.into_raw().cast().as_ptr();
    // SAFETY: records outlive their tokens, those of other runtimes too.
    // Relaxed: written once, before the record was first handed out.
    if unsafe { (*record).meta.runtime.load(Relaxed) } != base.core.cast_mut().cast() {
        contract::foreign_token();
    }
    record
}

/// The searcher found something (I9 of `idle`).
///
/// # Safety
///
/// C1 of [`pick`].
#[cold]
pub(crate) unsafe fn found<P: Parts>(worker: &Worker<P>) {
    let base = &worker.base;
    base.searching.set(false);
    base.core().idle.found(base.index);
    // SAFETY: C1.
    if worker.core().queue.has_work(unsafe { worker.queue() }) {
        wake_one(base.core(), base.core().idle.class_of(base.index));
    }
}

/// Wakes a sleeping worker for a thread of `class`, if there is one and none searches.
#[inline]
pub(crate) fn wake_one(core: &CoreBase, class: Class) {
    if let Some(index) = core.idle.choose(class) {
        core.unpark(index);
    }
}

/// The class of a thread that is about to be queued.
#[inline]
fn class_of(core: &CoreBase, task: &Runnable) -> Class {
    if core.idle.has_classes() && task.priority() == Priority::Low { Class::Low } else { Class::Normal }
}

/// What is done now and then: timers, debts.
///
/// # Safety
///
/// C1 of [`pick`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn rounds<P: Parts>(worker: &Worker<P>) {
    worker.base.poke.store(false, Relaxed);
    if resident::was_deaf() {
        worker.core().preempt.enter_thread();
    }
    root::settle_debt(&worker.base);
    // SAFETY: C1.
    unsafe { fire_timers(worker) };
    held::welcome_back(&worker.core().base);
    resident::remind_here(&worker.base);
}

/// Wakes the threads whose timers have expired; returns how many entries that were.
///
/// # Safety
///
/// C1 of [`pick`].
pub(crate) unsafe fn fire_timers<P: Parts>(worker: &Worker<P>) -> usize {
    let core = worker.core();
    let Some(deadline) = core.timer.next_deadline_ns() else {
        return 0;
    };
    let now = core.now_ns();
    worker.base.coarse_ns.store(now, Relaxed);
    if deadline > now {
        return 0;
    }
    let me = WorkerId::new(worker.base.index);
    // A record that has not been touched for long takes a cache miss or two, so a few are fetched at a time.
    let mut behind = [None::<(&Record, WakeTicket)>; 8];
    let mut place = 0;
    let wake = |(record, ticket): (&Record, WakeTicket)| {
        if !wait::is_pending(&record.meta.wait, ticket.sequence) {
            return;
        }
        // ORDERING O1: Acquire pairs with the Release in `Wait::park_until`: while this wait is the present one the
        // deadline is its own; and should a later one's be seen here, then so is that wait's number below.
        if record.meta.wake_time_ns.load(Acquire) == 0 && wait::is_pending(&record.meta.wait, ticket.sequence)
        {
            contract::broken("T1", format_args!("a timer gave out {ticket:?}, a wait that has no deadline"));
        }
        if wait::wake(&record.meta.wait, ticket.sequence) == wait::Woken::Queue {
            // SAFETY: this call ended the wait of a parked thread, so no token of it exists.
            let task = unsafe { record.runnable() };
            let kind = if record.take_busy() { PushKind::TimerBusy } else { PushKind::Timer };
            // SAFETY: C1; the timer backend does not touch queues.
            unsafe { push_here(worker, task, kind) };
        }
    };
    let fired = core.timer.expire(me, now, &mut |entry: TimerEntry| {
        let Some(record) = core.base.table.find(entry.ticket.id) else {
            contract::broken("T1", format_args!("a timer gave out {:?}, where no thread is", entry.ticket));
        };
        prefetch_record(record);
        behind[place].replace((record, entry.ticket)).into_iter().for_each(wake);
        place = (place + 1) % behind.len();
    });
    behind[place..].iter().chain(&behind[..place]).copied().flatten().for_each(wake);
    worker.base.pace.fired(fired, now);
    fired
}

/// Queues a thread on this worker, and wakes another worker if that helps.
///
/// # Safety
///
/// C1 of [`pick`].
#[inline(always)]
pub(crate) unsafe fn push_here<P: Parts>(worker: &Worker<P>, task: Runnable, kind: PushKind) {
    let core = worker.core();
    // After a yield the number of queued threads has not grown: whoever should know has been told. And
    // an only worker is awake, since it is this one.
    if kind == PushKind::Yield || core.base.worker_count == 1 {
        // SAFETY: C1.
        core.queue.push(unsafe { worker.queue() }, task, kind);
        return;
    }
    let class = class_of(&core.base, &task);
    // SAFETY: C1.
    core.queue.push(unsafe { worker.queue() }, task, kind);
    let base = &worker.base;
    let offer = match kind {
        // The first thread woken since the last decision is likely run here next, when the present
        // one waits; waking another worker for it would tear a pair apart. Should the
        // present one run on instead, the monitor offers it.
        PushKind::Wake | PushKind::Joined | PushKind::Timer | PushKind::TimerBusy => {
            let wakes = base.wakes.get();
            base.wakes.set(wakes + 1);
            let is_worth = wakes > 0 && (kind != PushKind::Timer || base.pace.is_worth(wakes));
            // Nor is it kept by a worker that may not run it.
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

/// Makes a picked thread ready to be switched to.
///
/// # Safety
///
/// C1 of [`pick`]; **C2**: `next` was just picked.
#[inline]
pub(crate) unsafe fn place<P: Parts>(worker: &Worker<P>, next: *const Record) -> Result<Place, MemoryError> {
    // SAFETY: C2: records outlive their tokens.
    let record = unsafe { &*next };
    if record.is_fresh() {
        // SAFETY: C1, C2.
        unsafe { bind::<P>(worker, record)? };
    } else if !record.meta.suspended.load(Relaxed).is_null() && !resident::come_home(record) {
        return Ok(Place::Held(next));
    }
    install(&worker.base, record);
    Ok(Place::Here(next))
}

/// Notes that `record` runs on this worker.
#[inline]
pub(crate) fn install(base: &WorkerBase, record: &Record) {
    record.set_state(GvtState::Running);
    record.meta.worker_id.store(base.index as u32, Relaxed);
    base.current.set(record);
    base.row().current_gvthread.store(record.meta.gvthread_id, Relaxed);
}

/// Gives a thread that never ran a stack.
///
/// # Safety
///
/// C1 and C2 of [`place`].
unsafe fn bind<P: Parts>(worker: &Worker<P>, record: &Record) -> Result<(), MemoryError> {
    let core = worker.core();
    let class = record.stack_choice().class().unwrap_or(core.base.default_class);
    // SAFETY: C1.
    let slot = core.slots.acquire(unsafe { worker.slots() }, class)?;
    let stack = core.slots.bounds(&slot);
    record.meta.slot.store(slot.into_index(), Relaxed);
    let argument = (&raw const *record).cast_mut().cast();
    // SAFETY: C1 of `prepare`: the thread is this worker's. C2: the slot is fresh from the allocator.
    unsafe { P::Context::prepare(record.registers(), stack, root::root::<P>, argument) };
    Ok(())
}

/// Where a leaving thread should switch to: the next thread's registers, or the native loop's.
///
/// # Safety
///
/// C1 of [`pick`].
#[inline(always)]
pub(crate) unsafe fn target<P: Parts>(worker: &Worker<P>) -> *const Registers {
    // SAFETY: C1.
    let Some(next) = (unsafe { pick(worker) }) else {
        return native(&worker.base);
    };
    // SAFETY: C1; just picked.
    unsafe { target_of(worker, next) }
}

/// The same once a thread is picked.
///
/// # Safety
///
/// C1 and C2 of [`place`].
#[inline(always)]
pub(crate) unsafe fn target_of<P: Parts>(worker: &Worker<P>, next: *const Record) -> *const Registers {
    // SAFETY: records outlive their tokens.
    let record = unsafe { &*next };
    if record.is_fresh() || !record.meta.suspended.load(Relaxed).is_null() {
        // SAFETY: C1; just picked.
        return unsafe { target_slow(worker, next) };
    }
    install(&worker.base, record);
    record.registers()
}

/// [`target`] for a thread that has no stack yet, or is held.
///
/// # Safety
///
/// C1 and C2 of [`place`].
#[inline(never)]
pub(crate) unsafe fn target_slow<P: Parts>(worker: &Worker<P>, mut next: *const Record) -> *const Registers {
    loop {
        // SAFETY: C1, C2.
        match unsafe { place(worker, next) } {
            // SAFETY: records outlive their threads.
            Ok(Place::Here(next)) => return unsafe { &*next }.registers(),
            Ok(Place::Held(next)) => {
                worker.base.handoff.set(next);
                return native(&worker.base);
            }
            // SAFETY: C1; just picked and not started.
            Err(error) => unsafe { root::refuse(worker, &*next, error) },
        }
        // SAFETY: C1.
        match unsafe { pick(worker) } {
            Some(other) => next = other,
            None => return native(&worker.base),
        }
    }
}

/// The registers of this OS thread's loop.
#[inline(never)]
pub(crate) fn native(base: &WorkerBase) -> *const Registers {
    base.current.set(ptr::null());
    // SAFETY: on a worker's OS thread, which is one of the runtime's.
    unsafe { (*local::os_thread()).native.get() }
}

/// Leaves `record`'s stack for `target`; returns when `record` is run again.
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
    // SAFETY: just arrived.
    unsafe { arrive::<P>() };
}

/// D3: does what the one that left has asked for.
///
/// # Safety
///
/// **C1**: just arrived by a switch, on an OS thread that carries a worker of type `Worker<P>`.
#[inline(always)]
pub(crate) unsafe fn arrive<P: Parts>() {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(&*local::worker()) };
    // SAFETY: C1.
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
        // SAFETY: it has left its stack, runs nowhere, and no token of it exists.
        let task = unsafe { (*record).runnable() };
        // SAFETY: C1.
        return unsafe { push_here(worker, task, PushKind::Yield) };
    }
    // SAFETY: C1.
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
                // SAFETY: W2 of `wait`: the committer queues it, and nobody else does.
                let task = unsafe { record.runnable() };
                // SAFETY: C1.
                unsafe { push_here(worker, task, PushKind::Wake) };
            }
        }
        // SAFETY: C1.
        Departed::Preempted(record) => unsafe {
            // First those who have waited for this: else the preempted thread could be next again.
            rounds(worker);
            held::queue_preempted(worker.core(), &*record);
        },
        Departed::Ended(slot) => {
            // SAFETY: the index was taken from the token when the slot was bound.
            let slot = unsafe { Slot::from_index(slot) };
            // SAFETY: C1 of `release`: its thread has ended and its stack was left for good.
            unsafe { worker.core().slots.release(worker.slots(), slot) };
        }
    }
}

/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime.
unsafe fn yield_now<P: Parts>(base: &WorkerBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    let record = base.current();
    if record.is_asked() {
        record.answer();
        local::has_yielded();
        // Somebody may wait for a timer.
        base.poke.store(true, Relaxed);
    }
    // A thread that unwinds stays on its OS thread, whose panic count it has raised.
    if !std::thread::panicking() {
        // SAFETY: C1, entered.
        if let Some(next) = unsafe { pick(worker) } {
            // SAFETY: C1; just picked.
            let target = unsafe { target_of(worker, next) };
            // Nobody at all: those who were picked could not be given a stack.
            if base.current.get().is_null() && base.handoff.get().is_null() {
                base.current.set(record);
            } else {
                record.set_state(GvtState::Ready);
                // SAFETY: C1, entered; the target is fresh.
                unsafe { depart(worker, record, After::yielded(record), target) };
            }
        } else if base.poke.load(Relaxed) {
            // SAFETY: C1, entered; nobody was picked.
            unsafe { resident::yield_to_loop(worker, record) };
        }
    }
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// **C1**: called by a green thread that runs on `base`, inside the runtime, with its wait armed.
unsafe fn park<P: Parts>(base: &WorkerBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    let record = base.current();
    record.set_state(GvtState::Blocked);
    record.meta.blocked_since_ns.store(base.coarse_ns.load(Relaxed), Relaxed);
    if std::thread::panicking() {
        // SAFETY: C1.
        unsafe { held::park_held::<P>(worker, record) };
    } else {
        // SAFETY: C1.
        let target = unsafe { target(worker) };
        // SAFETY: C1; the target is fresh.
        unsafe { depart(worker, record, After::parked(record), target) };
    }
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of [`park`].
unsafe fn park_for<P: Parts>(base: &WorkerBase, awaited: &Record) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    // SAFETY: C1.
    worker.core().queue.expedite(unsafe { worker.queue() }, awaited.shown());
    std::mem::forget(no_unwind);
    // SAFETY: C1.
    unsafe { park::<P>(base) };
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn push<P: Parts>(base: &CoreBase, task: Runnable, kind: PushKind) {
    let no_unwind = NoUnwind;
    // Two sections are the caller's and this one. One more: the scheduler's own push when a thread ends, or else a part or a
    // destructor that the scheduler called wakes somebody. This worker's end of the queue may be lent out then (B2).
    // SAFETY: a carried worker is alive.
    match unsafe { local::enter().as_ref() } {
        Some(worker) if ptr::eq(worker.core, base) && (kind == PushKind::Joined || local::depth() <= 2) => {
            // SAFETY: carried by this OS thread, inside the runtime.
            unsafe { push_here(Worker::<P>::of(worker), task, kind) };
        }
        // SAFETY: C1.
        _ => unsafe { inject::<P>(base, task) },
    }
    local::leave();
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn inject<P: Parts>(base: &CoreBase, task: Runnable) {
    let no_unwind = NoUnwind;
    let class = class_of(base, &task);
    // SAFETY: C1.
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
unsafe fn push_spawned<P: Parts>(base: &WorkerBase, task: Runnable) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
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
    // SAFETY: C1.
    unsafe { push_here(Worker::<P>::of(base), task, PushKind::Joined) };
    std::mem::forget(no_unwind);
}

/// # Safety
///
/// C1 of [`push_spawned`].
unsafe fn push_woken<P: Parts>(base: &WorkerBase, task: Runnable) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    unsafe { push_here(Worker::<P>::of(base), task, PushKind::Wake) };
    std::mem::forget(no_unwind);
}
