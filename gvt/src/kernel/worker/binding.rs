//! What binds a thread to an OS thread: it keeps it (`detach`), or it is a resident of it (`pinned`).

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::kernel::thread::record::{FAST, PINNED, REENTRANT, Record};
use crate::kernel::worker::core::{OsThread, WorkerBase};
use crate::kernel::worker::tls;

/// In `suspended`: the OS thread is the resident's, not one that the thread keeps.
const HOME: usize = 1;

impl Record {
    /// The OS thread that this thread keeps (`detach`), or null.
    pub(crate) fn keeper(&self) -> *const OsThread {
        // ORDERING: Acquire pairs with the Release in `detach::keep`.
        let place = self.meta.suspended.load(Acquire) as *const OsThread;
        if place.addr() & HOME == 0 { place } else { ptr::null() }
    }

    /// The OS thread that this thread is a resident of, or null.
    pub(crate) fn home(&self) -> *const OsThread {
        // ORDERING O3: Acquire pairs with the Release in `Stay` and `diverted`.
        let place = self.meta.suspended.load(Acquire) as *const OsThread;
        if place.addr() & HOME == 0 { ptr::null() } else { place.map_addr(|place| place & !HOME) }
    }

    /// The value of `suspended` while the thread keeps no OS thread.
    pub(crate) fn set_at_large(&self, os_thread: &OsThread) {
        let place = if self.has_flag(PINNED) { tagged(os_thread) } else { ptr::null_mut() };
        self.meta.suspended.store(place, Release);
    }
}

/// The OS thread that a thread ran on last. A thread that can be picked has no result yet, or has taken it
/// out again. Relaxed: used by the worker that has just picked it.
pub(crate) fn last(record: &Record) -> &AtomicU64 {
    &record.meta.result_ptr
}

pub(crate) fn tagged(os_thread: &OsThread) -> *mut () {
    ptr::from_ref(os_thread).cast_mut().cast::<()>().map_addr(|place| place | HOME)
}

/// This OS thread; on one of the runtime's.
pub(crate) fn here() -> &'static OsThread {
    // SAFETY: an entry outlives its OS thread.
    unsafe { &*tls::os_thread() }
}

/// Sets `need_resched` if decisions must go through `pick_bound::pick`.
pub(crate) fn remind(base: &WorkerBase, os_thread: &OsThread) {
    if os_thread.home.has_residents() || os_thread.home.is_spent() || base.core().migrates {
        base.need_resched.store(true, Relaxed);
    }
}

/// [`remind`], on the OS thread that carries the worker.
pub(crate) fn remind_here(base: &WorkerBase) {
    remind(base, here());
}

/// Makes a picked resident of this OS thread ready to be switched to; `false` if it is no resident.
pub(crate) fn come_home(record: &Record) -> bool {
    let os_thread = here();
    if !ptr::eq(record.home(), os_thread) {
        return false;
    }
    if !record.has_flag(PINNED) {
        os_thread.home.add(-1);
        record.meta.suspended.store(ptr::null_mut(), Relaxed);
    }
    true
}

/// Whether this OS thread failed to answer interrupts; resets it.
pub(crate) fn was_deaf() -> bool {
    let os_thread = here();
    os_thread.is_deaf.load(Relaxed) && os_thread.is_deaf.swap(false, Relaxed)
}

/// Whether a resident of this OS thread can run.
pub(crate) fn is_awaited() -> bool {
    here().home.has_bound()
}

/// Whether a thread that is not bound to another OS thread may run here.
pub(crate) fn is_welcome(os_thread: &OsThread, record: &Record) -> bool {
    let home = &os_thread.home;
    (!home.has_residents() && !home.is_spent())
        || (record.has_flag(REENTRANT | FAST) && home.pinned.load(Relaxed) == 0)
}
