//! Sections of the runtime: code that must not be preempted by force, and that knows its worker.
//!
//! Runtime code runs between [`enter`] and [`leave`]. A preemption signal that finds the preempt count above
//! zero leaves the thread alone, and the monitor does not take its worker. The count belongs to the OS
//! thread; a switch leaves it as it is, since both sides of a switch are inside the runtime. The count is
//! raised first and the worker read afterwards (E1, E2 of `retake`): a thread that is preempted between
//! reading and using it would use another thread's worker.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{MAINTENANCE, WorkerBase};
use crate::kernel::worker::tls::{self, depth, leave, worker};
use crate::kernel::worker::{contract, handoff};

/// Enters the runtime. Returns the worker that this OS thread carries, or null on a foreign OS thread. A
/// green thread whose worker was taken away waits for another first.
#[inline(never)]
pub(crate) fn enter() -> *const WorkerBase {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return ptr::null();
    };
    let worker = os_thread.enter();
    if worker.is_null() { handoff::rejoin(os_thread) } else { worker }
}

/// [`enter`] for code that must come from outside the runtime: it may leave the stack, or use the worker's
/// parts. Ends the process if a part that the runtime has called calls it (B2).
#[inline(never)]
pub(crate) fn enter_from_outside() -> *const WorkerBase {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return ptr::null();
    };
    if os_thread.depth() != 0 {
        demand_outside();
    }
    let worker = os_thread.enter();
    if worker.is_null() { handoff::rejoin(os_thread) } else { worker }
}

/// Ends the process if the caller is inside the runtime, on a worker: the caller's operation is allowed
/// outside only (B2).
#[cold]
pub(crate) fn demand_outside() {
    if depth() != 0 && !worker().is_null() {
        contract::called_back();
    }
}

/// The running green thread's record, or null. Does not enter the runtime: a thread without a worker does not
/// wait for one.
#[inline(never)]
pub(crate) fn current() -> *const Record {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return ptr::null();
    };
    os_thread.preempt_disable();
    os_thread.wait_for_decision();
    // SAFETY: a carried worker is alive.
    let record = match unsafe { os_thread.worker().as_ref() } {
        Some(worker) => worker.current.get(),
        None => os_thread.bound_thread(),
    };
    os_thread.preempt_enable();
    record
}

/// The body of `safepoint!`: counts it, and returns whether the running thread is asked to yield.
#[inline(never)]
pub(crate) fn safepoint() -> bool {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return false;
    };
    // SAFETY: a carried worker is alive.
    let asked = match unsafe { os_thread.enter().as_ref() } {
        Some(worker) => {
            worker.count_activity(MAINTENANCE);
            // A part that the worker loop has called has a worker and no thread.
            // SAFETY: the running thread's record stays mapped.
            unsafe { worker.current.get().as_ref() }.is_some_and(Record::is_asked)
        }
        // Without a worker: a yield gets one.
        None => true,
    };
    os_thread.preempt_enable();
    asked
}

/// Number of calls that still check whether their thread is asked to yield; 0 if no thread was asked lately.
/// A call that does not enter the runtime otherwise, such as an uncontended lock, then pays a load and a
/// branch. Relaxed: a hint; the flag decides.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// After so many calls that find their own thread not asked, the checks end until the monitor asks a thread
/// again, which it does at each look while that thread runs. Enough that calls of other threads do not use
/// them up in between.
const LOOKS_AN_ASK: u32 = 1 << 16;

/// A thread is asked to yield.
///
/// Context: the monitor.
pub(crate) fn expect_looks() {
    LOOKS.store(LOOKS_AN_ASK, Relaxed);
}

/// A thread that was asked yields. Others may be asked, too.
pub(crate) fn has_yielded() {
    LOOKS.store(LOOKS.load(Relaxed).min(LOOKS_AN_ASK / 64), Relaxed);
}

/// At the start of each user call that need not wait: yields if the monitor has asked for it, so that a
/// thread that never waits gives way too (under `Cooperative` nothing else makes it).
#[inline(always)]
pub(crate) fn give_way() {
    if LOOKS.load(Relaxed) != 0 {
        look();
    }
}

#[cold]
#[inline(never)]
fn look() {
    if is_asked() {
        step_back();
    } else {
        // Concurrent decrements may get lost.
        LOOKS.store(LOOKS.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

/// Lets other ready threads run, and returns when it is this one's turn again; `false`: not a green thread.
#[inline]
pub(crate) fn step_back() -> bool {
    // SAFETY: a carried worker is alive.
    let green = match unsafe { enter_from_outside().as_ref() } {
        Some(worker) => {
            // SAFETY: a green thread that runs on `worker`, inside the runtime.
            unsafe { (worker.vtable.yield_now)(worker) };
            true
        }
        None => false,
    };
    leave();
    green
}

/// Whether the caller is a green thread outside the runtime that has a worker and is asked to yield.
#[inline(never)]
fn is_asked() -> bool {
    // SAFETY: an OS thread's entry outlives the OS thread.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return false;
    };
    if os_thread.depth() != 0 {
        return false;
    }
    // SAFETY: a carried worker is alive.
    let asked = match unsafe { os_thread.enter().as_ref() } {
        // SAFETY: the running thread's record stays mapped.
        Some(worker) => unsafe { worker.current.get().as_ref() }.is_some_and(Record::is_asked),
        // Without a worker it delays no other thread.
        None => false,
    };
    os_thread.preempt_enable();
    asked
}

/// A runtime section, left when dropped. Code that may unwind out of a scheduling function must not hold it;
/// the functions that switch call `enter` and `leave` themselves.
pub(crate) struct Section(*const WorkerBase);

impl Section {
    #[inline]
    pub(crate) fn new() -> Self {
        Section(enter())
    }

    /// The worker that this OS thread carries.
    #[inline]
    pub(crate) fn worker(&self) -> Option<&WorkerBase> {
        // SAFETY: inside the section, without a switch, a carried worker stays and is alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        leave();
    }
}
