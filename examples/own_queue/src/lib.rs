//! A ready queue of one's own: first in, first out, whatever made a thread ready.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use gvt_traits::{Factory, Order, Plan, PushKind, ReadyQueue, Runnable, SchedError, WorkerId};

/// The plain value that users pass to the builder.
#[derive(Clone, Copy, Debug, Default)]
pub struct FifoQueue;

/// What it builds: one list behind one lock.
#[derive(Debug, Default)]
pub struct Fifo {
    list: Mutex<VecDeque<Runnable>>,
    /// How long the list is. Relaxed: a gauge, written under the lock.
    len: AtomicUsize,
}

impl Factory for FifoQueue {
    type Output = Fifo;

    /// Q5: refuses a plan that it cannot keep. F2: with a sentence, not a panic.
    fn build(&self, plan: &Plan) -> Result<Fifo, SchedError> {
        if plan.low_priority_workers > 0 {
            let problem = "FifoQueue does not tell Low threads from others; ask for none".into();
            return Err(SchedError::Config { setting: "num_low_priority_workers", problem });
        }
        Ok(Fifo::default())
    }
}

impl Fifo {
    /// B1: preemption is off, so a short lock is fine.
    fn with<R>(&self, change: impl FnOnce(&mut VecDeque<Runnable>) -> R) -> R {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut list);
        self.len.store(list.len(), Relaxed);
        result
    }
}

impl ReadyQueue for Fifo {
    /// A worker's own end, which needs no sharing. This queue has none.
    type Local = ();
    /// What generic code and the laws may expect.
    const ORDER: Order = Order::Fair;

    fn local(&self, _worker: WorkerId) {}

    /// From outside all workers.
    fn inject(&self, task: Runnable) {
        self.with(|list| list.push_back(task));
    }

    /// From a worker. Q4: a woken thread is not put first, so nobody is passed over.
    fn push(&self, _local: &mut (), task: Runnable, _kind: PushKind) {
        self.inject(task);
    }

    /// Q2: never waits.
    fn pop(&self, _local: &mut ()) -> Option<Runnable> {
        self.with(VecDeque::pop_front)
    }

    /// Q3: never `false` while something is queued. Asked before a worker sleeps.
    fn has_work(&self, _local: &()) -> bool {
        self.with(|list| !list.is_empty())
    }

    /// Q8: 0 only while nobody waits; the monitor asks before it interrupts anybody. B6: so it must not wait
    /// for the lock, under which the list may grow.
    fn len_hint(&self) -> usize {
        self.len.load(Relaxed)
    }
}
