//! The atomics of the scheduler's protocols, and the faults (*mutants*) that their models plant.
//!
//! Under `--cfg loom` the atomics are loom's and a model can ask for a mutant: a protocol with one step left
//! out. In every other build [`mutant`] is constant `false` and its code vanishes.
//!
//! Metadata in `gvt-traits` uses `core`'s atomics. The protocols take the words they work on as arguments, so
//! that models can pass loom's.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

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

/// A step of a protocol that a model leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "read under loom only")]
pub(crate) enum Mutant {
    /// `wait`: W2 by a plain store.
    CommitBlind = 1,
    /// `wait`: W3 without looking at the number.
    WakeAnyNumber = 2,
    /// `idle`: no fence between a push and the look at sleepers.
    NoPushFence = 3,
    /// `idle`: no second look for work after announcing sleep.
    NoRescan = 4,
    /// `idle`: a searcher that found work does not look for more.
    NoChain = 5,
    /// `join`: the waiter is stored, not exchanged.
    JoinBlind = 6,
    /// `parker`: sleeps without looking for a notification.
    ParkBlind = 7,
    /// `idle`: one `searching` for both classes.
    OneSearcher = 8,
    /// `retake`: no E2.
    EnterBlind = 9,
    /// `retake`: no E4.
    NoBarrier = 10,
    /// `retake`: E5 before E3.
    DepthFirst = 11,
    /// `retake`: E2 and E6 without Acquire and Release.
    RelaxedDecision = 12,
    /// `mailbox`: A1 without Release.
    PushRelaxed = 13,
    /// `mailbox`: A1 without Acquire.
    DrainRelaxed = 14,
    /// `mailbox`: A2 by a load and a store.
    ClaimBlind = 15,
    /// `mailbox`: A3 without its second half.
    NoSecondLook = 16,
    /// `mailbox`: A4, the taking first.
    HomeLast = 17,
    /// `links`: no L2.
    PassUncounted = 18,
    /// `links`: no L7.
    LookOnce = 19,
    /// `names`: no N3.
    ReadBlind = 20,
    /// `names`: no M2.
    FreeBlind = 21,
    /// `join`: J5 without the number.
    JoinAnyWait = 22,
    /// `request`: N2 the other way round.
    LookFirst = 23,
    /// `turn`: V3 without looking.
    GiveBlind = 24,
    /// `turn`: V5 leaves it waiting.
    FreedomStays = 25,
    /// `idle`: no N3.
    NapForgotten = 26,
    /// `idle`: N3 without becoming the searcher.
    NapAlone = 27,
    /// `links`: no L0.
    CopyUncounted = 40,
    /// `idle`: no W1.
    WakeUncounted = 41,
    /// `idle`: W3 before W2.
    SleepersFirst = 42,
    /// `idle`: W1 and W4 without fences.
    WakeUnfenced = 43,
    /// `settlers`: Z1 without the count.
    SettleUncounted = 44,
    /// `settlers`: Z2 looks before it has the list.
    LookUnlocked = 45,
    /// `settlers`: no Z4.
    HeldSilently = 46,
    /// `settlers`: Z4 without a fence.
    HeldUnfenced = 47,
    /// `reach`: parks without the fence.
    ReachUnfenced = 48,
    /// `reach`: parks without a look.
    ReachUnseen = 49,
    /// `reach`: ends a wait after the lock.
    ReachUnlocked = 50,
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
