//! A green thread's first function: runs closures until the stack is not needed.
//!
//! At a thread's end its locals are dropped, its result is stored, its joiner is woken and its references are
//! released; then the next thread is picked. If that one has never run, its closure runs right here, on the
//! same, warm stack. A burst of short threads thus runs on a handful of stacks without a switch.

use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState};

use crate::kernel::sched::pick::pick;
use crate::kernel::sched::switch::arrive;
use crate::kernel::sched::{enqueue, switch};
use crate::kernel::thread::record::{Record, Step};
use crate::kernel::worker::core::{After, Parts, Worker, WorkerBase, install};
use crate::kernel::worker::ending::{entry, let_go};
use crate::kernel::worker::lineage::pass_over;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::references::{credit, release};
use crate::kernel::worker::{joiner, section, tls};
use crate::protocol::join;
use crate::protocol::join::{Ended, Prepared};

/// The first function on a stack; `argument` is the record of the thread that the stack was bound for.
///
/// # Safety
///
/// **C1**: entered by a switch on an OS thread that carries a `Worker<P>`, with that record current.
pub(crate) unsafe extern "C" fn first_frame<P: Parts>(argument: *mut ()) -> ! {
    let mut record = argument as *const Record;
    // SAFETY: C1: entered by a switch.
    unsafe { arrive::<P>() };
    loop {
        // SAFETY: C1, or installed below.
        record = unsafe { run_one::<P>(&*record) };
    }
}

/// Runs a thread from its closure to its end. Returns the next thread that runs on this stack, or leaves the
/// stack for good.
///
/// # Safety
///
/// **C1**: `record` is current on the worker that this OS thread carries, inside the runtime.
unsafe fn run_one<P: Parts>(record: &Record) -> *const Record {
    // SAFETY: C1: a carried worker is alive.
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
            // The result's destructor is user code, so it runs outside the runtime.
            // SAFETY: the outcome is stored, and without a handle nothing else reaches it.
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
            // From here on the record belongs to the handle, and may be reused for another thread at any
            // moment, unless the thread stays (J6 of `join`).
            Ended::Nobody => {}
            Ended::Wake(waiter) if waiter.is_task() => {
                // J6 of `join`: the waker is user code, called by a thread that keeps its record.
                record.set_state(GvtState::Running);
                tls::leave();
                // SAFETY: taken out of its word, so it is this call's to wake.
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
            // SAFETY: taken out of its word, so it is this call's to wake.
            Ended::Wake(waiter) => unsafe { joiner::wake(waiter, base.core()) },
        }
        if prepared == Prepared::Yes {
            let count = credit(record) + 1;
            pass_over(record, count);
            // SAFETY: the references are the thread's own.
            unsafe { release(record, count, base) };
        }
        break base;
    };
    // SAFETY: C1: the worker runs this thread, so its type is `P`'s.
    let worker = unsafe { Worker::<P>::of(base) };
    let no_unwind = NoUnwind;
    worker.base.count_ended();
    worker.base.core().discharge(choice);

    // SAFETY: this OS thread carries the worker.
    let registers = match unsafe { pick(worker) } {
        Some(next) => {
            // SAFETY: records outlive their tokens.
            let next_record = unsafe { &*next };
            // Only a stack of the same class can be reused.
            if next_record.is_fresh() && next_record.stack_choice() == choice {
                next_record.meta.slot.store(slot, Relaxed);
                install(&worker.base, next_record);
                std::mem::forget(no_unwind);
                return next;
            }
            // SAFETY: carried here; `next` was just picked.
            unsafe { switch::target_of(worker, next) }
        }
        None => switch::native(&worker.base),
    };
    worker.base.after.set(After::ended(slot));
    // SAFETY: C2 of `switch`: fresh from `pick`, or this OS thread's loop. The code that arrives releases the
    // stack.
    unsafe { P::Context::leave(registers) }
}

/// Enters the runtime at a thread's end. The thread may have migrated; from here until the next switch the
/// worker stays the same.
fn enter_again<'a>() -> &'a WorkerBase {
    // SAFETY: a green thread runs on a worker.
    unsafe { &*section::enter() }
}

/// J6 of `join`: the running thread keeps its record beyond its end.
#[cold]
fn stay(record: &Record) {
    // Relaxed: the thread holds other references; the handle learns of this one through `join_waiters`.
    record.meta.references.fetch_add(1, Relaxed);
    record.set_stays();
}
