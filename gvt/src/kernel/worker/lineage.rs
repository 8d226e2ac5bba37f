//! A thread's ancestors: records that are linked from child to parent, and kept by their children.
//!
//! `links` has the protocol by which others look along the links while ancestors that have ended are passed over.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering::*};

use gvt_traits::{GvtId, GvtState};

use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::WorkerBase;
use crate::kernel::worker::references::{
    Freed, clear_away, credit, entered, free_one, release_anywhere, release_one,
};

/// References to its own record that a thread is born with, for its children.
pub(crate) const CREDIT: u32 = 64;
/// In `Metadata::cancelled`: the parent of the thread's token is not its spawner's. The rest of the byte is a code, 0: not cancelled.
pub(crate) const ADOPTED: u8 = 0x80;
/// A code: somebody has asked for it, without words.
pub(crate) const REQUESTED: u8 = 1;

/// Cancels a node unless it is; the first to do so says why. What else is in the byte stays.
pub(crate) fn mark(flag: &AtomicU8, code: u8) {
    // Release pairs with the Acquire of those that look: what was done before is seen by who sees the cancellation.
    let _ = flag.fetch_update(Release, Relaxed, |seen| (seen & !ADOPTED == 0).then_some(seen | code));
}

/// What is above a line of threads.
pub(crate) enum Up<'a> {
    /// One of them is cancelled, or the runtime is.
    Cancelled,
    /// The last of them was spawned under a token. It stays as long as its descendants do.
    Adopted(&'a Record),
    /// The runtime, and that is not cancelled.
    Root,
}

#[inline]
pub(crate) fn look_up(record: &Record) -> Up<'_> {
    record.core().changes.steadily(|| look_along(record))
}

/// L5 of `links`.
#[inline]
pub(crate) fn look_along(record: &Record) -> Up<'_> {
    let mut record = record;
    loop {
        // Acquire pairs with the Release in `set`.
        let flag = record.meta.cancelled.load(Acquire);
        if flag != 0 {
            let cancelled = flag != ADOPTED || record.core().cancelled.load(Acquire);
            return if cancelled { Up::Cancelled } else { Up::Adopted(record) };
        }
        match parent_of(record) {
            Some(parent) => record = parent,
            None if record.core().cancelled.load(Acquire) => return Up::Cancelled,
            None => return Up::Root,
        }
    }
}

/// L5 of `links`, all the way up; the last of the line if that was spawned under a token.
pub(crate) fn climb<'a>(record: &'a Record, mut visit: impl FnMut(&'a Record, u8)) -> Option<&'a Record> {
    let mut record = record;
    loop {
        let flag = record.meta.cancelled.load(Acquire);
        visit(record, flag & !ADOPTED);
        if flag & ADOPTED != 0 {
            return Some(record);
        }
        record = parent_of(record)?;
    }
}

#[inline]
pub(crate) fn parent_of(record: &Record) -> Option<&Record> {
    // Acquire: O2 of `links`.
    let parent = GvtId::new(record.meta.parent_id.load(Acquire));
    parent.is_some().then(|| record.core().table.get(parent))
}

/// Notes that a thread which is about to be spawned has its token's parent in its cold part.
pub(crate) fn adopt(record: &Record) {
    // ORDERING: Release: as the stores in `spawn_on`.
    record.meta.cancelled.store(ADOPTED, Release);
}

/// Makes the running thread `parent` the parent of a thread that it spawns: takes a reference for it.
/// Returns the place to note as the child's parent.
///
/// # Safety
///
/// **C1**: called by the thread `parent` itself, on a worker, inside the runtime.
#[inline]
pub(crate) unsafe fn take_parent(parent: &Record) -> GvtId {
    // Relaxed: the credit is the thread's own.
    let credit = parent.meta.children_credit.load(Relaxed);
    if credit == CREDIT {
        // The first child.
        let link = parent.meta.parent_id.load(Relaxed);
        if link != u32::MAX && is_done(parent.core().table.get(GvtId::new(link))) {
            pass_over_ancestors(parent);
        }
    } else if credit == 0 {
        // Relaxed: the thread's own reference keeps the record meanwhile. Never `CREDIT` again, which
        // means the first child.
        parent.meta.references.fetch_add(CREDIT, Relaxed);
        parent.meta.children_credit.store(CREDIT - 1, Relaxed);
        return parent.meta.id();
    }
    parent.meta.children_credit.store(credit - 1, Relaxed);
    parent.meta.id()
}

/// Whether a thread has ended and only one child refers to its record, so that it may be passed over.
fn is_done(record: &Record) -> bool {
    // ORDERING O1: Acquire pairs with the Release of those that let go: if one reference is left, all that
    // they did is seen, the end of the thread and its own passing over included.
    record.meta.references.load(Acquire) == 1
        && matches!(record.state(), GvtState::Finished | GvtState::Cancelled)
        // Whoever has the token that it was spawned under may cancel that; and words are not copied.
        && record.meta.cancelled.load(Relaxed) <= REQUESTED
}

/// Passes over ancestors that have ended and that nobody else refers to.
///
/// Context: the thread itself, when it spawns; or whoever lets go of it after its end, before that.
#[cold]
pub(crate) fn pass_over_ancestors(thread: &Record) {
    let core = thread.core();
    loop {
        // Relaxed: only the caller changes it.
        let link = GvtId::new(thread.meta.parent_id.load(Relaxed));
        if !link.is_some() || !is_done(core.table.get(link)) || !core.changes.may_pass() {
            return;
        }
        let parent = core.table.get(link);
        // ORDERING: Acquire, here and below, pairs with the Release in `mark`.
        let code = parent.meta.cancelled.load(Acquire);
        // Only who has the token that this thread was spawned under cancels it from above.
        let is_adopted = thread.meta.cancelled.load(Acquire) & ADOPTED != 0;
        if code != 0 && !is_adopted {
            // For ever, and with it this thread.
            mark(&thread.meta.cancelled, code);
        }
        // The thread takes its parent's reference over. Relaxed: nobody else changes that any more.
        let above = parent.meta.parent_id.load(Relaxed);
        // ORDERING O2 of `links`: Release: who sees the new link sees what is copied.
        core.changes.pass(|| thread.meta.parent_id.store(above, Release));
        // L3. ORDERING: as above.
        parent.meta.parent_id.store(u32::MAX, Release);
        release_anywhere(NonNull::from(parent), 1);
    }
}

/// Lets go of the handle's share of an ended thread's references: all that go with the last of the two, unless the thread
/// stays. `None`: others refer to the record.
///
/// # Safety
///
/// **C1**: the thread has ended, and the caller has its handle. C2 of [`release_one`].
#[inline]
pub(crate) unsafe fn release_own(record: &Record, worker: Option<&WorkerBase>) -> Option<Freed> {
    let count = if record.stays() { 1 } else { credit(record) + 1 };
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        // SAFETY: C1, C2.
        return unsafe { release_own_shared(record, count, worker) };
    }
    // SAFETY: C1: the last references.
    Some(unsafe { free_one(record, worker) })
}

/// [`release_own`] while others refer to the record.
///
/// # Safety
///
/// C1 and C2 of [`release_own`].
#[cold]
unsafe fn release_own_shared(record: &Record, count: u32, worker: Option<&WorkerBase>) -> Option<Freed> {
    if !record.stays() {
        pass_over_ancestors(record);
    }
    // SAFETY: C1: the references are the caller's. C2.
    unsafe { release_one(record, count, worker) }
}

/// Somebody who keeps a record looks along its link for long yet: passes over its ancestors, while its last `count` references of
/// its own keep it.
#[inline]
pub(crate) fn pass_over(record: &Record, count: u32) {
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        pass_over_ancestors(record);
    }
}

/// Lets go of a thread that has ended, from wherever the caller is, who had its handle.
pub(crate) fn release_own_anywhere(record: NonNull<Record>) {
    // SAFETY: it has ended, and the caller had its handle.
    let freed = entered(|worker| unsafe { release_own(record.as_ref(), worker) });
    clear_away(freed);
}
