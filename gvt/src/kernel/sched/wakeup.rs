//! Waking sleeping workers when there is work: I3 and I9 of `idle`.

use gvt_traits::{Priority, ReadyQueue, Runnable};

use crate::kernel::worker::core::{CoreBase, Parts, Worker};
use crate::protocol::idle::Class;

/// A searching worker has found a thread (I9 of `idle`).
///
/// # Safety
///
/// C1 of `pick::pick`.
#[cold]
pub(crate) unsafe fn found<P: Parts>(worker: &Worker<P>) {
    let base = &worker.base;
    base.searching.set(false);
    base.core().idle.found(base.index);
    // SAFETY: C1: carried here; no other borrow.
    if worker.core().queue.has_work(unsafe { worker.queue() }) {
        wake_one(base.core(), base.core().idle.class_of(base.index));
    }
}

/// Wakes a sleeping worker for a thread of `class`, if there is one and none searches.
#[inline]
pub(crate) fn wake_one(core: &CoreBase, class: Class) {
    if let Some(index) = core.idle.choose(class) {
        core.unpark(index);
    }
}

/// The class of a thread that is about to be queued.
#[inline]
pub(super) fn class_of(core: &CoreBase, task: &Runnable) -> Class {
    if core.idle.has_classes() && task.priority() == Priority::Low { Class::Low } else { Class::Normal }
}
