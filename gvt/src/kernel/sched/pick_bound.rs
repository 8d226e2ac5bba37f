//! Picking the next thread on an OS thread that has residents (`pinned`).

use std::sync::atomic::Ordering::*;

use gvt_traits::ReadyQueue;

use crate::kernel::sched::own::own;
use crate::kernel::sched::wakeup::found;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::binding::{here, is_welcome, tagged};
use crate::kernel::worker::core::{Parts, Worker};

/// `pick::pick` on an OS thread with residents: a thread that runs here, or none and perhaps one in
/// `handoff`.
///
/// # Safety
///
/// C1 of `pick::pick`.
#[cold]
pub(crate) unsafe fn pick<P: Parts>(worker: &Worker<P>) -> Option<*const Record> {
    let os_thread = here();
    let base = &worker.base;
    if !base.handoff.get().is_null() {
        return None;
    }
    if let Some(resident) = os_thread.home.take() {
        return Some(resident);
    }
    // SAFETY: C1: carried here; no other borrow.
    let task = worker.core().queue.pop(unsafe { worker.queue() })?;
    if base.searching.get() {
        // SAFETY: C1: this OS thread carries `worker`.
        unsafe { found(worker) };
    }
    let next = own(base, task);
    // SAFETY: records outlive their tokens.
    let record = unsafe { &*next };
    let place = record.meta.suspended.load(Relaxed);
    let runs_here = if place.is_null() { is_welcome(os_thread, record) } else { place == tagged(os_thread) };
    if runs_here && !base.core().migrates {
        return Some(next);
    }
    base.handoff.set(next);
    None
}
