//! Atomics and locks, ours or loom's, and the switches that plant a defect in a loom run.
//!
//! **Sequential consistency under loom.** loom gives `SeqCst` loads and read-modify-writes no more
//! than acquire-release strength; only `fence(SeqCst)` is modelled in full. [`publish`],
//! [`publish_ptr`] and [`look`], [`look_ptr`] are the only places where this crate needs the total
//! order, so under loom they add that fence on the side where the order has to hold. Outside loom
//! they are one instruction each.

use std::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};

use gvt_traits::Metadata;

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize},
};

/// A value on cache lines of its own; 128 bytes, since adjacent lines are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Defects that the loom models plant to show that they would see them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(loom), allow(dead_code, reason = "the variants are chosen by the loom models only"))]
#[repr(usize)]
pub(crate) enum Mutant {
    /// The ring's tail is stored without `Release`.
    TailRelaxed = 1,
    /// A thief reads the ring's tail without `Acquire`.
    StealRelaxed,
    /// A thief takes by a store where it needs a compare-and-exchange.
    StealWithoutCas,
    /// The owner pops by a store where it needs a compare-and-exchange.
    PopWithoutCas,
    /// The owner overwrites a slot before it knows that the thief has read it.
    RoomUnchecked,
    /// The owner takes its newest entry without telling thieves.
    NewestWithoutCas,
    /// The owner takes the next-up thread by load and store.
    TakeWithoutSwap,
    /// A thief takes the next-up thread by load and store.
    NextUpStealWithoutCas,
    /// A thread is published without the total order.
    PublishWeak,
    /// The last look before sleeping is made without the total order.
    LookWeak,
    /// A move between two places does not announce itself.
    MoveUnannounced,
    /// `has_work` does not check for moves that overlap it.
    MovesUnchecked,
    /// A worker clears its bell when it has looked.
    BellClearedLate,
}

#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutant(_: Mutant) -> bool {
    false
}

#[cfg(loom)]
pub(crate) static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[cfg(loom)]
pub(crate) fn mutant(which: Mutant) -> bool {
    // Relaxed: set before the model's threads exist.
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == which as usize
}

#[inline(always)]
fn total_order() {
    // ORDERING O1: loom's stand-in for what a SeqCst access is outside (module head).
    #[cfg(loom)]
    loom::sync::atomic::fence(SeqCst);
}

/// Stores `value` so that a later load of the idle set is ordered behind it (Q6).
#[inline(always)]
pub(crate) fn publish(place: &AtomicUsize, value: usize) {
    if mutant(Mutant::PublishWeak) {
        // ORDERING O1, weakened: the planted defect.
        place.swap(value, AcqRel);
        return;
    }
    // ORDERING O1: SeqCst, and a read-modify-write, so that on x86 the instruction is the fence as
    // well. Partner: `look` by a worker that has announced its sleep. Of the announcement, this
    // store and the two loads behind them, one side sees the other.
    place.swap(value, SeqCst);
    total_order();
}

/// As [`publish`], for a pointer; returns what was there.
#[inline(always)]
pub(crate) fn publish_ptr(place: &AtomicPtr<Metadata>, value: *mut Metadata) -> *mut Metadata {
    if mutant(Mutant::PublishWeak) {
        return place.swap(value, AcqRel);
    }
    // ORDERING O1, as in `publish`.
    let old = place.swap(value, SeqCst);
    total_order();
    old
}

/// Loads what [`publish`] stores, behind an announcement that the caller made (Q6).
#[inline(always)]
pub(crate) fn look(place: &AtomicUsize) -> usize {
    if mutant(Mutant::LookWeak) {
        return place.load(Acquire);
    }
    total_order();
    // ORDERING O1: partner of `publish`.
    place.load(SeqCst)
}

/// As [`look`], for a pointer.
#[inline(always)]
pub(crate) fn look_ptr(place: &AtomicPtr<Metadata>) -> *mut Metadata {
    if mutant(Mutant::LookWeak) {
        return place.load(Acquire);
    }
    total_order();
    // ORDERING O1: partner of `publish_ptr`.
    place.load(SeqCst)
}

/// Panics over tokens that a queue still holds when it is dropped (R2), unless a panic is under way.
#[cold]
pub(crate) fn left_behind(count: usize, place: &str) {
    if !std::thread::panicking() {
        panic!("R2: a queue was dropped with {count} ready threads in {place}; they could never run again");
    }
}
