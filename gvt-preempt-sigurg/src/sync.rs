//! Atomics: std's, or loom's in this crate's own models (other crates' models find the ordinary backends
//! here); and the models' mutants. The steps that [`Mutant`] names are those of `registry`.

#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, fence};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, fence};

/// Waits a little for another OS thread.
pub(crate) fn pause() {
    #[cfg(not(all(loom, test)))]
    std::thread::sleep(std::time::Duration::from_micros(50));
    #[cfg(all(loom, test))]
    loom::thread::yield_now();
}

/// Defects that a model can switch on, to show that it would notice them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// H5 before H2.
    TakeBeforeCountingIn,
    /// No H3.
    NoFenceInHandler,
    /// No R2.
    NoFenceInRetire,
    /// H7 without Release.
    RelaxedCountOut,
    /// M2 before M1.
    SendBeforeMark,
    /// M1 left out if the mark is there already.
    TrustOldMark,
    /// M1 without Release.
    RelaxedMark,
    /// No H5.
    LeaveMark,
}

/// Whether `which` is switched on: never, outside the models.
#[cfg(not(all(loom, test)))]
#[inline(always)]
pub(crate) const fn mutant(_which: Mutant) -> bool {
    false
}

#[cfg(all(loom, test))]
pub(crate) fn mutant(which: Mutant) -> bool {
    // Relaxed: set before the model starts; std's, so that loom does not explore it.
    MUTANT.load(std::sync::atomic::Ordering::Relaxed) == which as usize + 1
}

/// The mutant that is on, plus 1; 0 for none.
#[cfg(all(loom, test))]
pub(crate) static MUTANT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
