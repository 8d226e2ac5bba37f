//! The primitives that the protocol in `watch` uses; loom's own under `cfg(loom)`.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering, fence},
};

/// A step of the protocol that the loom models leave out, to show that they would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mutant {
    /// P1's fence.
    InsertFence = 1,
    /// P3's fence.
    WaitFence,
    /// P3's store before the fence.
    Announce,
    /// P2's look at what the alarm is set to.
    LaterOverwrites,
    /// P4's second look, under the lock.
    RetireUnchecked,
}

/// Whether `step` is left out in this run.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutant(_step: Mutant) -> bool {
    false
}

#[cfg(loom)]
pub(crate) static MUTANT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether `step` is left out in this run.
#[cfg(loom)]
pub(crate) fn mutant(step: Mutant) -> bool {
    // Relaxed: set before the model starts, on the thread that runs it.
    MUTANT.load(std::sync::atomic::Ordering::Relaxed) == step as u8
}
