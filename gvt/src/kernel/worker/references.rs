//! References to records: which code holds them, and what happens when the last is released.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::*;

use crate::kernel::thread::record::{ColdBox, Record};
use crate::kernel::worker::core::{CoreBase, WorkerBase};
use crate::kernel::worker::section;
use crate::protocol::{preempt_count, user};

/// References that a thread has taken for its children and not used.
pub(crate) fn credit(record: &Record) -> u32 {
    // Relaxed: the thread's own; the handle reads it after the end, ordered by `join_waiters`.
    record.meta.children_credit.load(Relaxed)
}

/// Releases `count` references to a record of the worker's runtime. The last frees it, then the ancestors
/// that it was the last to refer to: in a loop, since a family may be deep.
///
/// # Safety
///
/// **C1**: the references are the caller's. **C2**: this OS thread carries `worker`, inside the runtime.
#[inline]
pub(crate) unsafe fn release(record: &Record, count: u32, worker: &WorkerBase) {
    if is_last(record, count) {
        // SAFETY: the last reference.
        unsafe { free(record, worker) };
    }
}

/// Takes `count` off a record's references, unless these are all: then `true`.
#[inline]
pub(super) fn is_last(record: &Record, count: u32) -> bool {
    // ORDERING O1: Acquire on the shortcut, and the fence below, pair with the Release of the other releases:
    // their last accesses happen before the record is reused.
    if record.meta.references.load(Acquire) != count
        && record.meta.references.fetch_sub(count, Release) != count
    {
        return false;
    }
    std::sync::atomic::fence(Acquire);
    true
}

/// # Safety
///
/// **C1**: there is no reference to the record left. C2 of [`release`].
unsafe fn free(record: &Record, worker: &WorkerBase) {
    let mut record = record;
    loop {
        // SAFETY: C1, and then `is_last`; C2.
        let freed = unsafe { free_one(record, Some(worker)) };
        debug_assert!(freed.core.is_none(), "the worker's core is there");
        // Records that a token in it was the last to keep are freed elsewhere (`bury`).
        drop(freed.cold);
        match freed.owed {
            Some((next, count)) => {
                // SAFETY: kept by the reference that is owed.
                record = unsafe { next.as_ref() };
                if !is_last(record, count) {
                    return;
                }
            }
            None => return,
        }
    }
}

/// What a freed record leaves to the code that freed it.
pub(crate) struct Freed {
    /// To be dropped. Its token may hold the last reference to other records.
    pub(crate) cold: Option<ColdBox>,
    /// References to be released next.
    pub(crate) owed: Option<(NonNull<Record>, u32)>,
    /// The runtime is gone and its last referenced record is free: the core is to be freed.
    pub(crate) core: Option<NonNull<CoreBase>>,
}

/// Releases `count` references to a record of any runtime; `None`: there are others.
///
/// # Safety
///
/// **C1**: the references are the caller's. **C2**: inside the runtime, where `worker` is what this OS thread
/// carries.
#[inline]
pub(crate) unsafe fn release_one(record: &Record, count: u32, worker: Option<&WorkerBase>) -> Option<Freed> {
    // SAFETY: C1: the last reference.
    is_last(record, count).then(|| unsafe { free_one(record, worker) })
}

/// Frees a record.
///
/// # Safety
///
/// C1 of [`free`]; C2 of [`release_one`].
#[inline(always)]
pub(super) unsafe fn free_one(record: &Record, worker: Option<&WorkerBase>) -> Freed {
    // SAFETY: the core is there: the record is outstanding.
    let core: &CoreBase = unsafe { &*ptr::from_ref(record.core()) };
    record.meta.references.store(0, Relaxed);
    // Relaxed: there is no other reference to the record.
    let has_cold = !record.meta.cold.load(Relaxed).is_null();
    let cold = if has_cold {
        // SAFETY: C1: no reference is left.
        unsafe { record.take_cold(&core.lifecycle.reading) }
    } else {
        None
    };
    // ORDERING O3: Release: as the stores in `spawn_on`.
    let parent = record.meta.parent_id.swap(u32::MAX, Release);
    let parent = (parent != u32::MAX).then(|| core.table.get(gvt_traits::GvtId::new(parent)));
    match worker {
        Some(worker) if ptr::eq(worker.core, core) => {
            // SAFETY: C2: this OS thread carries the worker, inside the runtime.
            core.table.release(record, Some(unsafe { &mut *worker.records.get() }));
            let owed =
                parent.and_then(
                    |parent| if core.table.is_exact() { Some((parent, 1)) } else { owe(worker, parent) },
                );
            Freed { cold, owed: owed.map(|(next, count)| (NonNull::from(next), count)), core: None }
        }
        _ => {
            let last = core.table.release_outside(record, &core.lifecycle.orphans);
            debug_assert!(!last || parent.is_none(), "a parent is outstanding as long as its child");
            // If there is a parent, it is outstanding, so the core is there.
            Freed {
                cold,
                owed: parent.map(|parent| (NonNull::from(parent), 1)),
                core: last.then(|| NonNull::from(core)),
            }
        }
    }
}

/// Defers a release: children of one parent end in a row, on several workers, and would all contend for the
/// parent's counter. Returns the deferred releases of another parent.
fn owe<'a>(worker: &WorkerBase, parent: &Record) -> Option<(&'a Record, u32)> {
    let (owed_to, count) = worker.deferred.get();
    if ptr::eq(owed_to, parent) {
        worker.deferred.set((owed_to, count + 1));
        return None;
    }
    worker.deferred.set((parent, 1));
    // SAFETY: null, or kept by the deferred references.
    unsafe { owed_to.as_ref() }.map(|owed_to| (owed_to, count))
}

/// Does the deferred releases.
pub(crate) fn release_deferred(worker: &WorkerBase) {
    loop {
        let (owed_to, count) = worker.deferred.replace((ptr::null(), 0));
        if owed_to.is_null() {
            return;
        }
        // Freeing it may defer a release to its own parent.
        // SAFETY: the deferred references are the worker's.
        unsafe { release(&*owed_to, count, worker) };
    }
}

/// Releases the caller's references to a record, from any context.
pub(crate) fn release_anywhere(record: NonNull<Record>, count: u32) {
    // SAFETY: the references are the caller's.
    let freed = entered(|worker| unsafe { release_one(record.as_ref(), count, worker) });
    clear_away(freed);
}

/// Calls `f` inside the runtime, with the worker that this OS thread carries.
#[inline]
pub(super) fn entered(f: impl FnOnce(Option<&WorkerBase>) -> Option<Freed>) -> Option<Freed> {
    let section = section::Section::new();
    f(section.worker())
}

/// Drops what freed records have left, outside the runtime: it may be user code.
#[inline]
pub(super) fn clear_away(freed: Option<Freed>) {
    let mut freed = freed;
    while let Some(Freed { cold, owed, core }) = freed {
        drop(cold);
        if let Some(core) = core {
            bury(core);
        }
        freed = owed.and_then(|(record, count)| {
            // SAFETY: the references are owed.
            entered(|worker| unsafe { release_one(record.as_ref(), count, worker) })
        });
    }
}

/// Frees an orphaned core: the last referenced record is free. Its parts' destructors are user code.
fn bury(core: NonNull<CoreBase>) {
    struct Orphan(NonNull<CoreBase>);
    // SAFETY: there is no other reference to it.
    unsafe impl Send for Orphan {}
    impl Orphan {
        fn destroy(self) {
            // SAFETY: the runtime is gone, without a reference to its records.
            user::call(|| unsafe { (self.0.as_ref().vtable.destroy)(self.0.as_ptr()) });
        }
    }
    let orphan = Orphan(core);
    if preempt_count::is_inside() {
        // The caller is a scheduler, which has freed a record that kept another runtime's token. If the OS
        // refuses a thread, the core is leaked.
        let _ = std::thread::Builder::new().name("gvt-burial".into()).spawn(move || orphan.destroy());
    } else {
        orphan.destroy();
    }
}
