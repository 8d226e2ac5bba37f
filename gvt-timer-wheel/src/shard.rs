//! One wheel behind a lock.
//!
//! **Batches.** Expired entries are taken out a [`Batch`](crate::wheel::Batch) at a time under the lock and
//! given to the sink without it: waking a thread takes longer than taking it out, and inserts should not wait
//! for a flood of wake-ups. The wheel also ends a turn when it has moved many entries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::wheel::Wheel;

/// A shard. Two cache lines of its own, since adjacent ones are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Shard {
    wheel: Mutex<Wheel>,
    /// How many entries it holds; written under the lock. Relaxed: a gauge; coherence
    /// orders it for the thread that inserted.
    pub(crate) len: AtomicUsize,
    /// Whether the lock's holder is expiring; written under the lock. Relaxed: only a hint on what
    /// to do about a lock that is taken.
    pub(crate) expiring: AtomicBool,
}

impl Shard {
    pub(crate) fn new(shift: u32) -> Self {
        Shard {
            wheel: Mutex::new(Wheel::new(shift)),
            len: AtomicUsize::new(0),
            expiring: AtomicBool::new(false),
        }
    }

    /// Takes the lock. Held for one operation or one turn of expiry, with preemption off (B1), so
    /// that only the kernel can stretch it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Wheel> {
        // A poisoned lock means that a panic is on its way to abort the process (B3).
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock, unless another call is expiring this shard.
    pub(crate) fn lock_to_help(&self) -> Option<MutexGuard<'_, Wheel>> {
        match self.wheel.try_lock() {
            Ok(wheel) => Some(wheel),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if self.expiring.load(Relaxed) => None,
            Err(TryLockError::WouldBlock) => Some(self.lock()),
        }
    }
}
