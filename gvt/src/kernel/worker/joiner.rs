//! Waiters for a thread's end, and how each kind is woken: J4 to J6 of `join`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use gvt_traits::{GvtId, PushKind, Runnable};

use crate::kernel::thread::record::Record;
use crate::kernel::thread::table::MOST_GVTHREADS;
use crate::kernel::worker::core::CoreBase;
use crate::os::flag::OsFlag;
use crate::protocol::join::{FOREIGN, GREEN, OS, PLACE_MASK, TAG, TASK, Waiter};
use crate::protocol::wait::Woken;
use crate::protocol::{user, wait};

const _: () = assert!(MOST_GVTHREADS as u64 * 2 <= PLACE_MASK + 1, "places fit, caches included");

/// A green waiter of another runtime: its wait's number, and J4.
pub(crate) struct Foreign {
    record: *const Record,
    number: u64,
    done: AtomicBool,
}

// SAFETY: records are `Sync`, and this one's owner waits for `done` before it leaves.
unsafe impl Send for Foreign {}
// SAFETY: the record is `Sync`; its owner waits for `done`.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// Names the running thread's present wait.
    pub(crate) fn new(record: &Record) -> Arc<Self> {
        let number = wait::number(&record.meta.wait);
        Arc::new(Foreign { record, number, done: AtomicBool::new(false) })
    }

    /// J4, the waiter's side.
    pub(crate) fn wait_until_done(&self) {
        // ORDERING O2: Acquire pairs with the Release in `wake`.
        while !self.done.load(Acquire) {
            std::thread::yield_now();
        }
    }
}

impl Waiter {
    pub(crate) fn foreign(foreign: &Arc<Foreign>) -> Self {
        Waiter(Arc::into_raw(foreign.clone()) as u64 | FOREIGN)
    }

    /// Names the running thread's present wait (J5).
    pub(crate) fn green(record: &Record) -> Self {
        Waiter::named(record.meta.id().index(), wait::number(&record.meta.wait))
    }

    /// An OS thread that sleeps on a flag. Shared, since the waker may come late.
    pub(crate) fn os(flag: &Arc<OsFlag>) -> Self {
        Waiter(Arc::into_raw(flag.clone()) as u64 | OS)
    }

    pub(crate) fn task(waker: user::Waker) -> Self {
        Waiter(Box::into_raw(Box::new(waker)) as u64 | TASK)
    }

    /// Whether its waker is user code (J6).
    pub(crate) fn is_task(self) -> bool {
        self.0 & TAG == TASK
    }

    /// Whether it is a green thread of the same runtime (J5).
    #[inline]
    pub(crate) fn is_green(self) -> bool {
        self.0 & TAG == GREEN
    }

    /// Frees a waiter that was not woken, if it is one that owns something.
    ///
    /// # Safety
    ///
    /// **C1**: the waiter was never registered, or was taken back.
    pub(crate) unsafe fn discard(self) {
        if self.0 & TAG == OS {
            // SAFETY: C1: not shared; it came from `Arc::into_raw`.
            drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const OsFlag) });
        } else if self.0 & TAG == FOREIGN {
            // SAFETY: C1; it came from `Arc::into_raw`.
            drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const Foreign) });
        } else if self.0 & TAG == TASK {
            // SAFETY: C1; it came from `Box::into_raw`.
            drop(unsafe { Box::from_raw((self.0 & !TAG) as *mut user::Waker) });
        }
    }
}

/// Wakes a waiter; `core` is that of a green waiter of the same runtime.
///
/// Context: a future's waker is user code (`user`).
///
/// # Safety
///
/// **C1**: the waiter was taken out of its word by this caller.
pub(crate) unsafe fn wake(waiter: Waiter, core: &CoreBase) {
    let place = waiter.0 & !TAG;
    if waiter.0 & TAG == GREEN {
        wake_named(waiter, core);
    } else if waiter.0 & TAG == FOREIGN {
        // SAFETY: C1; it came from `Arc::into_raw`.
        let foreign = unsafe { Arc::from_raw(place as *const Foreign) };
        // SAFETY: its owner waits for `done`.
        wake_wait(unsafe { &*foreign.record }, foreign.number, PushKind::Wake);
        // ORDERING O2: Release pairs with the Acquire in `wait_until_done`: the last use of the runtime.
        foreign.done.store(true, Release);
    } else if waiter.0 & TAG == TASK {
        // SAFETY: C1; it came from `Box::into_raw`.
        let waker = unsafe { Box::from_raw(place as *mut user::Waker) };
        waker.wake();
    } else {
        // SAFETY: C1; it came from `Arc::into_raw`.
        let flag = unsafe { Arc::from_raw(place as *const OsFlag) };
        // SAFETY: C1 of `fire`: kept until after.
        unsafe { flag.waker().fire() };
    }
}

/// J5: ends the wait that a green waiter's word names, unless it is over. Returns the waiter if the caller
/// has to queue it.
///
/// Context: inside the runtime, until the waiter is queued; `waiter` [is green](Waiter::is_green), of `core`.
#[inline]
pub(crate) fn end_named(waiter: Waiter, core: &CoreBase) -> Option<Runnable> {
    let record = core.table.get(GvtId::new(waiter.place()));
    // At least the number that the word names: the exchange that took the word orders W1 of `wait` before
    // this.
    let number = waiter.number(wait::number(&record.meta.wait))?;
    // SAFETY: this call ended the wait of a parked thread: it has no `Runnable`.
    (wait::wake(&record.meta.wait, number) == Woken::Queue).then(|| unsafe { record.runnable() })
}

/// [`end_named`], from anywhere.
fn wake_named(waiter: Waiter, core: &CoreBase) {
    // As in `wake_wait`.
    let _section = crate::kernel::worker::section::Section::new();
    if let Some(task) = end_named(waiter, core) {
        core.push(task, PushKind::Joined);
    }
}

/// Ends wait `number` of `record`; whether this call did.
pub(crate) fn wake_wait(record: &Record, number: u64, kind: PushKind) -> bool {
    // Between the end of its wait and its push nothing holds the thread, so this must not be interrupted.
    let _section = crate::kernel::worker::section::Section::new();
    match wait::wake(&record.meta.wait, number) {
        Woken::No => false,
        Woken::InTime => true,
        Woken::Queue => {
            // SAFETY: this call ended the wait of a parked thread: it has no `Runnable`.
            let task = unsafe { record.runnable() };
            record.core().push(task, kind);
            true
        }
    }
}
