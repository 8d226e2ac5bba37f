//! Residents: threads that can continue only on one OS thread, but do not keep it busy (as after Go's
//! `LockOSThread`).
//!
//! | resident | from | until |
//! |---|---|---|
//! | a pinned thread (`Migration::Pinned`) | its first instruction | its last |
//! | a reentrant thread that was preempted by a stack switch | the interrupt | it continues |
//!
//! The second kind must come back to its OS thread because the interrupt may lie between computing the
//! address of a thread-local (one of this runtime's, say) and using it.
//!
//! **Preemption.** For a reentrant thread (`Builder::reentrant`) the signal handler does not put the OS
//! thread to sleep. It makes the interrupted code call [`diverted`] (X7 of `ContextSwitch`), which picks the
//! next thread and switches stacks as a yield does. The handler raises the preempt count, which stays raised
//! until the thread is back.
//!
//! **Hazard: starvation.** A thread that is not a resident must not keep an OS thread that has residents: a
//! preempted spinner keeps its OS thread (`detach`) for as long as it likes, and the residents could never
//! continue.
//! **Hazard: strangers.** A pinned thread owns its OS thread: no other thread may use its thread-locals
//! meanwhile.
//!
//! **So** an OS thread with residents runs its residents, and reentrant threads if no resident is pinned. For
//! any other thread it gives its worker to another OS thread, and waits **at home**, outside the pool of
//! spares, until a worker comes with one of its residents.
//!
//! **Hazard: what a pinned thread leaves behind.** It may change the OS thread's state: its signal mask,
//! affinity, name, thread-locals. Another thread expects a clean state.
//! **So** an OS thread on which a pinned thread has ended is *spent*: no other thread runs on it. It gives
//! its worker to another OS thread at the next decision, and ends. (Go ends the OS thread of a goroutine that
//! exits locked, for the same reason.)
//!
//! **Protocol.** A resident's `suspended` names its OS thread, with the lowest bit set. Its `Runnable` is
//! queued like any other. **L1** The worker that pops it elsewhere claims that OS thread, if it is at home,
//! and is passed to it. **L2** If it is not at home, the worker leaves the thread at its door and looks
//! again; if the OS thread's worker sleeps, it is woken. **L3** An OS thread that goes home queues again what
//! it finds at its door (`mailbox` A2, A3, A4). **L4** At each decision an OS thread with residents looks at
//! its door first.
//!
//! **No cost for others.** `need_resched` is set on the worker of an OS thread with residents, at all times;
//! what a decision does then is in `pick_bound`.
//!
//! **Migrating at every turn** (`SchedulerConfig::migrate_always`) takes the same detour: each picked thread
//! goes through the worker loop, which passes the worker on if the thread ran on this OS thread last.
//!
//! **Rejected.** Pinned threads of one worker on one OS thread: forced preemption and blocking calls move
//! workers, and a `RefCell` in a thread-local that one pinned thread borrows over a yield would fail the
//! next.
//!
//! **Limits.** At the bound on OS threads, and where the kernel refuses a new one, strangers do run on an OS
//! thread with residents, or on a spent one, with the signal mask that it began with. A resident waits while
//! a thread on its OS thread is blocked in the kernel.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{ContextSwitch, GvtState, Registers, StackBounds};

use crate::kernel::sched::switch;
use crate::kernel::thread::record::{FAST, PINNED, REENTRANT, Record};
use crate::kernel::worker::binding::{here, is_welcome, last, remind, tagged};
use crate::kernel::worker::core::{After, CoreBase, OsThread, Parts, Worker, WorkerBase, spare};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::{section, tls};

/// Where the worker loop takes a picked thread.
pub(crate) enum Route {
    /// It runs on this OS thread.
    Here,
    /// The worker is passed to this OS thread; with the thread in `handoff` if the receiver must be told.
    To(&'static OsThread),
    /// The thread was passed on, or queued again; the worker stays.
    Forwarded,
}

/// # Safety
///
/// **C1**: called by the loop of the OS thread that carries `worker`; `record` was picked.
pub(crate) unsafe fn route<P: Parts>(worker: &Worker<P>, os_thread: &OsThread, record: &Record) -> Route {
    let base = &worker.base;
    // SAFETY: a detached thread's OS thread is alive; entries outlive their OS threads.
    if let Some(keeper) = unsafe { record.keeper().as_ref() } {
        return Route::To(keeper);
    }
    // SAFETY: an entry outlives its OS thread.
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
        // No other OS thread is available.
        crate::os::set_signal_mask(os_thread.signal_mask.load(Relaxed));
    }
    if base.core().migrates {
        last(record).store(ptr::from_ref(os_thread).addr() as u64, Relaxed);
    }
    Route::Here
}

/// What happens to an OS thread without a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// It waits for the next worker.
    Stays,
    /// It ends.
    Ends,
}

/// For an OS thread that gives its worker away and has nothing to do until it gets one (L3).
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
    // SAFETY: C1: records outlive their threads; a thread has one turn at a time.
    unsafe { os_thread.home.door.go_home(&mut first) };
    os_thread.home.turns.store(first, Relaxed);
    while let Some(record) = os_thread.home.next_turn() {
        // SAFETY: from the list, so it runs nowhere and has no `Runnable`.
        core.inject(unsafe { record.runnable() });
    }
    Then::Stays
}

/// Held while a closure runs whose thread is bound to its OS thread: see `Builder`.
pub(crate) struct Stay(Option<&'static Record>);

impl Stay {
    /// Begins the binding that the running thread was spawned with.
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

/// `detach::divert`, for a runtime's parts.
///
/// # Safety
///
/// C1 of `detach::divert`.
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

/// The function that an interrupted reentrant thread calls.
///
/// # Safety
///
/// **C1**: called on a green thread that runs on a worker of type `Worker<P>`, inside the runtime.
unsafe extern "C" fn diverted<P: Parts>() {
    let no_unwind = NoUnwind;
    // The interrupted code's; other threads run on this OS thread meanwhile.
    let errno = crate::os::errno();
    {
        // SAFETY: C1: a worker of this type.
        let worker = unsafe { Worker::<P>::of(&*tls::worker()) };
        let os_thread = here();
        let record = worker.base.current();
        record.answer();
        // Before the next is picked, which may be a thread that cannot run beside a resident.
        os_thread.home.add(1);
        remind(&worker.base, os_thread);
        // SAFETY: C1: inside the runtime, on `worker`.
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
    // SAFETY: C1: this OS thread carries `worker`.
    let target = unsafe { switch::target(worker) };
    if base.current.get().is_null() && base.handoff.get().is_null() {
        base.current.set(current);
        return None;
    }
    Some(target)
}
