//! Picking the thread that a worker runs next.

use std::sync::atomic::Ordering::*;

use gvt_traits::ReadyQueue;

use crate::kernel::sched::look_ahead::{GROUP, look_ahead};
use crate::kernel::sched::maintenance::maintain;
use crate::kernel::sched::own::own;
use crate::kernel::sched::pick_bound;
use crate::kernel::sched::wakeup::found;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::{MAINTENANCE, Parts, Worker};

/// Takes the next thread from the queue.
///
/// # Safety
///
/// **C1**: this OS thread carries `worker` and is inside the runtime.
#[inline(always)]
pub(crate) unsafe fn pick<P: Parts>(worker: &Worker<P>) -> Option<*const Record> {
    let base = &worker.base;
    let activity = base.count_activity(1);
    base.wakes.set(0);
    if activity.is_multiple_of(MAINTENANCE) || base.need_resched.load(Relaxed) {
        // SAFETY: C1: this OS thread carries `worker`.
        unsafe { maintain(worker) };
        if base.need_resched.load(Relaxed) {
            // SAFETY: C1: this OS thread carries `worker`.
            return unsafe { pick_bound::pick(worker) };
        }
    }
    let queue = &worker.core().queue;
    // SAFETY: C1: carried here; no other borrow.
    let local = unsafe { worker.queue() };
    let record = own(base, queue.pop(local)?);
    if activity.is_multiple_of(GROUP) {
        look_ahead::<P>(&base.core().table, queue, local);
    }
    if base.searching.get() {
        // SAFETY: C1: this OS thread carries `worker`.
        unsafe { found(worker) };
    }
    Some(record)
}
