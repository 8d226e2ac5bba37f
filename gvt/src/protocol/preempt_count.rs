//! Whether this OS thread may be taken off by force: the thread-local that says which it is.
//!
//! **Hazard.** After a switch a green thread may be on another OS thread. A compiler that keeps a thread-local's address over
//! the call that switched would then use another thread's storage.
//!
//! **Protocol.** The thread-local is touched only inside functions that are never inlined and never switch. They hand out
//! values, not addresses.

use std::cell::Cell;
use std::ptr;

use crate::protocol::retake::Carried;

/// What is known here of an OS thread: how deep in the runtime it is. Its type says what it carries.
pub(crate) type Counted = Carried<()>;

thread_local! {
    // Constant and without a destructor: no lazy initialisation, usable in a signal handler.
    pub(crate) static THIS: Cell<*const Counted> = const { Cell::new(ptr::null()) };
}

/// Whether the caller is in a section of the runtime, on a worker. Where `first_frame::refuse` calls users' code there is no worker to
/// park on.
#[inline(never)]
pub(crate) fn is_inside() -> bool {
    // SAFETY: its own entry stays for as long as an OS thread runs.
    unsafe { THIS.get().as_ref() }.is_some_and(|this| this.depth() != 0 && !this.worker().is_null())
}

/// Keeps the calling thread from being taken off by force until it is dropped, with a worker or without. Inside it nothing
/// is used that belongs to a worker, and nothing switches: that takes a `section::Section`.
pub(crate) struct Steady(());

impl Steady {
    #[inline(never)]
    pub(crate) fn new() -> Self {
        // SAFETY: its own entry stays for as long as an OS thread runs.
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
