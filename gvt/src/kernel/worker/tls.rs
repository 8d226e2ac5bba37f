//! This OS thread's entry and worker, if it is one of a runtime's.
//!
//! The functions are never inlined and never switch: see `preempt_count`.

use std::ptr;

use crate::kernel::worker::core::{OsThread, WorkerBase};
use crate::protocol::preempt_count::THIS;

/// This OS thread, for functions that are never inlined.
#[inline(always)]
pub(super) fn this() -> *const OsThread {
    THIS.get().cast()
}

/// This OS thread if it belongs to a runtime; else null.
#[inline(never)]
pub(crate) fn os_thread() -> *const OsThread {
    this()
}

/// Makes this OS thread one of a runtime's.
#[inline(never)]
pub(crate) fn adopt(os_thread: *const OsThread) {
    // An `OsThread` begins with its `Carried` (`repr(C)`).
    THIS.set(os_thread.cast());
}

/// The preempt count of this OS thread; 0 for one that belongs to no runtime.
#[inline(never)]
pub(crate) fn depth() -> u32 {
    // SAFETY: an OS thread's entry outlives the OS thread.
    unsafe { this().as_ref() }.map_or(0, OsThread::depth)
}

/// The worker that this OS thread carries, or null. Only inside the runtime.
#[inline(never)]
pub(crate) fn worker() -> *const WorkerBase {
    // SAFETY: an OS thread's entry outlives the OS thread.
    unsafe { this().as_ref() }.map_or(ptr::null(), OsThread::worker)
}

/// Leaves the runtime.
#[inline(never)]
pub(crate) fn leave() {
    // SAFETY: an OS thread's entry outlives the OS thread.
    if let Some(os_thread) = unsafe { this().as_ref() } {
        os_thread.preempt_enable();
    }
}
