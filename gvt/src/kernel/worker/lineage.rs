//! A thread's ancestors: records are linked from child to parent, and children keep their parents' records.
//!
//! The protocol by which other threads follow the links, while ancestors that have ended are unlinked, is in
//! `links`.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering::*};

use gvt_traits::{GvtId, GvtState};

use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::WorkerBase;
use crate::kernel::worker::references::{
    Freed, clear_away, credit, entered, free_one, release_anywhere, release_one,
};

/// References to its own record that a thread starts with, for its children.
pub(crate) const CREDIT: u32 = 64;
/// In `Metadata::cancelled`: the parent of the thread's token is not its spawner's. The rest of the byte is a
/// code; 0: not cancelled.
pub(crate) const ADOPTED: u8 = 0x80;
/// A code: cancelled, without a reason.
pub(crate) const REQUESTED: u8 = 1;

/// Cancels a node unless it is cancelled already; the first cancellation sets the code. The other bit stays.
pub(crate) fn mark(flag: &AtomicU8, code: u8) {
    // Release pairs with the Acquire of the readers: a thread that sees the cancellation sees what was done
    // before it.
    let _ = flag.fetch_update(Release, Relaxed, |seen| (seen & !ADOPTED == 0).then_some(seen | code));
}

/// What is above a line of threads.
pub(crate) enum Up<'a> {
    /// One of them is cancelled, or the runtime is.
    Cancelled,
    /// The last of them was spawned under a token. Its record stays as long as its descendants do.
    Adopted(&'a Record),
    /// The runtime, which is not cancelled.
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

/// L5 of `links`, all the way up; the last of the line if that one was spawned under a token.
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

/// Notes that a thread about to be spawned has its token's parent in its cold part.
pub(crate) fn adopt(record: &Record) {
    // ORDERING: Release: as the stores in `spawn_on`.
    record.meta.cancelled.store(ADOPTED, Release);
}

/// Makes the running thread `parent` the parent of a thread that it spawns, taking a reference for it.
/// Returns the index to store as the child's parent.
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
        // Relaxed: the thread's own reference keeps the record meanwhile. Never `CREDIT` again, which marks
        // the first child.
        parent.meta.references.fetch_add(CREDIT, Relaxed);
        parent.meta.children_credit.store(CREDIT - 1, Relaxed);
        return parent.meta.id();
    }
    parent.meta.children_credit.store(credit - 1, Relaxed);
    parent.meta.id()
}

/// Whether a thread has ended and only one child refers to its record, so that the record may be unlinked.
fn is_done(record: &Record) -> bool {
    // ORDERING O1: Acquire pairs with the Release of other releases: if one reference is left, all that their
    // holders did is seen, the end of the thread and its own unlinking included.
    record.meta.references.load(Acquire) == 1
        && matches!(record.state(), GvtState::Finished | GvtState::Cancelled)
        // The holder of the token that it was spawned under may cancel that; and reasons are not copied.
        && record.meta.cancelled.load(Relaxed) <= REQUESTED
}

/// Unlinks ancestors that have ended and that have no other reference.
///
/// Context: the thread itself, when it spawns; or the code that releases it after its end, before that.
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
        // If it was spawned under a token, only that token's holder cancels it from above.
        let is_adopted = thread.meta.cancelled.load(Acquire) & ADOPTED != 0;
        if code != 0 && !is_adopted {
            // Cancellation is final, and includes this thread.
            mark(&thread.meta.cancelled, code);
        }
        // The thread takes over its parent's reference. Relaxed: only this caller changes that link.
        let above = parent.meta.parent_id.load(Relaxed);
        // ORDERING O2 of `links`: Release: a reader that sees the new link sees what is copied.
        core.changes.pass(|| thread.meta.parent_id.store(above, Release));
        // L3. ORDERING O2 of `links`: Release, as above.
        parent.meta.parent_id.store(u32::MAX, Release);
        release_anywhere(NonNull::from(parent), 1);
    }
}

/// Releases the handle's share of an ended thread's references: all of those that thread and handle hold,
/// unless the thread stays (J6 of `join`). `None`: there are other references to the record.
///
/// # Safety
///
/// **C1**: the thread has ended, and the caller has its handle. C2 of [`release_one`].
#[inline]
pub(crate) unsafe fn release_own(record: &Record, worker: Option<&WorkerBase>) -> Option<Freed> {
    let count = if record.stays() { 1 } else { credit(record) + 1 };
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        // SAFETY: C1, C2: the caller's, inside the runtime.
        return unsafe { release_own_shared(record, count, worker) };
    }
    // SAFETY: C1: the last references.
    Some(unsafe { free_one(record, worker) })
}

/// [`release_own`] while there are other references to the record.
///
/// # Safety
///
/// C1 and C2 of [`release_own`].
#[cold]
unsafe fn release_own_shared(record: &Record, count: u32, worker: Option<&WorkerBase>) -> Option<Freed> {
    if !record.stays() {
        pass_over_ancestors(record);
    }
    // SAFETY: C1, C2: the references are the caller's.
    unsafe { release_one(record, count, worker) }
}

/// For a holder that keeps a record for long and follows its link: unlinks its ancestors, while the caller's
/// last `count` references keep it.
#[inline]
pub(crate) fn pass_over(record: &Record, count: u32) {
    // ORDERING O1: as in `is_last`.
    if record.meta.references.load(Acquire) != count {
        pass_over_ancestors(record);
    }
}

/// Releases a thread that has ended, from any context; the caller had its handle.
pub(crate) fn release_own_anywhere(record: NonNull<Record>) {
    // SAFETY: it has ended, and the caller had its handle.
    let freed = entered(|worker| unsafe { release_own(record.as_ref(), worker) });
    clear_away(freed);
}
