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

use super::core::WorkerBase;
use super::os_thread::OsThread;

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

/// The worker that this OS thread carries, or null.
#[inline(never)]
pub(crate) fn worker() -> *const WorkerBase {
    LOCAL.with(|local| local.worker.get())
}

/// The same, entering the runtime if there is one.
#[inline(never)]
pub(crate) fn enter() -> *const WorkerBase {
    LOCAL.with(|local| {
        let worker = local.worker.get();
        if !worker.is_null() {
            local.depth.set(local.depth.get() + 1);
        }
        worker
    })
}

/// Leaves the runtime.
#[inline(never)]
pub(crate) fn leave() {
    LOCAL.with(|local| local.depth.set(local.depth.get() - 1));
}

/// How deep in the runtime this OS thread is.
#[inline(never)]
pub(crate) fn depth() -> u32 {
    LOCAL.with(|local| local.depth.get())
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
pub(crate) struct Section(bool);

impl Section {
    #[inline]
    pub(crate) fn new() -> Self {
        Section(!enter().is_null())
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        if self.0 {
            leave();
        }
    }
}
