//! What an OS thread knows: the worker that it carries, and how deep in the runtime it is.
//!
//! **Hazard.** After a switch a green thread may be on another OS thread. A compiler that keeps a
//! thread-local's address over the call that switched would then use another thread's storage.
//!
//! **Protocol.** The thread-local is touched only inside functions that are never inlined and never
//! switch. They hand out values, not addresses.
//!
//! **Sections.** Runtime code runs between [`enter`] and [`leave`]; a preemption signal that finds
//! the depth above zero leaves the thread alone. The depth belongs to the OS thread: a switch
//! leaves it as it is, since both sides of a switch are inside the runtime.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{Ordering::*, compiler_fence};

use super::core::WorkerBase;
use super::os_thread::OsThread;
use super::record::Record;
use super::schedule::ROUNDS;

struct OsLocal {
    worker: Cell<*const WorkerBase>,
    os_thread: Cell<*const OsThread>,
    depth: Cell<u32>,
}

thread_local! {
    // Constant and without a destructor: no lazy initialisation, usable in a signal handler.
    static LOCAL: OsLocal = const {
        OsLocal { worker: Cell::new(ptr::null()), os_thread: Cell::new(ptr::null()), depth: Cell::new(0) }
    };
}

/// The worker that this OS thread carries, or null. To be dereferenced only inside the runtime: a thread
/// that is taken off its worker between the look and the use would use another thread's worker.
#[inline(never)]
pub(crate) fn worker() -> *const WorkerBase {
    LOCAL.with(|local| local.worker.get())
}

/// Enters the runtime; the worker that this OS thread carries, or null.
#[inline(never)]
pub(crate) fn enter() -> *const WorkerBase {
    LOCAL.with(|local| {
        // First deeper, then the look: from here on the thread keeps its worker.
        local.depth.set(local.depth.get() + 1);
        compiler_fence(SeqCst);
        local.worker.get()
    })
}

/// Leaves the runtime.
#[inline(never)]
pub(crate) fn leave() {
    LOCAL.with(|local| {
        compiler_fence(SeqCst);
        local.depth.set(local.depth.get() - 1);
    });
}

/// The running green thread's record, or null.
#[inline(never)]
pub(crate) fn current() -> *const Record {
    LOCAL.with(|local| {
        local.depth.set(local.depth.get() + 1);
        compiler_fence(SeqCst);
        // SAFETY: a carried worker is alive.
        let record =
            unsafe { local.worker.get().as_ref() }.map_or(ptr::null(), |worker| worker.current.get());
        compiler_fence(SeqCst);
        local.depth.set(local.depth.get() - 1);
        record
    })
}

/// What `safepoint!` does: counts it, and says whether the running thread is asked to yield.
#[inline(never)]
pub(crate) fn safepoint() -> bool {
    LOCAL.with(|local| {
        local.depth.set(local.depth.get() + 1);
        compiler_fence(SeqCst);
        // SAFETY: a carried worker is alive.
        let asked = unsafe { local.worker.get().as_ref() }.is_some_and(|worker| {
            worker.count_activity(ROUNDS);
            worker.current().meta.preempt_flag.load(Relaxed) != 0
        });
        compiler_fence(SeqCst);
        local.depth.set(local.depth.get() - 1);
        asked
    })
}

/// This OS thread, if the runtime started it.
#[inline(never)]
pub(crate) fn os_thread() -> *const OsThread {
    LOCAL.with(|local| local.os_thread.get())
}

#[inline(never)]
pub(crate) fn set_worker(worker: *const WorkerBase) {
    LOCAL.with(|local| local.worker.set(worker));
}

/// Makes this OS thread one of the runtime's: inside the runtime, carrying nothing.
#[inline(never)]
pub(crate) fn adopt(os_thread: *const OsThread) {
    LOCAL.with(|local| {
        local.os_thread.set(os_thread);
        local.depth.set(1);
    });
}

/// A runtime section, left when dropped. Must not be held by code that may unwind out of a
/// scheduling function; the functions that switch call `enter` and `leave` themselves.
pub(crate) struct Section(());

impl Section {
    #[inline]
    pub(crate) fn new() -> Self {
        enter();
        Section(())
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        leave();
    }
}
