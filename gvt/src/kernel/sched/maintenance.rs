//! Maintenance: what a worker does at every [`MAINTENANCE`](crate::kernel::worker::core::MAINTENANCE)th
//! decision.

use std::sync::atomic::Ordering::*;

use gvt_traits::Preemptor;

use crate::kernel::sched::timers::fire_timers;
use crate::kernel::worker::core::{Parts, Worker};
use crate::kernel::worker::references::release_deferred;
use crate::kernel::worker::{binding, handoff};

/// Fires timers, queues returned threads, and releases deferred references.
///
/// # Safety
///
/// C1 of `pick::pick`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn maintain<P: Parts>(worker: &Worker<P>) {
    worker.base.need_resched.store(false, Relaxed);
    if binding::was_deaf() {
        worker.core().preempt.enter_thread();
    }
    release_deferred(&worker.base);
    // SAFETY: C1: this OS thread carries `worker`.
    unsafe { fire_timers(worker) };
    handoff::welcome_back(&worker.core().base);
    binding::remind_here(&worker.base);
}
