//! What an OS thread knows of itself, if it is one of a runtime's.
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

/// This OS thread, if a runtime started it; else null.
#[inline(never)]
pub(crate) fn os_thread() -> *const OsThread {
    this()
}

/// Makes this OS thread one of a runtime's.
#[inline(never)]
pub(crate) fn adopt(os_thread: *const OsThread) {
    // What it begins with is its claim (`OsThread` is `repr(C)`).
    THIS.set(os_thread.cast());
}

/// How deep inside the runtime this OS thread is; 0 for one that is no runtime's.
#[inline(never)]
pub(crate) fn depth() -> u32 {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    unsafe { this().as_ref() }.map_or(0, OsThread::depth)
}

/// The worker that this OS thread carries, or null. Only inside the runtime.
#[inline(never)]
pub(crate) fn worker() -> *const WorkerBase {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    unsafe { this().as_ref() }.map_or(ptr::null(), OsThread::worker)
}

/// Leaves the runtime.
#[inline(never)]
pub(crate) fn leave() {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    if let Some(os_thread) = unsafe { this().as_ref() } {
        os_thread.preempt_enable();
    }
}
