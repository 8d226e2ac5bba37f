//! The right to run a thread, as a value.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::{GvtId, GvtState, Metadata, Priority, WorkerId};

/// Exactly one of these exists for each thread that is ready, and none for any other thread.
///
/// - **R1 unique**: it cannot be copied, so a queue can hand it out once at most.
/// - **R2 not to be dropped**: dropping one would lose its thread for ever, so `Drop` panics.
///
/// That is what lets [`ReadyQueue`](crate::ReadyQueue) be a safe trait: in safe code a queue can
/// delay a thread or, by dropping it, panic; it can never run one twice.
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
    /// - **C1**: the record outlives the token.
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
    pub fn priority(&self) -> Priority {
        // Relaxed: written before the token was made, by whoever made it.
        Priority::from_u8(self.metadata().priority.load(Relaxed))
    }

    /// Whether it has run before, and so holds a stack.
    pub fn has_started(&self) -> bool {
        // Relaxed: as in `priority`.
        self.metadata().state.load(Relaxed) != GvtState::Created as u8
    }

    /// The worker that it would like to run on: a wish, not a condition.
    pub fn preferred_worker(&self) -> WorkerId {
        // Relaxed: as in `priority`.
        match self.metadata().worker_id.load(Relaxed) {
            worker if (worker as usize) < crate::MAX_WORKERS => WorkerId::new(worker as usize),
            _ => WorkerId::NONE,
        }
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
