//! A green thread's first function: runs closures until the stack is needed no more.
//!
//! The end of a thread: its locals are dropped, its result is stored, its joiner woken, its references dropped; then the
//! next thread is picked. If that one never ran, its closure is run right here, on the same, warm
//! stack; a burst of short threads thus runs on a handful of stacks without a switch.

use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState};

use crate::kernel::sched::enqueue;
use crate::kernel::sched::pick::pick;
use crate::kernel::sched::switch;
use crate::kernel::sched::switch::arrive;
use crate::kernel::thread::record::{Record, Step};
use crate::kernel::worker::core::install;
use crate::kernel::worker::core::{After, Parts, Worker, WorkerBase};
use crate::kernel::worker::ending::entry;
use crate::kernel::worker::ending::let_go;
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
                    unsafe { enqueue::push_joined::<P>(base, task) };
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

/// J6 of `join`: the running thread keeps its record beyond its end.
#[cold]
fn stay(record: &Record) {
    // Relaxed: the thread holds other references; the handle learns of it by `join_waiters`.
    record.meta.references.fetch_add(1, Relaxed);
    record.set_stays();
}
