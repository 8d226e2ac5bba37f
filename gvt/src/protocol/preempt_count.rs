//! Whether this OS thread may be preempted: the thread-local that identifies it.
//!
//! **Hazard.** After a switch a green thread may be on another OS thread. A compiler that keeps a
//! thread-local's address over the call that switched would then use another thread's storage.
//!
//! **Protocol.** Only functions that are never inlined and never switch touch the thread-local. They return
//! values, not addresses.

use std::cell::Cell;
use std::ptr;

use crate::protocol::retake::Carried;

/// The part of an OS thread's state that is known here: its depth in the runtime. The type parameter says
/// what it carries.
pub(crate) type Counted = Carried<()>;

thread_local! {
    // Constant and without a destructor: no lazy initialisation, usable in a signal handler.
    pub(crate) static THIS: Cell<*const Counted> = const { Cell::new(ptr::null()) };
}

/// Whether the caller is in a section of the runtime, on a worker. Where `first_frame::refuse` calls users'
/// code there is no worker to park on.
#[inline(never)]
pub(crate) fn is_inside() -> bool {
    // SAFETY: an OS thread's entry lives as long as the OS thread runs.
    unsafe { THIS.get().as_ref() }.is_some_and(|this| this.depth() != 0 && !this.worker().is_null())
}

/// Disables preemption of the calling thread until it is dropped, with a worker or without. Code inside it
/// uses nothing that belongs to a worker, and does not switch: that takes a `section::Section`.
pub(crate) struct Steady(());

impl Steady {
    #[inline(never)]
    pub(crate) fn new() -> Self {
        // SAFETY: an OS thread's entry lives as long as the OS thread runs.
        if let Some(this) = unsafe { THIS.get().as_ref() } {
            this.preempt_disable();
        }
        Steady(())
    }
}

impl Drop for Steady {
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        if let Some(this) = unsafe { THIS.get().as_ref() } {
            this.preempt_enable();
        }
    }
}
