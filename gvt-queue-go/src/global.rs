//! The global list: threads from outside, and what does not fit into a ring.
//!
//! **Protocol.** A `VecDeque` under a mutex, and its length in an atomic, so that whoever finds it
//! empty takes no lock. The length is written under the lock; with the total order where it grows
//! (Q6), with `Release` where it shrinks, behind the publication of what was taken (`transit`, T2,
//! T3).
//!
//! The lock is held for a push, or for the copying of at most one batch of pointers, with preemption
//! off (B1, B2); if the `VecDeque` grows, that is one allocation besides.
//!
//! **Rejected.** `crossbeam_deque::Injector`. It is lock-free, but hands out a batch only to a deque of its
//! own kind, so that a ring takes threads one by one. Measured (X
//! --example cost`, ns a thread, pushed and popped; 1 OS thread / 2 OS threads on two cores):
//!
//! | | one by one | in batches of 64 |
//! |---|---|---|
//! | `Injector` | 18 / 17 | 11 / 11 |
//! | this list | 14 / 14 | 4 / 5 |
//!
//! Threads come here in batches from the rings and leave in batches to them; only `inject` is single.
//!
//! **Limits.** After a burst the memory of the list is kept up to 64 Ki entries.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Relaxed, Release};

use gvt_traits::Runnable;

use crate::sync::{AtomicUsize, Mutex, left_behind, look, publish};

/// Entries whose memory is kept when the list has run empty.
pub(crate) const KEPT: usize = 1 << 16;

#[repr(align(128))]
pub(crate) struct Global {
    /// How many `list` holds. On the same lines as the lock, since whoever takes the lock writes it.
    len: AtomicUsize,
    list: Mutex<VecDeque<Runnable>>,
}

impl Global {
    pub(crate) fn new() -> Self {
        Global { len: AtomicUsize::new(0), list: Mutex::new(VecDeque::new()) }
    }

    /// Runs `work` on the list and publishes the new length.
    fn with<R>(&self, work: impl FnOnce(&mut VecDeque<Runnable>) -> R) -> R {
        // A poisoned lock means a panic in here, which ends the process (B3) or a test.
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.len();
        let result = work(&mut list);
        if list.len() > before {
            publish(&self.len, list.len());
        } else if list.len() < before {
            // ORDERING T2: Release, so that who sees it shrink sees where the threads went.
            self.len.store(list.len(), Release);
            if list.is_empty() && list.capacity() > KEPT {
                list.shrink_to(KEPT);
            }
        }
        result
    }

    pub(crate) fn push(&self, task: Runnable) {
        self.with(|list| list.push_back(task));
    }

    pub(crate) fn push_all(&self, tasks: impl Iterator<Item = Runnable>) {
        self.with(|list| list.extend(tasks));
    }

    pub(crate) fn pop(&self) -> Option<Runnable> {
        if self.is_empty() { None } else { self.with(VecDeque::pop_front) }
    }

    /// Lets `taker` have the oldest, up to `most`, from the function that it is given.
    pub(crate) fn take(&self, most: usize, taker: impl FnOnce(&mut dyn FnMut() -> Option<Runnable>)) {
        self.with(|list| {
            let mut left = most;
            taker(&mut || {
                left = left.checked_sub(1)?;
                list.pop_front()
            });
        });
    }

    /// Whether it looks empty to a worker that has other things to do.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len_hint() == 0
    }

    /// Whether there is something; the last look before sleeping (Q6).
    pub(crate) fn has_work(&self) -> bool {
        look(&self.len) > 0
    }

    pub(crate) fn len_hint(&self) -> usize {
        // Relaxed: whoever acts on it takes the lock; whoever would sleep on it uses `has_work`.
        self.len.load(Relaxed)
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        let list = std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner));
        if !list.is_empty() {
            let left = list.len();
            std::mem::forget(list);
            left_behind(left, "the global list");
        }
    }
}
