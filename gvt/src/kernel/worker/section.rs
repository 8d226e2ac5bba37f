//! Sections of the runtime: what must not be interrupted, and knows its worker.
//!
//! Runtime code runs between [`enter`] and [`leave`]; a preemption signal that finds
//! the depth above zero leaves the thread alone, and the monitor takes no worker away from it. The depth belongs to
//! the OS thread: a switch leaves it as it is, since both sides of a switch are inside the runtime. First deeper, then
//! the look at the worker (E1, E2 of `retake`): a thread that was taken off between a look and a use would use another's
//! worker.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{MAINTENANCE, WorkerBase};
use crate::kernel::worker::tls::{self, depth, leave, worker};
use crate::kernel::worker::{contract, handoff};

/// Enters the runtime; the worker that this OS thread carries, or null on a foreign OS thread. A green thread whose
/// worker was taken away gets another first.
#[inline(never)]
pub(crate) fn enter() -> *const WorkerBase {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return ptr::null();
    };
    let worker = os_thread.enter();
    if worker.is_null() { handoff::rejoin(os_thread) } else { worker }
}

/// [`enter`] by code that must come from outside: it may leave the stack, or use the worker's parts. Ends the process if
/// it is called by what the runtime has called, a part (B2).
#[inline(never)]
pub(crate) fn enter_from_outside() -> *const WorkerBase {
    // SAFETY: as in `enter`.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return ptr::null();
    };
    if os_thread.depth() != 0 {
        demand_outside();
    }
    let worker = os_thread.enter();
    if worker.is_null() { handoff::rejoin(os_thread) } else { worker }
}

/// Ends the process if the caller is inside the runtime, on a worker: what it is about to do is for outside (B2).
#[cold]
pub(crate) fn demand_outside() {
    if depth() != 0 && !worker().is_null() {
        contract::called_back();
    }
}

/// The running green thread's record, or null. Does not enter the runtime: a thread without a worker learns who it is
/// without waiting for one.
#[inline(never)]
pub(crate) fn current() -> *const Record {
    // SAFETY: as in `enter`.
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

/// What `safepoint!` does: counts it, and says whether the running thread is asked to yield.
#[inline(never)]
pub(crate) fn safepoint() -> bool {
    // SAFETY: as in `enter`.
    let Some(os_thread) = (unsafe { tls::this().as_ref() }) else {
        return false;
    };
    // SAFETY: a carried worker is alive.
    let asked = match unsafe { os_thread.enter().as_ref() } {
        Some(worker) => {
            worker.count_activity(MAINTENANCE);
            // A part that the scheduler's loop has called has a worker and no thread.
            // SAFETY: the running thread's record stays mapped.
            unsafe { worker.current.get().as_ref() }.is_some_and(Record::is_asked)
        }
        // Without a worker: to yield is to get one.
        None => true,
    };
    os_thread.preempt_enable();
    asked
}

/// How many more calls look whether their thread is asked to yield; 0 while nobody has been asked lately. So that a call that does not
/// enter the runtime otherwise, as an uncontended lock, pays a load and a branch. Relaxed: a hint; the flag decides.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// So many calls that find their own thread not asked end the looking, until the monitor asks somebody again, which it does at each
/// look as long as that one runs. Enough that calls of other threads do not use them up between.
const LOOKS_AN_ASK: u32 = 1 << 16;

/// A thread has been asked to yield.
///
/// Context: the monitor.
pub(crate) fn expect_looks() {
    LOOKS.store(LOOKS_AN_ASK, Relaxed);
}

/// A thread that was asked yields. Others may have been asked, too.
pub(crate) fn has_yielded() {
    LOOKS.store(LOOKS.load(Relaxed).min(LOOKS_AN_ASK / 64), Relaxed);
}

/// At the beginning of each call of users' that need not wait: yields if the monitor has asked for it, so that a thread which never has
/// to wait gives way all the same (under `Cooperative` nothing else makes it).
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
        // Some may get lost among several threads.
        LOOKS.store(LOOKS.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

/// Lets other threads that are ready run, and returns when it is this one's turn again; `false`: no green thread.
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

/// Whether the caller is a green thread outside the runtime's code, has a worker, and is asked to yield.
#[inline(never)]
fn is_asked() -> bool {
    // SAFETY: as in `enter`.
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
        // It holds nobody up.
        None => false,
    };
    os_thread.preempt_enable();
    asked
}

/// A runtime section, left when dropped. Must not be held by code that may unwind out of a
/// scheduling function; the functions that switch call `enter` and `leave` themselves.
pub(crate) struct Section(*const WorkerBase);

impl Section {
    #[inline]
    pub(crate) fn new() -> Self {
        Section(enter())
    }

    /// The worker that this OS thread carries.
    #[inline]
    pub(crate) fn worker(&self) -> Option<&WorkerBase> {
        // SAFETY: inside the section, which switches nowhere, a carried worker is kept, and alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        leave();
    }
}
