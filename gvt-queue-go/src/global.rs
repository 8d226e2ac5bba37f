//! The global list: threads from outside, and what does not fit into a ring.
//!
//! **Protocol.** Two `VecDeque`s under a mutex, and their length in an atomic, so that a worker that
//! finds it empty takes no lock. The length is written under the lock: in the total order where it grows
//! (Q6), with `Release` where it shrinks, after what was taken is published (`transit`, T2, T3).
//!
//! **Two lists.** Threads that have begun and those that have not wait apart, so that a flood of new threads
//! does not delay those that hold a stack. (In one list, with a million threads spawned at once that each
//! sleep for a second, a sleeper that wakes up goes behind all that have not begun: 99th percentile of
//! lateness 1.2 s.) Of four batches three begin with threads that have begun, one with the others. Only what
//! overflows from a ring is sorted; threads from outside go to the second list.
//!
//! The lock is held for a push, or for the copying of at most one batch of pointers, with preemption
//! off (B1, B2); if a `VecDeque` grows, that is one allocation besides.
//!
//! **Rejected.** `crossbeam_deque::Injector`. It is lock-free, but hands out a batch only to a deque of its
//! own kind, so that a ring takes threads one by one. Measured (`cargo test
//! --release -p gvt-queue-go --lib cost -- --ignored --nocapture`, ns a thread, pushed and popped; 1 OS
//! thread / 2 OS threads on two cores):
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

/// Of so many batches one begins with those that have not begun.
const NEW_TURN: u32 = 4;

#[repr(align(128))]
pub(crate) struct Global {
    /// How many `lists` hold. On the same lines as the lock, since the holder of the lock writes it.
    len: AtomicUsize,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    /// Overflowed, and has a stack.
    begun: VecDeque<Runnable>,
    /// All others.
    others: VecDeque<Runnable>,
    batches: u32,
}

impl Lists {
    fn len(&self) -> usize {
        self.begun.len() + self.others.len()
    }

    fn shrink(&mut self) {
        for list in [&mut self.begun, &mut self.others] {
            if list.is_empty() && list.capacity() > KEPT {
                list.shrink_to(KEPT);
            }
        }
    }

    /// The two in the order in which the next batch comes from them.
    fn next_batch(&mut self) -> [&mut VecDeque<Runnable>; 2] {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(NEW_TURN) {
            [&mut self.others, &mut self.begun]
        } else {
            [&mut self.begun, &mut self.others]
        }
    }
}

impl Global {
    pub(crate) fn new() -> Self {
        Global { len: AtomicUsize::new(0), lists: Mutex::new(Lists::default()) }
    }

    /// Runs `work` on the lists and publishes the new length.
    fn with<R>(&self, work: impl FnOnce(&mut Lists) -> R) -> R {
        // A poisoned lock means a panic in here, which ends the process (B3) or a test.
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lists.len();
        let result = work(&mut lists);
        let len = lists.len();
        if len > before {
            publish(&self.len, len);
        } else if len < before {
            // ORDERING T2: Release, so that a worker that sees it shrink sees where the threads went.
            self.len.store(len, Release);
            lists.shrink();
        }
        result
    }

    /// From outside.
    pub(crate) fn push(&self, task: Runnable) {
        self.with(|lists| lists.others.push_back(task));
    }

    /// What overflows.
    pub(crate) fn push_all(&self, tasks: impl Iterator<Item = Runnable>) {
        self.with(|lists| {
            for task in tasks {
                let list = if task.has_started() { &mut lists.begun } else { &mut lists.others };
                list.push_back(task);
            }
        });
    }

    pub(crate) fn pop(&self) -> Option<Runnable> {
        let mut task = None;
        if !self.is_empty() {
            self.take(1, |next| task = next());
        }
        task
    }

    /// Lets `taker` have up to `most`, the oldest of each list first, from the function that it is given.
    pub(crate) fn take(&self, most: usize, taker: impl FnOnce(&mut dyn FnMut() -> Option<Runnable>)) {
        self.with(|lists| {
            let mut left = most;
            let [first, second] = lists.next_batch();
            taker(&mut || {
                left = left.checked_sub(1)?;
                first.pop_front().or_else(|| second.pop_front())
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
        // Relaxed: a worker that acts on it takes the lock; one that is about to sleep uses `has_work`.
        self.len.load(Relaxed)
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        let lists = std::mem::take(&mut *self.lists.lock().unwrap_or_else(PoisonError::into_inner));
        let left = lists.len();
        if left > 0 {
            std::mem::forget(lists);
            left_behind(left, "the global list");
        }
    }
}
