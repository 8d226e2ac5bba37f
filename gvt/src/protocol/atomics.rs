//! The atomics of all protocols, and the faults (*mutants*) that their models plant.
//!
//! Under `--cfg loom` the atomics are loom's and a model can ask for a mutant: a protocol with one step left
//! out. In every other build [`mutant`] is constant `false` and its code vanishes.
//!
//! Metadata in `gvt-traits` uses `core`'s atomics. The protocols take the words they work on as arguments, so
//! that models can pass loom's.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

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

/// The cheap half of an asymmetric fence: a compiler fence only. The other half is a `membarrier` (in models
/// `heavy_fence`), which acts for both.
#[inline(always)]
pub(crate) fn light_fence() {
    // ORDERING: pairs with the `membarrier` of the monitor (`retake` E4); in models with `heavy_fence`.
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // Both halves together amount to full fences; without the other half this one has no effect.
    #[cfg(loom)]
    if !mutant(Mutant::NoBarrier) {
        fence(Ordering::SeqCst);
    }
}

/// The expensive half, in models.
#[cfg(loom)]
pub(crate) fn heavy_fence() {
    // ORDERING: pairs with `light_fence`.
    fence(Ordering::SeqCst);
}

pub(crate) fn yield_os_thread() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Whether a model has failed and its objects are gone: destructors then leave them alone. Always `false`
/// outside models.
#[inline(always)]
pub(crate) fn is_failing() -> bool {
    cfg!(loom) && std::thread::panicking()
}

/// A step of a protocol that a model leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "read under loom only")]
pub(crate) enum Mutant {
    /// `wait`: W2 by a plain store.
    CommitBlind = 1,
    /// `wait`: W3 without looking at the number.
    WakeAnyNumber,
    /// `idle`: no fence between a push and the look at sleepers.
    NoPushFence,
    /// `idle`: no second look for work after announcing sleep.
    NoRescan,
    /// `idle`: a searcher that found work does not look for more.
    NoChain,
    /// `join`: the waiter is stored, not exchanged.
    JoinBlind,
    /// `parker`: sleeps without looking for a notification.
    ParkBlind,
    /// `idle`: one `searching` for both classes.
    OneSearcher,
    /// `retake`: no E2.
    EnterBlind,
    /// `retake`: no E4.
    NoBarrier,
    /// `retake`: E5 before E3.
    DepthFirst,
    /// `retake`: E2 and E6 without Acquire and Release.
    RelaxedDecision,
    /// `mailbox`: A1 without Release.
    PushRelaxed,
    /// `mailbox`: A1 without Acquire.
    DrainRelaxed,
    /// `mailbox`: A2 by a load and a store.
    TakeBlind,
    /// `mailbox`: A3 without its second half.
    NoSecondLook,
    /// `mailbox`: A4, the taking first.
    HomeLast,
    /// `links`: no L2.
    PassUncounted,
    /// `links`: no L7.
    LookOnce,
    /// `names`: no N3.
    ReadBlind,
    /// `names`: no M2.
    FreeBlind,
    /// `join`: J5 without the number.
    JoinAnyWait,
    /// `request`: N2 the other way round.
    LookFirst,
    /// `turn`: V3 without looking.
    GiveBlind,
    /// `turn`: V5 leaves it waiting.
    FreedomStays,
    /// `idle`: no N3.
    NapForgotten,
    /// `idle`: N3 without becoming the searcher.
    NapAlone,
    /// `links`: no L0.
    CopyUncounted,
    /// `idle`: no W1.
    WakeUncounted,
    /// `idle`: W3 before W2.
    SleepersFirst,
    /// `idle`: W1 and W4 without fences.
    WakeUnfenced,
    /// `settlers`: Z1 without the count.
    SettleUncounted,
    /// `settlers`: Z2 looks before it has the list.
    LookUnlocked,
    /// `settlers`: no Z4.
    HeldSilently,
    /// `settlers`: Z4 without a fence.
    HeldUnfenced,
    /// `reach`: parks without the fence.
    ReachUnfenced,
    /// `reach`: parks without a look.
    ReachUnseen,
    /// `reach`: ends a wait after the lock.
    ReachUnlocked,
    /// `list`: N5 by a plain store.
    ClaimBlind,
    /// `list`: N1 without an outcome.
    NoOutcome,
    /// `list`: N4 without waiting for the flag.
    LeaveUnfired,
    /// `channel::select`: S2 without the look.
    EnlistBlind,
    /// `channel::state`: R2 lets nobody in.
    LetNobodyIn,
    /// `channel::state`: R4 does not count what was picked.
    PickUncounted,
    /// `channel::ends`: E1 by a load and a store.
    CountBlind,
    /// `raw_mutex`: U1 marks with HELD.
    UncontendedMark,
    /// `raw_mutex`: U2 frees without a look at the list.
    UnlockBlind,
    /// `condvar`: C2 before C1.
    UnlockFirst,
    /// `semaphore`: G3 without a look at WAITING.
    ReleaseBlind,
    /// `wait_group`: H2 looks before it has the lock.
    WaitBlind,
    /// `channel::oneshot`: H2 wakes nobody.
    CloseSilently,
    /// `unjoined`: takes a handle by a load and a store.
    TakeHandleBlind,
    /// `unjoined`: a thread looks for itself before it publishes its result.
    LeaveFirst,
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
