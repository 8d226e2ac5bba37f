//! The right to run a thread, as a value.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::{GvtId, Metadata, Priority, WorkerId};

/// Exactly one of these exists for each thread that is ready, and none for any other thread.
///
/// - **R1 unique**: it cannot be copied, so a queue can hand it out once at most.
/// - **R2 not to be dropped**: dropping one would lose its thread for ever, so `Drop` panics.
/// - **R3 of one runtime**: it is good only with the runtime that made it, which checks each that a queue
///   hands out (Q9).
///
/// This is what lets [`ReadyQueue`](crate::ReadyQueue) be a safe trait: in safe code a queue can
/// delay a thread, strand it (`mem::forget`, a static), or panic by dropping it; it can never run one
/// twice, nor elsewhere.
#[repr(transparent)]
pub struct Runnable(NonNull<Metadata>);

// SAFETY: a `Runnable` is a unique pointer to a `Sync` record that outlives it (C1 of `from_raw`).
unsafe impl Send for Runnable {}
// SAFETY: through `&Runnable` only atomics and the constant id are read.
unsafe impl Sync for Runnable {}

impl Runnable {
    /// Makes the token for the thread whose record starts at `metadata`.
    ///
    /// # Safety
    ///
    /// - **C1**: the record outlives the token; its `cold` is null or begins with a `u64` that lives as long.
    /// - **C2**: no other token for this thread exists (R1); one taken apart by
    ///   [`into_raw`](Self::into_raw) does not count.
    pub const unsafe fn from_raw(metadata: NonNull<Metadata>) -> Self {
        Runnable(metadata)
    }

    /// Takes the token apart, for storage in an atomic; [`from_raw`](Self::from_raw) puts it
    /// together again.
    pub fn into_raw(self) -> NonNull<Metadata> {
        ManuallyDrop::new(self).0
    }

    /// The record's address, for prefetching.
    pub const fn as_ptr(&self) -> NonNull<Metadata> {
        self.0
    }

    fn metadata(&self) -> &Metadata {
        // SAFETY: C1 of `from_raw`.
        unsafe { self.0.as_ref() }
    }

    /// The thread's place.
    pub fn id(&self) -> GvtId {
        self.metadata().id()
    }

    /// How urgent it is. Does not change while it is queued.
    #[inline]
    pub fn priority(&self) -> Priority {
        self.metadata().priority()
    }

    /// What its spawner tagged it with (`gvt::Builder::tag`): a deadline, a weight, a tenant, whatever the
    /// queue uses it for. 0 for a thread without a tag. Does not change.
    ///
    /// Earliest deadline first, with the deadline in the tag and those without one last:
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::Mutex;
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    /// use gvt_traits::*;
    ///
    /// #[derive(Default)]
    /// struct Deadlines {
    ///     /// By deadline, then by arrival.
    ///     ready: Mutex<(u64, BTreeMap<(u64, u64), Runnable>)>,
    ///     len: AtomicUsize,
    /// }
    ///
    /// impl ReadyQueue for Deadlines {
    ///     type Local = ();
    ///     /// Threads without a deadline may starve.
    ///     const ORDER: Order = Order::StrictPriority;
    ///     fn local(&self, _: WorkerId) {}
    ///     fn inject(&self, task: Runnable) {
    ///         let (arrivals, ready) = &mut *self.ready.lock().unwrap();
    ///         *arrivals += 1;
    ///         // 0 becomes the latest of all.
    ///         ready.insert((task.tag().wrapping_sub(1), *arrivals), task);
    ///         self.len.store(ready.len(), Relaxed);
    ///     }
    ///     fn push(&self, _: &mut (), task: Runnable, _: PushKind) {
    ///         self.inject(task)
    ///     }
    ///     fn pop(&self, _: &mut ()) -> Option<Runnable> {
    ///         let (_, ready) = &mut *self.ready.lock().unwrap();
    ///         let first = ready.pop_first();
    ///         self.len.store(ready.len(), Relaxed);
    ///         first.map(|(_, task)| task)
    ///     }
    ///     fn has_work(&self, _: &()) -> bool {
    ///         !self.ready.lock().unwrap().1.is_empty()
    ///     }
    ///     fn len_hint(&self) -> usize {
    ///         self.len.load(Relaxed)
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn tag(&self) -> u64 {
        self.metadata().tag()
    }

    /// Whether it has run before, and so holds a stack.
    #[inline]
    pub fn has_started(&self) -> bool {
        self.metadata().has_started()
    }

    /// The worker that it would like to run on: a wish, not a condition.
    #[inline]
    pub fn preferred_worker(&self) -> WorkerId {
        self.metadata().preferred_worker()
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        panic!(
            "R2: the token of ready thread {:?} was dropped, so the thread could never run again; \
             a queue must hand out every token that was pushed",
            self.id()
        );
    }
}

impl fmt::Debug for Runnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runnable").field("id", &self.id()).field("priority", &self.priority()).finish()
    }
}
