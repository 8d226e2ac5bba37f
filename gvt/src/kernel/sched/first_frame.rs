//! A green thread's first function: runs closures until the stack is needed no more.
//!
//! The end of a thread: its locals are dropped, its result is stored, its joiner woken, its references dropped; then the
//! next thread is picked. If that one never ran, its closure is run right here, on the same, warm
//! stack; a burst of short threads thus runs on a handful of stacks without a switch.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, MemoryError, SchedError};

use crate::cancel::token;
use crate::kernel::sched::switch;
use crate::kernel::sched::switch::{arrive, pick};
use crate::kernel::thread::record::{Cold, EntryFn, Record, Step};
use crate::kernel::worker::core::install;
use crate::kernel::worker::core::{After, CoreBase, Parts, Worker, WorkerBase};
use crate::kernel::worker::joiner;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::section;
use crate::kernel::worker::tls;
use crate::protocol::join;
use crate::protocol::join::{Ended, Prepared};
use crate::thread::local_key;

/// The first function on a stack; `argument` is the record of the thread it was bound for.
///
/// # Safety
///
/// **C1**: entered by a switch on an OS thread that carries a `Worker<P>`, with that record current.
pub(crate) unsafe extern "C" fn root<P: Parts>(argument: *mut ()) -> ! {
    let mut record = argument as *const Record;
    // SAFETY: C1.
    unsafe { arrive::<P>() };
    loop {
        // SAFETY: C1, or installed below.
        record = unsafe { run_one::<P>(&*record) };
    }
}

/// Runs a thread from its closure to its end; returns the next that is to run on this stack, or
/// leaves the stack for good.
///
/// # Safety
///
/// **C1**: `record` is current on the worker that this OS thread carries, inside the runtime.
unsafe fn run_one<P: Parts>(record: &Record) -> *const Record {
    // SAFETY: C1.
    let base = unsafe { &*tls::worker() };
    record.meta.start_time_ns.store(base.coarse_ns.load(Relaxed), Relaxed);
    tls::leave();
    // SAFETY: C1; the closure was stored when the thread was spawned, and is run once.
    unsafe { entry(record)(record, Step::Run) };
    let slot = record.meta.slot.load(Relaxed);
    let choice = record.stack_choice();
    let mut prepared = Prepared::No;
    let base = loop {
        if join::is_detached(&record.meta.join_waiters) {
            // Its destructor is user code, so this is done outside the runtime.
            // SAFETY: the outcome is stored, and the handle is gone, so nobody else can reach it.
            unsafe { entry(record)(record, Step::DropResult) };
            local_key::end_of(record);
            let base = enter_again();
            // SAFETY: the references are the thread's, since it has no handle.
            unsafe { let_go(record, GvtState::Finished, prepared, base) };
            break base;
        }
        let mut base = enter_again();
        record.set_state(GvtState::Finished);
        match join::end(&record.meta.join_waiters, prepared) {
            Ended::Unprepared => {
                record.set_state(GvtState::Running);
                tls::leave();
                stay(record);
                prepared = Prepared::Yes;
                continue;
            }
            Ended::Detached => {
                record.set_state(GvtState::Running);
                tls::leave();
                continue;
            }
            // From here on the record is the handle's, and may be another thread's any moment, unless the thread stays.
            Ended::Nobody => {}
            Ended::Wake(waiter) if waiter.is_task() => {
                // J6 of `join`: users' code, called by a thread that keeps its record.
                record.set_state(GvtState::Running);
                tls::leave();
                // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
                unsafe { joiner::wake(waiter, record.core()) };
                local_key::end_of(record);
                base = enter_again();
                record.set_state(GvtState::Finished);
            }
            Ended::Wake(waiter) if waiter.is_green() => {
                if let Some(task) = joiner::end_named(waiter, base.core()) {
                    // SAFETY: this OS thread carries the worker, inside the runtime.
                    unsafe { switch::push_joined::<P>(base, task) };
                }
            }
            // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
            Ended::Wake(waiter) => unsafe { joiner::wake(waiter, base.core()) },
        }
        if prepared == Prepared::Yes {
            let count = credit(record) + 1;
            pass_over(record, count);
            // SAFETY: they are the thread's own.
            unsafe { release(record, count, base) };
        }
        break base;
    };
    // SAFETY: C1.
    let worker = unsafe { Worker::<P>::of(base) };
    let no_unwind = NoUnwind;
    worker.base.count_ended();
    worker.base.core().discharge(choice);

    // SAFETY: this OS thread carries the worker.
    let registers = match unsafe { pick(worker) } {
        Some(next) => {
            // SAFETY: records outlive their tokens.
            let next_record = unsafe { &*next };
            // A stack of its own class would do as well, but not one of another.
            if next_record.is_fresh() && next_record.stack_choice() == choice {
                next_record.meta.slot.store(slot, Relaxed);
                install(&worker.base, next_record);
                std::mem::forget(no_unwind);
                return next;
            }
            // SAFETY: just picked.
            unsafe { switch::target_of(worker, next) }
        }
        None => switch::native(&worker.base),
    };
    worker.base.after.set(After::ended(slot));
    // SAFETY: C2 of `switch`: fresh from `pick`, or this OS thread's loop. The stack is released by
    // whoever arrives.
    unsafe { P::Context::leave(registers) }
}

/// Enters the runtime at a thread's end; the worker, which stays the same until the next switch. The thread may have moved.
fn enter_again<'a>() -> &'a WorkerBase {
    // SAFETY: a green thread runs on a worker.
    unsafe { &*section::enter() }
}

fn entry(record: &Record) -> EntryFn {
    // Relaxed: written before the thread was pushed.
    let entry = record.meta.entry_fn.load(Relaxed);
    // SAFETY: `spawn` stored an `EntryFn` there.
    unsafe { std::mem::transmute::<u64, EntryFn>(entry) }
}

/// Lets go of what a thread without a handle holds: the reference that the two shared, and those that it took
/// for children and did not use.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`, inside the runtime; **C2**: the thread's end found it detached, and
/// its outcome was dropped.
unsafe fn let_go(record: &Record, state: GvtState, prepared: Prepared, worker: &WorkerBase) {
    record.set_state(state);
    let count = match prepared {
        Prepared::No => credit(record) + 1,
        Prepared::Yes => credit(record) + 2,
    };
    pass_over(record, count);
    // SAFETY: C2: they are this thread's.
    unsafe { release(record, count, worker) };
}

/// J6 of `join`: the running thread keeps its record beyond its end.
#[cold]
fn stay(record: &Record) {
    // Relaxed: the thread holds other references; the handle learns of it by `join_waiters`.
    record.meta.references.fetch_add(1, Relaxed);
    record.set_stays();
}

/// What a thread has taken for its children and not used.
fn credit(record: &Record) -> u32 {
    // Relaxed: the thread's own; the handle reads it after the end, ordered by `join_waiters`.
    record.meta.children_credit.load(Relaxed)
}

/// Lets go of the handle's share of an ended thread's references: all that go with the last of the two, unless the thread
/// stays. `None`: others refer to the record.
///
/// # Safety
///
/// **C1**: the thread has ended, and the caller has its handle. C2 of [`release_one`].
#[inline]
pub(crate) unsafe fn release_own(record: &Record, worker: Option<&WorkerBase>) -> Option<Freed> {
    let count = if record.stays() { 1 } else { credit(record) + 1 };
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        // SAFETY: C1, C2.
        return unsafe { release_own_shared(record, count, worker) };
    }
    // SAFETY: C1: the last references.
    Some(unsafe { free_one(record, worker) })
}

/// [`release_own`] while others refer to the record.
///
/// # Safety
///
/// C1 and C2 of [`release_own`].
#[cold]
unsafe fn release_own_shared(record: &Record, count: u32, worker: Option<&WorkerBase>) -> Option<Freed> {
    if !record.stays() {
        token::pass_over_ancestors(record);
    }
    // SAFETY: C1: the references are the caller's. C2.
    unsafe { release_one(record, count, worker) }
}

/// Somebody who keeps a record looks along its link for long yet: passes over its ancestors, while its last `count` references of
/// its own keep it.
#[inline]
fn pass_over(record: &Record, count: u32) {
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        token::pass_over_ancestors(record);
    }
}

/// Ends a thread that could not be given a stack: its handle's `join` says why.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker`; **C2**: `record` was just picked and never ran.
#[cold]
pub(crate) unsafe fn refuse<P: Parts>(worker: &Worker<P>, record: &Record, error: MemoryError) {
    let base = &worker.base;
    base.core().discharge(record.stack_choice());
    // The closure's destructor is user code, and has no stack of its own to run on. It runs here, on the
    // stack of a thread that is about to leave, so it must not find a worker to park on: it runs as if
    // outside the runtime, with preemption off.
    // SAFETY: a worker's OS thread is one of the runtime's.
    let os_thread = unsafe { &*tls::os_thread() };
    os_thread.set_worker(ptr::null());
    // SAFETY: C2.
    unsafe { entry(record)(record, Step::Refuse) };
    os_thread.set_worker(base);
    // SAFETY: the closure is gone, so the storage is free.
    unsafe { record.put_panic(Box::new(SchedError::Memory(error))) };
    record.set_state(GvtState::Cancelled);
    // It has no record to keep for itself: the waker below runs as no green thread.
    match join::end(&record.meta.join_waiters, Prepared::Yes) {
        Ended::Nobody => {}
        Ended::Wake(waiter) => {
            // A future's waker is users' code, as the closure's destructor.
            os_thread.set_worker(if waiter.is_task() { ptr::null() } else { base });
            // SAFETY: the waiter was taken out of the word, so it is this call's to wake.
            unsafe { joiner::wake(waiter, base.core()) };
            os_thread.set_worker(base);
        }
        Ended::Detached => {
            os_thread.set_worker(ptr::null());
            // SAFETY: stored above, and nobody else can reach it.
            unsafe { entry(record)(record, Step::DropResult) };
            os_thread.set_worker(base);
            // SAFETY: C1, dropped.
            unsafe { let_go(record, GvtState::Cancelled, Prepared::No, base) };
        }
        Ended::Unprepared => unreachable!("it said that it was prepared"),
    }
    base.count_ended();
}

/// Lets go of `count` references to a record of the worker's runtime; the last frees it, then the ancestors that it was the last
/// to refer to: one after the other, since a family may be deep.
///
/// # Safety
///
/// **C1**: the references are the caller's. **C2**: this OS thread carries `worker`, inside the runtime.
#[inline]
pub(crate) unsafe fn release(record: &Record, count: u32, worker: &WorkerBase) {
    if is_last(record, count) {
        // SAFETY: the last reference.
        unsafe { free(record, worker) };
    }
}

/// Takes `count` off a record's references, unless they are all there are: then says so.
#[inline]
fn is_last(record: &Record, count: u32) -> bool {
    // ORDERING O1: Acquire on the shortcut, and the fence below, pair with the Release of the others
    // that let go: their last accesses happen before the record is reused.
    if record.meta.references.load(Acquire) != count
        && record.meta.references.fetch_sub(count, Release) != count
    {
        return false;
    }
    std::sync::atomic::fence(Acquire);
    true
}

/// # Safety
///
/// **C1**: nobody refers to the record any more. C2 of [`release`].
unsafe fn free(record: &Record, worker: &WorkerBase) {
    let mut record = record;
    loop {
        // SAFETY: C1, and then `is_last`; C2.
        let freed = unsafe { free_one(record, Some(worker)) };
        debug_assert!(freed.core.is_none(), "the worker's core is there");
        // What a token in it was the last to keep goes elsewhere (`lifecycle::bury`).
        drop(freed.cold);
        match freed.owed {
            Some((next, count)) => {
                // SAFETY: kept by what is owed.
                record = unsafe { next.as_ref() };
                if !is_last(record, count) {
                    return;
                }
            }
            None => return,
        }
    }
}

/// What a freed record leaves for the one who freed it.
pub(crate) struct Freed {
    /// To be dropped. Its token may be the last of other records.
    pub(crate) cold: Option<Box<Cold>>,
    /// References that are now to be let go of.
    pub(crate) owed: Option<(NonNull<Record>, u32)>,
    /// The runtime is gone, and nobody refers to its records any more: to be buried.
    pub(crate) core: Option<NonNull<CoreBase>>,
}

/// Lets go of `count` references to a record of any runtime; `None`: others refer to it.
///
/// # Safety
///
/// **C1**: the references are the caller's. **C2**: inside the runtime, where `worker` is what this OS thread carries.
#[inline]
pub(crate) unsafe fn release_one(record: &Record, count: u32, worker: Option<&WorkerBase>) -> Option<Freed> {
    // SAFETY: C1: the last reference.
    is_last(record, count).then(|| unsafe { free_one(record, worker) })
}

/// Frees a record.
///
/// # Safety
///
/// C1 of [`free`]; C2 of [`release_one`].
#[inline(always)]
unsafe fn free_one(record: &Record, worker: Option<&WorkerBase>) -> Freed {
    // SAFETY: the core is there: the record is outstanding.
    let core: &CoreBase = unsafe { &*ptr::from_ref(record.core()) };
    record.meta.references.store(0, Relaxed);
    // Relaxed: nobody refers to the record any more.
    let has_cold = !record.meta.cold.load(Relaxed).is_null();
    let cold = if has_cold {
        // SAFETY: C1.
        unsafe { record.take_cold(&core.lifecycle.reading) }
    } else {
        None
    };
    // ORDERING O3: Release: as the stores in `spawn_on`.
    let parent = record.meta.parent_id.swap(u32::MAX, Release);
    let parent = (parent != u32::MAX).then(|| core.table.get(gvt_traits::GvtId::new(parent)));
    match worker {
        Some(worker) if ptr::eq(worker.core, core) => {
            // SAFETY: this OS thread carries the worker, inside the runtime.
            core.table.release(record, Some(unsafe { &mut *worker.records.get() }));
            let owed =
                parent.and_then(
                    |parent| if core.table.is_exact() { Some((parent, 1)) } else { owe(worker, parent) },
                );
            Freed { cold, owed: owed.map(|(next, count)| (NonNull::from(next), count)), core: None }
        }
        _ => {
            let last = core.table.release_outside(record, &core.lifecycle.orphans);
            debug_assert!(!last || parent.is_none(), "a parent is outstanding as long as its child");
            // If there is a parent it is outstanding, so the core is there.
            Freed {
                cold,
                owed: parent.map(|parent| (NonNull::from(parent), 1)),
                core: last.then(|| NonNull::from(core)),
            }
        }
    }
}

/// Notes a reference to let go of later: children of one parent end in a row, on several workers,
/// and would all meet on the parent's counter. Returns what was owed to another.
fn owe<'a>(worker: &WorkerBase, parent: &Record) -> Option<(&'a Record, u32)> {
    let (owed_to, count) = worker.debt.get();
    if ptr::eq(owed_to, parent) {
        worker.debt.set((owed_to, count + 1));
        return None;
    }
    worker.debt.set((parent, 1));
    // SAFETY: null, or kept by the debt.
    unsafe { owed_to.as_ref() }.map(|owed_to| (owed_to, count))
}

/// Lets go of what is owed.
pub(crate) fn settle_debt(worker: &WorkerBase) {
    loop {
        let (owed_to, count) = worker.debt.replace((ptr::null(), 0));
        if owed_to.is_null() {
            return;
        }
        // Freeing it may run up a debt with its own parent.
        // SAFETY: the debt held them.
        unsafe { release(&*owed_to, count, worker) };
    }
}
