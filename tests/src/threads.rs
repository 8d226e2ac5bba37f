//! Threads that exist only as records: tokens for queues and tickets for timers, without a runtime.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{GvtId, Metadata, Priority, Runnable};

/// A set of records whose tokens a suite pushes and pops.
///
/// Records are leaked on purpose when a token is still out at the end, so that a broken backend
/// cannot turn a failed law into undefined behaviour.
#[derive(Debug)]
pub struct Threads {
    records: Vec<NonNull<Metadata>>,
}

// SAFETY: the records are `Sync`, and the list is only read.
unsafe impl Send for Threads {}
// SAFETY: as above.
unsafe impl Sync for Threads {}

impl Threads {
    /// `count` threads of Normal priority, numbered from 0.
    pub fn new(count: usize) -> Self {
        let records = (0..count)
            .map(|index| {
                let record = Box::new(Metadata::new(GvtId::new(index as u32)));
                NonNull::from(Box::leak(record))
            })
            .collect();
        Threads { records }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Sets thread `index`'s priority.
    pub fn set_priority(&self, index: usize, priority: Priority) {
        // SAFETY: records are never freed.
        unsafe { self.records[index].as_ref().head() }.priority.store(priority as u8, Relaxed);
    }

    /// Thread `index`'s priority.
    pub fn priority(&self, index: usize) -> Priority {
        // SAFETY: records are never freed.
        unsafe { self.records[index].as_ref() }.priority()
    }

    /// Where thread `index`'s record lies.
    pub fn record(&self, index: usize) -> NonNull<Metadata> {
        self.records[index]
    }

    /// The token of thread `index`.
    ///
    /// # Safety
    ///
    /// **C1**: no other token of that thread is out.
    pub unsafe fn runnable(&self, index: usize) -> Runnable {
        // SAFETY: C1 of `from_raw`: records are never freed. C2: this function's C1.
        unsafe { Runnable::from_raw(self.records[index]) }
    }
}

/// Puts a token away without running its thread.
pub fn put_away(task: Runnable) -> GvtId {
    let id = task.id();
    let _ = task.into_raw();
    id
}
