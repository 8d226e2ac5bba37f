//! User-visible ids of threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Number of ids that a worker draws at once. As with Go's goroutine ids, the ids drawn by one worker grow,
/// and none is used twice in a process.
pub(crate) const ID_BATCH: u64 = 64;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The unique number of a green thread: never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub(crate) u64);

impl ThreadId {
    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

impl std::fmt::Display for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The first of `count` unused ids.
pub(crate) fn draw(count: u64) -> u64 {
    NEXT.fetch_add(count, Relaxed)
}
