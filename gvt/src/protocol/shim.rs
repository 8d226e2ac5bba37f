//! The atomics of the primitives, and the faults that their models plant; see `protocol::atomics`.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// A constructor that is `const` except in models: loom's atomics have no constant constructors.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visible:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $visible const fn $($rest)*
        #[cfg(loom)]
        $(#[$attribute])*
        $visible fn $($rest)*
    };
}

/// A step of a protocol that a model leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "read under loom only")]
pub(crate) enum Mutant {
    /// `list`: N5 by a plain store.
    ClaimBlind = 1,
    /// `list`: N1 without an outcome.
    NoOutcome = 2,
    /// `list`: N4 without waiting for the flag.
    LeaveUnfired = 3,
    /// `channel::select`: S2 without the look.
    EnlistBlind = 4,
    /// `channel::state`: R2 lets nobody in.
    LetNobodyIn = 5,
    /// `channel::state`: R4 does not count what was picked.
    PickUncounted = 6,
    /// `channel::ends`: E1 by a load and a store.
    CountBlind = 7,
    /// `raw_mutex`: U1 marks with HELD.
    UncontendedMark = 8,
    /// `raw_mutex`: U2 frees without a look at the list.
    UnlockBlind = 9,
    /// `condvar`: C2 before C1.
    UnlockFirst = 10,
    /// `semaphore`: G3 without a look at WAITING.
    ReleaseBlind = 11,
    /// `wait_group`: H2 looks before it has the lock.
    WaitBlind = 12,
    /// `channel::oneshot`: H2 wakes nobody.
    CloseSilently = 13,
    /// `unjoined`: takes a handle by a load and a store.
    TakeHandleBlind = 14,
    /// `unjoined`: a thread looks for itself before it publishes its result.
    LeaveFirst = 15,
}

/// Whether a model has failed and its objects are gone: destructors then leave them alone. Always `false`
/// outside models.
#[inline(always)]
pub(crate) fn is_failing() -> bool {
    cfg!(loom) && std::thread::panicking()
}

#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutant(_: Mutant) -> bool {
    false
}

#[cfg(loom)]
static PLANTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

#[cfg(loom)]
pub(crate) fn mutant(which: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == which as u32
}

/// Models run one at a time, so that a planted mutant reaches its own model only.
#[cfg(all(test, loom))]
static ONE_MODEL: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs a model of the protocol as it is.
#[cfg(all(test, loom))]
pub(crate) fn check(model: fn()) {
    let _one = ONE_MODEL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    model();
}

/// Runs `model` with `which` planted and checks that it fails.
#[cfg(all(test, loom))]
pub(crate) fn check_mutant(which: Mutant, model: fn()) {
    let _one = ONE_MODEL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    PLANTED.store(which as u32, std::sync::atomic::Ordering::Relaxed);
    let outcome = std::panic::catch_unwind(model);
    PLANTED.store(0, std::sync::atomic::Ordering::Relaxed);
    assert!(outcome.is_err(), "the model does not notice {which:?}");
}
