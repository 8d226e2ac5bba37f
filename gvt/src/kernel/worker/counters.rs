//! Counters of rare events.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Relaxed throughout: gauges, for reports.
#[derive(Default)]
pub(crate) struct Counters {
    /// Threads asked to yield at a safepoint.
    pub(crate) asked: AtomicU64,
    /// Threads preempted by force that keep their OS thread.
    pub(crate) forced_preemptions: AtomicU64,
    /// Threads preempted by force by a stack switch; not among the above.
    pub(crate) fast_preemptions: AtomicU64,
    /// Threads that still ran when their grace period ended.
    pub(crate) grace_expired: AtomicU64,
    /// Workers taken from OS threads blocked in the kernel.
    pub(crate) workers_taken: AtomicU64,
    /// Calls of `blocking` that gave their worker away.
    pub(crate) blocking_calls: AtomicU64,
    /// Times that preempted threads were let run without a worker.
    pub(crate) rescues: AtomicU64,
    /// Times that there was no spare OS thread.
    pub(crate) spares_exhausted: AtomicU64,
    /// Times that another OS thread woke a sleeping worker.
    pub(crate) workers_woken: AtomicU64,
    /// The longest time that a thread was seen running past its slice, ns.
    pub(crate) longest_overrun_ns: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}
