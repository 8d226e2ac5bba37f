//! Threads that can go on only on one OS thread, though they do not keep it busy: residents.
//!
//! | who | from | until |
//! |---|---|---|
//! | a pinned thread (`Migration::Pinned`) | its first instruction | its last |
//! | a reentrant thread that was taken off by a stack switch | the interrupt | it goes on |
//!
//! The second must come back to its OS thread because it may have been interrupted between computing the address of a
//! thread-local (one of this runtime's, say) and using it.
//!
//! **Taking off.** For a thread whose author has said that it is reentrant (`Builder::reentrant`) the signal handler does not put
//! the OS thread to sleep. It has the interrupted code call [`diverted`] (X7 of `ContextSwitch`), which picks the next thread and
//! switches stacks as a yield does. `depth` is raised by the handler and stays so until the thread is back.
//!
//! **Hazard: starvation.** An OS thread with residents must not be kept by a thread that is none: a spinner that is preempted
//! keeps its OS thread (`detach`) for as long as it likes, and the residents could never go on. **Hazard: strangers.** To
//! a pinned thread its OS thread is its own: nobody else may borrow its thread-locals meanwhile.
//!
//! **So** an OS thread with residents runs its residents, and reentrant threads if none is pinned; for anybody else it gives its
//! worker to another OS thread, and waits **at home**, outside the pool of spares, until a worker comes with one of its
//! residents.
//!
//! **Hazard: what a pinned thread leaves behind.** It may set what belongs to the OS thread: its signal mask, where it may run, its name,
//! its thread-locals. Another thread expects a clean state. **So** an OS thread on which a pinned thread has ended is *spent*: nobody else
//! runs on it, it gives its worker to another OS thread at the next decision, and ends. (Go ends the OS thread of a goroutine that
//! ends locked, for the same reason.)
//!
//! **Protocol.** A resident's `suspended` names its OS thread, with the lowest bit set. Its `Runnable` is queued like any other.
//! **B1** Whoever pops it elsewhere claims that OS thread if it is at home and passes it the worker; **B2** if it is not, it leaves
//! the thread at its door and looks again; if its worker sleeps, it is woken. **B3** An OS thread that goes home queues again what
//! it finds at its door. (`mailbox`: A2, A3, A4.) **B4** At each decision an OS thread with residents looks there first.
//!
//! **No cost for others.** `need_resched` is set on the worker of an OS thread with residents, at all times; what a decision does then
//! ([`pick`]) is here.
//!
//! **Migrating at every turn** (`SchedulerConfig::migrate_always`) is the same detour: each thread that is picked goes through the
//! scheduler's loop, which passes the worker on if this is the OS thread that the thread ran on last.
//!
//! **Rejected.** Pinned threads of one worker on one OS thread: forced preemption and blocking calls move workers, and a
//! `RefCell` in a thread-local that one of them borrowed over a yield would fail the next.
//!
//! **Limits.** At the bound on OS threads, and where the kernel refuses a new one, strangers do run on an OS thread with residents, or on one
//! that is spent, with the signal mask that it began with. A resident waits while a thread on
//! its OS thread is blocked in the kernel.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, Registers, StackBounds};

use crate::kernel::sched::switch;
use crate::kernel::thread::record::{FAST, PINNED, REENTRANT, Record};
use crate::kernel::worker::binding::here;
use crate::kernel::worker::binding::is_welcome;
use crate::kernel::worker::binding::last;
use crate::kernel::worker::binding::remind;
use crate::kernel::worker::binding::tagged;
use crate::kernel::worker::core::OsThread;
use crate::kernel::worker::core::spare;
use crate::kernel::worker::core::{After, CoreBase, Parts, Worker, WorkerBase};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::section;
use crate::kernel::worker::tls;

/// Where a thread that was picked goes on, for the scheduler's loop.
pub(crate) enum Route {
    /// On this OS thread.
    Here,
    /// On this one, which is passed the worker; with the thread in `handoff` if that must be told.
    To(&'static OsThread),
    /// It has been passed on, or queued again; the worker stays.
    Forwarded,
}

/// # Safety
///
/// **C1**: called by the loop of the OS thread that carries `worker`; `record` was picked.
pub(crate) unsafe fn route<P: Parts>(worker: &Worker<P>, os_thread: &OsThread, record: &Record) -> Route {
    let base = &worker.base;
    // SAFETY: a held thread's keeper is alive; places outlive their OS threads.
    if let Some(keeper) = unsafe { record.keeper().as_ref() } {
        return Route::To(keeper);
    }
    // SAFETY: as above.
    if let Some(home) = unsafe { record.home().as_ref() } {
        if ptr::eq(home, os_thread) {
            return Route::Here;
        }
        if home.home.door.claim() {
            base.handoff.set(record);
            return Route::To(home);
        }
        if home.home.door.leave(record) {
            return Route::To(home);
        }
        // SAFETY: workers live as long as the core.
        if let Some(its) = unsafe { home.worker().as_ref() } {
            its.need_resched.store(true, Relaxed);
            if base.core().idle.sleepers() & (1 << its.index) != 0 {
                base.core().unpark(its.index);
            }
        }
        return Route::Forwarded;
    }
    let ran_here = base.core().migrates
        && !record.is_fresh()
        && last(record).load(Relaxed) == ptr::from_ref(os_thread).addr() as u64;
    if (ran_here || !is_welcome(os_thread, record))
        && let Some(spare) = spare(&worker.core().base)
    {
        base.handoff.set(record);
        return Route::To(spare);
    }
    if os_thread.home.is_spent() {
        // No other OS thread can be had.
        crate::os::set_signal_mask(os_thread.signal_mask.load(Relaxed));
    }
    if base.core().migrates {
        last(record).store(ptr::from_ref(os_thread).addr() as u64, Relaxed);
    }
    Route::Here
}

/// What becomes of an OS thread without a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// It waits for the next.
    Stays,
    /// It ends.
    Ends,
}

/// What an OS thread does that gives its worker away and has nothing to do until it gets one (B3).
pub(crate) fn stay(core: &CoreBase, os_thread: &OsThread) -> Then {
    if os_thread.home.is_spent() {
        core.pool.retire();
        return Then::Ends;
    }
    if !os_thread.home.has_residents() {
        core.pool.add_spare(os_thread);
        return Then::Stays;
    }
    let mut first = os_thread.home.turns.load(Relaxed);
    // SAFETY: C1: records outlive their threads, and a thread has one turn at a time.
    unsafe { os_thread.home.door.go_home(&mut first) };
    os_thread.home.turns.store(first, Relaxed);
    while let Some(record) = os_thread.home.next_turn() {
        // SAFETY: it was in the list, so it runs nowhere and no token of it exists.
        core.inject(unsafe { record.runnable() });
    }
    Then::Stays
}

/// What a thread with a special stay on its OS thread holds while its closure runs: see `Builder`.
pub(crate) struct Stay(Option<&'static Record>);

impl Stay {
    /// Begins what the running thread was spawned for.
    pub(crate) fn begin() -> Self {
        // SAFETY: the running thread's record stays mapped.
        let Some(record) = (unsafe { section::current().as_ref() }) else {
            return Stay(None);
        };
        if !record.has_flag(PINNED | REENTRANT) {
            return Stay(None);
        }
        let _section = section::Section::new();
        if record.has_flag(PINNED) {
            let os_thread = here();
            os_thread.home.add(1);
            os_thread.home.pinned.fetch_add(1, Relaxed);
            // ORDERING O3: Release pairs with the Acquire in `home`.
            record.meta.suspended.store(tagged(os_thread), Release);
            // SAFETY: a green thread inside the runtime runs on a worker.
            remind(unsafe { &*tls::worker() }, os_thread);
        } else {
            record.meta.flags.fetch_or(FAST, Relaxed);
        }
        Stay(Some(record))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let Some(record) = self.0 else { return };
        let _section = section::Section::new();
        if record.has_flag(PINNED) {
            let os_thread = here();
            os_thread.home.add(-1);
            os_thread.home.pinned.fetch_sub(1, Relaxed);
            os_thread.home.spent.store(true, Relaxed);
            // SAFETY: a green thread inside the runtime runs on a worker.
            remind(unsafe { &*tls::worker() }, os_thread);
            // ORDERING O3: as in `begin`.
            record.meta.suspended.store(ptr::null_mut(), Release);
        }
        record.meta.flags.fetch_and(!(PINNED | REENTRANT | FAST), Relaxed);
    }
}

/// [`divert`], for a runtime's parts.
///
/// # Safety
///
/// C1 of [`divert`].
pub(crate) unsafe fn divert_on<P: Parts>(base: &WorkerBase, context: *mut std::ffi::c_void) -> bool {
    let record = base.current();
    let slot = record.meta.slot.load(Relaxed);
    // SAFETY: the running thread's slot is in use; the table belongs to this core's type.
    let (bottom, top) = unsafe { (base.vtable.stack_bounds)(base.core(), slot) };
    let (Some(bottom), Some(top)) = (ptr::NonNull::new(bottom as *mut u8), ptr::NonNull::new(top as *mut u8))
    else {
        return false;
    };
    // SAFETY: C1 and C2: the running thread's. C3: its author says so (`Builder::reentrant`).
    unsafe { P::Context::divert(context, StackBounds { top, bottom }, diverted::<P>) }
}

/// What an interrupted reentrant thread calls.
///
/// # Safety
///
/// **C1**: called on a green thread that runs on a worker of type `Worker<P>`, inside the runtime.
unsafe extern "C" fn diverted<P: Parts>() {
    let no_unwind = NoUnwind;
    // The interrupted code's; others run on this OS thread meanwhile.
    let errno = crate::os::errno();
    {
        // SAFETY: C1.
        let worker = unsafe { Worker::<P>::of(&*tls::worker()) };
        let os_thread = here();
        let record = worker.base.current();
        record.answer();
        // Before the next is picked: it may be one that cannot run beside a resident.
        os_thread.home.add(1);
        remind(&worker.base, os_thread);
        // SAFETY: C1.
        match unsafe { target_if_any(worker) } {
            Some(target) => {
                record.set_state(GvtState::Preempted);
                // ORDERING O3: as in `Stay::begin`.
                record.meta.suspended.store(tagged(os_thread), Release);
                Counters::add(&worker.base.core().counters.fast_preemptions);
                // SAFETY: C1; the target is fresh.
                unsafe { switch::depart(worker, record, After::preempted(record), target) };
            }
            None => os_thread.home.add(-1),
        }
    }
    std::mem::forget(no_unwind);
    crate::os::set_errno(errno);
    tls::leave();
}

/// `switch::target`, or `None` if nothing else can run.
///
/// # Safety
///
/// C1 of `pick::pick`.
unsafe fn target_if_any<P: Parts>(worker: &Worker<P>) -> Option<*const Registers> {
    let base = &worker.base;
    let current = base.current.get();
    // SAFETY: C1.
    let target = unsafe { switch::target(worker) };
    if base.current.get().is_null() && base.handoff.get().is_null() {
        base.current.set(current);
        return None;
    }
    Some(target)
}
