//! What the runtime counts of its rarer deeds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Relaxed throughout: gauges for people.
#[derive(Default)]
pub(crate) struct Counters {
    /// Threads asked to yield at a safepoint.
    pub(crate) asked: AtomicU64,
    /// Threads taken off by force.
    pub(crate) forced_preemptions: AtomicU64,
    /// Threads taken off by force, by a stack switch: not among the above.
    pub(crate) fast_preemptions: AtomicU64,
    /// Threads that were still running when their grace was over.
    pub(crate) grace_expired: AtomicU64,
    /// Workers taken from OS threads that were blocked in the kernel.
    pub(crate) workers_taken: AtomicU64,
    /// Calls of `blocking` that gave their worker on.
    pub(crate) blocking_calls: AtomicU64,
    /// Times that preempted threads were let go on without a worker.
    pub(crate) rescues: AtomicU64,
    /// Times that no spare OS thread could be had.
    pub(crate) spares_exhausted: AtomicU64,
    /// Times that a sleeping worker was woken by another OS thread.
    pub(crate) workers_woken: AtomicU64,
    /// The longest that a thread was seen running past its slice, ns.
    pub(crate) longest_overrun_ns: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}
