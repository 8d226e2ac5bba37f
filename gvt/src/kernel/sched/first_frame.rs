//! A green thread's first function: runs closures until the stack is needed no more.
//!
//! The end of a thread: its locals are dropped, its result is stored, its joiner woken, its references dropped; then the
//! next thread is picked. If that one never ran, its closure is run right here, on the same, warm
//! stack; a burst of short threads thus runs on a handful of stacks without a switch.

use std::ptr::{self};
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, MemoryError, SchedError};

use crate::kernel::sched::switch;
use crate::kernel::sched::switch::{arrive, pick};
use crate::kernel::thread::record::{EntryFn, Record, Step};
use crate::kernel::worker::core::install;
use crate::kernel::worker::core::{After, Parts, Worker, WorkerBase};
use crate::kernel::worker::joiner;
use crate::kernel::worker::lineage::pass_over;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::references::{credit, release};
use crate::kernel::worker::section;
use crate::kernel::worker::tls;
use crate::protocol::join;
use crate::protocol::join::{Ended, Prepared};

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
            record.end_locals();
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
                record.end_locals();
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
