//! `Semaphore`: a number of permits, handed out in order.
//!
//! **Protocol.** One word: permits, and WAITING. **G1** The fast paths touch the word only while WAITING is
//! clear. **G2** A thread that cannot have its permits sets WAITING under the list's lock, checks once more,
//! and links itself with the number that it needs. **G3** A thread that puts permits into a word with WAITING
//! takes the list's lock and serves waiters from the front as far as the permits go, subtracting before it
//! wakes. **G4** The thread that empties the list clears WAITING, under its lock.
//!
//! Waiters that need few permits do not overtake one that needs many.
//!
//! **Evidence.** loom `models::semaphore_*`; mutant `ReleaseBlind` (G3 without a look at WAITING) fails.

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicUsize, Mutant, mutant};
use crate::wait::clock::{deadline_ns, has_passed, now};
use crate::wait::host::{Here, give_way};
use crate::wait::list::{List, Node, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

const WAITING: usize = 1;
/// One permit in the word.
const ONE: usize = 2;

pub(crate) struct RawSemaphore {
    word: AtomicUsize,
    /// A waiter's slot holds the number that it needs.
    pub(super) waiters: Lock<List<usize>>,
}

pub(super) const POLICY: WaitPolicy<RawSemaphore, List<usize>, usize> = WaitPolicy {
    list: |list, _| list,
    reason: WaitReason::Semaphore,
    abandon: |semaphore, list, slot, outcome, wakes, here| {
        if outcome == WaitOutcome::Served {
            let needed = slot.expect("a waiter says what it needs");
            // ORDERING O1: as in `release`.
            semaphore.word.fetch_add(needed * ONE, Release);
        }
        semaphore.serve(list, wakes, here);
    },
};

impl RawSemaphore {
    const_fn! {
        pub(super) const fn new(permits: usize) -> Self {
            assert!(permits <= Semaphore::MAX_PERMITS, "a semaphore has `MAX_PERMITS` permits at the most");
            RawSemaphore { word: AtomicUsize::new(permits * ONE), waiters: Lock::new(List::new()) }
        }
    }

    pub(super) fn permits(&self) -> usize {
        self.word.load(Relaxed) / ONE
    }

    #[inline]
    pub(crate) fn try_acquire(&self, needed: usize) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & WAITING == 0 && word / ONE >= needed {
            // ORDERING O1: Acquire pairs with the Release in `release`.
            match self.word.compare_exchange_weak(word, word - needed * ONE, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// G2, under the list's lock: whether the caller has the permits; else WAITING is set.
    pub(super) fn take_or_mark(&self, list: &mut List<usize>, needed: usize) -> bool {
        // ORDERING O1: as in `try_acquire`.
        let word = self.word.fetch_or(WAITING, AcqRel);
        let free = list.is_empty() && word / ONE >= needed;
        if free {
            // With WAITING set, permits only grow meanwhile.
            self.word.fetch_sub(needed * ONE, Acquire);
            self.settle(list);
        }
        free
    }

    pub(super) fn acquire(&self, needed: usize, deadline: Option<Instant>) -> bool {
        if self.try_acquire(needed) {
            return true;
        }
        let mut list = self.waiters.lock();
        if self.take_or_mark(&mut list, needed) {
            return true;
        }
        if deadline.is_some_and(has_passed) {
            self.settle(&mut list);
            return false;
        }
        let deadline = deadline.map(deadline_ns);
        match wait(self, list, &POLICY, 0, &mut Some(needed), deadline) {
            WaitOutcome::Served => true,
            _ => {
                self.serve_outside();
                false
            }
        }
    }

    #[inline]
    pub(crate) fn release(&self, permits: usize) {
        // ORDERING O1: Release pairs with the Acquire in `try_acquire`.
        if self.word.fetch_add(permits * ONE, Release) & WAITING != 0 && !mutant(Mutant::ReleaseBlind) {
            self.serve_outside();
        }
    }

    /// G3.
    pub(super) fn serve(&self, list: &mut List<usize>, wakes: &mut WakeList, here: Here) {
        while let Some(&needed) = list.first_open_slot() {
            if self.word.load(Acquire) / ONE < needed {
                break;
            }
            // WAITING is set, so permits only grow meanwhile.
            self.word.fetch_sub(needed * ONE, Acquire);
            match list.take_first() {
                Some(waiter) => wakes.push(waiter.end(WaitOutcome::Served, here)),
                // A select that has chosen another operation. ORDERING O1: as in `release`.
                None => _ = self.word.fetch_add(needed * ONE, Release),
            }
        }
        self.settle(list);
    }

    /// G4.
    fn settle(&self, list: &mut List<usize>) {
        if list.is_empty() {
            self.word.fetch_and(!WAITING, Relaxed);
        }
    }

    #[cold]
    pub(super) fn serve_outside(&self) {
        let mut wakes = WakeList::new();
        let mut list = self.waiters.lock();
        let here = list.here();
        self.serve(&mut list, &mut wakes, here);
        drop(list);
        wakes.fire();
    }

    /// Whether this many permits are available.
    pub(crate) fn has(&self, needed: usize) -> bool {
        let word = self.word.load(Relaxed);
        word & WAITING == 0 && word / ONE >= needed
    }

    /// Links a waiter for `needed` permits, unless they are available.
    ///
    /// # Safety
    ///
    /// **C1**: `node` is the caller's, valid and in no list, and stays valid, as does `needed`, unchanged,
    /// until [`withdraw`](Self::withdraw).
    pub(crate) unsafe fn enlist(&self, node: *mut Node, needed: &UnsafeCell<Option<usize>>) -> bool {
        // SAFETY: C1: it is read only.
        let permits = unsafe { *needed.get() }.expect("a waiter says what it needs");
        let mut list = self.waiters.lock();
        if self.take_or_mark(&mut list, permits) {
            // To be chosen in the next round, in which another thread may be faster.
            drop(list);
            self.release(permits);
            return false;
        }
        // SAFETY: C1; locked.
        unsafe {
            (*node).set_slot(needed.get());
            list.push(node, 0);
        }
        true
    }

    /// Unlinks the waiter; returns how its wait ended.
    ///
    /// # Safety
    ///
    /// **C1**: [`enlist`](Self::enlist) has linked `node`.
    pub(crate) unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        let mut list = self.waiters.lock();
        // SAFETY: C1, locked.
        unsafe {
            if (*node).is_linked() {
                list.unlink(node);
            }
        }
        // Waiters behind it may need fewer.
        let mut wakes = WakeList::new();
        let here = list.here();
        self.serve(&mut list, &mut wakes, here);
        drop(list);
        wakes.fire();
        // SAFETY: in no list.
        unsafe { (*node).outcome() }
    }
}

/// A number of permits; a thread that needs some waits until they are available. Parks the green thread, not
/// its worker.
///
/// Waiters are served in order of arrival: one that needs many is not overtaken by later ones that need few.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::Semaphore;
/// let two_at_a_time = Semaphore::new(2);
/// gvt::scope(|scope| {
///     for _ in 0..10 {
///         scope.spawn(|_| {
///             let _permit = two_at_a_time.acquire();
///             assert!(two_at_a_time.available_permits() < 2);
///             gvt::yield_now();
///         });
///     }
/// });
/// assert_eq!(two_at_a_time.available_permits(), 2);
/// # });
/// ```
pub struct Semaphore {
    pub(crate) raw: RawSemaphore,
}

impl Semaphore {
    /// The largest number of permits.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_fn! {
        /// A semaphore with `permits` permits.
        ///
        /// # Panics
        ///
        /// If that is more than [`MAX_PERMITS`](Self::MAX_PERMITS).
        pub const fn new(permits: usize) -> Self {
            Semaphore { raw: RawSemaphore::new(permits) }
        }
    }

    /// Waits for a permit.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.acquire_many(1)
    }

    /// Waits for `permits` permits at once.
    ///
    /// Context: as [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// If that is more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn acquire_many(&self, permits: usize) -> SemaphorePermit<'_> {
        give_way();
        check(permits);
        self.raw.acquire(permits, None);
        SemaphorePermit { semaphore: self, permits }
    }

    /// Takes a permit if one is available and there is no waiter.
    ///
    /// Context: anywhere.
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes `permits` permits at once if they are available and there is no waiter.
    ///
    /// Context: anywhere.
    pub fn try_acquire_many(&self, permits: usize) -> Option<SemaphorePermit<'_>> {
        give_way();
        check(permits);
        self.raw.try_acquire(permits).then(|| SemaphorePermit { semaphore: self, permits })
    }

    /// [`acquire_many`](Self::acquire_many) with a time limit.
    ///
    /// Context: as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, permits: usize, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        give_way();
        check(permits);
        self.raw
            .acquire(permits, now().checked_add(timeout))
            .then(|| SemaphorePermit { semaphore: self, permits })
    }

    /// [`acquire_many`](Self::acquire_many) for a permit that keeps its semaphore alive.
    ///
    /// Context: as [`acquire`](Self::acquire).
    pub fn acquire_owned(self: &Arc<Self>, permits: usize) -> OwnedSemaphorePermit {
        self.acquire_many(permits).forget();
        OwnedSemaphorePermit { semaphore: self.clone(), permits }
    }

    /// Adds permits.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Panics
    ///
    /// If there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn add_permits(&self, permits: usize) {
        give_way();
        check(permits.saturating_add(self.available_permits()));
        self.raw.release(permits);
    }

    /// How many permits are available.
    ///
    /// Context: anywhere. The answer may be outdated when it is read.
    pub fn available_permits(&self) -> usize {
        give_way();
        self.raw.permits()
    }
}

#[track_caller]
pub(crate) fn check(permits: usize) {
    assert!(permits <= Semaphore::MAX_PERMITS, "{permits} permits are more than a semaphore can have");
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.available_permits()).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`]; dropping this releases them. May be sent to another thread.
#[must_use = "permits are given back when this is dropped"]
#[derive(Debug)]
pub struct SemaphorePermit<'a> {
    pub(super) semaphore: &'a Semaphore,
    pub(super) permits: usize,
}

impl<'a> SemaphorePermit<'a> {
    /// For permits that the caller has taken.
    pub(crate) fn acquired(semaphore: &'a Semaphore, permits: usize) -> Self {
        SemaphorePermit { semaphore, permits }
    }
}

impl SemaphorePermit<'_> {
    /// The number of permits.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Drops the permits without a release: the semaphore has this many fewer.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.raw.release(self.permits);
        }
    }
}

/// Permits that keep their [`Semaphore`] alive; dropping this releases them.
#[must_use = "permits are given back when this is dropped"]
#[derive(Debug)]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl OwnedSemaphorePermit {
    /// The number of permits.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Drops the permits without a release.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.raw.release(self.permits);
        }
    }
}
