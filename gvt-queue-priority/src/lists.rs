//! The global lists: threads from outside, one list a level, and a bitmap of those that are not empty.
//!
//! **Protocol.** All four lists lie under one mutex. The bitmap is written under it, so that it is exact: a
//! bit is set before `push` returns and cleared only when its list is empty. A worker that finds a bit
//! clear takes no lock. Nor does the monitor, which asks how many there are and must not wait for a lock
//! under which a list grows (B6).
//!
//! **Rejected.** *A lock-free injector a level* (`crossbeam_deque::Injector`): its bit cannot be cleared
//! without a moment in which it is clear beside a queued thread, which `has_work` must not see (Q3). One by
//! one it is no faster either: see `global` in `gvt-queue-go`.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use gvt_traits::Runnable;

use crate::sync::{AtomicUsize, Mutex};

#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Lists {
    /// Bit `level` is set while list `level` is not empty.
    levels: AtomicUsize,
    /// How many threads are in the lists. Relaxed: a gauge (Q8), written under the lock.
    len: AtomicUsize,
    lists: Mutex<[VecDeque<Runnable>; 4]>,
}

impl Lists {
    fn with<R>(&self, work: impl FnOnce(&mut [VecDeque<Runnable>; 4]) -> R) -> R {
        // A poisoned lock means a panic in here, which ends the process (B3) or a test.
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut lists);
        let levels = lists.iter().enumerate().filter(|(_, list)| !list.is_empty());
        let levels = levels.fold(0, |levels, (level, _)| levels | 1 << level);
        // ORDERING O1: Release pairs with the Acquire in `levels`: a worker that sees the bit finds the
        // thread, or that another has taken it. The runtime fences after a push (Q6).
        self.levels.store(levels, Release);
        self.len.store(lists.iter().map(VecDeque::len).sum(), Relaxed);
        result
    }

    pub(crate) fn push(&self, task: Runnable) {
        self.with(|lists| lists[task.priority() as usize].push_back(task));
    }

    /// The first of a level.
    pub(crate) fn pop(&self, level: usize) -> Option<Runnable> {
        if self.has(level) { self.with(|lists| lists[level].pop_front()) } else { None }
    }

    /// The levels that are not empty, one bit each.
    #[inline]
    pub(crate) fn levels(&self) -> usize {
        self.levels.load(Acquire) // ORDERING O1.
    }

    #[inline]
    pub(crate) fn has(&self, level: usize) -> bool {
        self.levels() & 1 << level != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        crate::left_behind(lists.iter_mut().flat_map(|list| list.drain(..)), "the global lists");
    }
}
