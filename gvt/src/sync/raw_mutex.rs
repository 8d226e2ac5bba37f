//! The core of `Mutex` and `SchedMutex`.
//!
//! **Protocol.** One word: free, held, or held and perhaps contended. Locking is one compare-exchange,
//! unlocking one swap. **U1** A waiter, under the list's lock, swaps CONTENDED in; if that replaced FREE it
//! has the mutex, else it links itself and parks. **U2** Unlocking swaps FREE in; if that replaced CONTENDED
//! it takes the first waiter and wakes it. **U3** A woken waiter starts over with U1, so that the word says
//! CONTENDED while others may wait. The unlocker takes the list's lock after its swap, and U1's swap happens
//! under it: either the swap of U1 comes first and U2 sees CONTENDED and finds the node, or U1 finds FREE.
//!
//! **Fairness.** A running thread may get the mutex before a woken one: handing it over would cost a switch a
//! lock. But **U4** a waiter that has been passed over for a millisecond is *hungry*: it waits at the front,
//! and the unlocker takes the mutex back, if no other thread was faster, and hands it over.
//!
//! **Which worker runs a woken waiter.** An idle worker would run it, find the mutex taken again by its
//! waker, which runs on, and wait again: two moves of a cache line and a wake-up of that worker each time,
//! for nothing. So a waiter that was woken **in vain** once stays with its waker's worker from then on, like
//! the first thread woken since the last scheduling decision (`switch::push_here`): it runs when its waker
//! waits or yields, or when the monitor offers it to others. (8 threads on one mutex, 2 workers: 8.9 instead
//! of 11.8 ns a lock.)
//!
//! **Evidence.** loom `models::mutex_*`; mutants `UncontendedMark` (U1 with HELD) and `UnlockBlind` (U2
//! without a look at the list) fail.

use gvt_traits::WaitReason;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, Mutant, mutant};
use crate::wait::host::Here;
use crate::wait::list::{FRONT, List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::WakeList;
use crate::wait::{clock, host};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// U4.
const HUNGRY_NS: u64 = 1_000_000;

/// The longest pause, in spins, between looks at a held mutex before its waiter parks; the pauses double from
/// one spin. Spinning helps only while the holder runs on another worker. Each look takes the cache line from
/// the holder; 40 looks with one spin between them cost it a third more time.
const LONGEST_PAUSE: u32 = if cfg!(loom) { 0 } else { 32 };

pub(crate) struct RawMutex {
    word: AtomicU32,
    waiters: Lock<List<Standing>>,
}

pub(super) const POLICY: WaitPolicy<RawMutex, List<Standing>, Standing> = WaitPolicy {
    list: |list, _| list,
    reason: WaitReason::Mutex,
    abandon: |mutex, list, _, outcome, wakes, here| match outcome {
        // Handed over, or woken: it is the next waiter's turn.
        WaitOutcome::Served => mutex.pass_on(list, wakes, here),
        WaitOutcome::Again => {
            if let Some(waiter) = list.take() {
                wakes.push(waiter.end(WaitOutcome::Again, here));
            }
        }
        _ => {}
    },
};

/// The history of a waiter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    New,
    /// Woken in vain.
    PassedOver,
    /// U4.
    Hungry,
}

/// How long a waiter has waited in vain (U4).
pub(super) struct Patience {
    begin_ns: Option<u64>,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Patience { begin_ns: None }
    }

    /// The waiter's list number and its standing for the next wait.
    pub(super) fn next(&mut self) -> (u8, Standing) {
        match self.begin_ns {
            None => {
                self.begin_ns = Some(clock::coarse_ns());
                (0, Standing::New)
            }
            Some(begin) if clock::coarse_ns().saturating_sub(begin) >= HUNGRY_NS => (FRONT, Standing::Hungry),
            Some(_) => (FRONT, Standing::PassedOver),
        }
    }
}

impl RawMutex {
    const_fn! {
        pub(crate) const fn new() -> Self {
            RawMutex { word: AtomicU32::new(FREE), waiters: Lock::new(List::new()) }
        }
    }

    pub(super) fn waiters(&self) -> &Lock<List<Standing>> {
        &self.waiters
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release in `unlock`.
        self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[cold]
    fn lock_slow(&self) {
        let mut pause = 1;
        while pause <= LONGEST_PAUSE {
            (0..pause).for_each(|_| host::spin());
            if self.word.load(Relaxed) == FREE && self.try_lock() {
                return;
            }
            pause *= 2;
        }
        let mut patience = Patience::new();
        loop {
            let guard = self.waiters.lock();
            if self.take_or_mark(&guard) {
                return;
            }
            let (number, standing) = patience.next();
            if wait(self, guard, &POLICY, number, &mut Some(standing), None) == WaitOutcome::Served {
                return;
            }
        }
    }

    /// U1; returns whether the caller has the mutex.
    pub(crate) fn take_or_mark(&self, waiters: &LockGuard<'_, List<Standing>>) -> bool {
        let mark = if mutant(Mutant::UncontendedMark) { HELD } else { CONTENDED };
        // ORDERING O1: Acquire as in `try_lock`.
        if self.word.swap(mark, Acquire) != FREE {
            return false;
        }
        if waiters.is_empty() {
            // No other thread can have marked it: that takes the list's lock. Relaxed: the caller is the
            // holder.
            self.word.store(HELD, Relaxed);
        }
        true
    }

    /// Unlocks.
    ///
    /// Context: the holder of the mutex. Does not wait.
    #[inline]
    pub(crate) fn unlock(&self) {
        // U2. ORDERING O1: Release pairs with the Acquire in `try_lock` and `take_or_mark`.
        if self.word.swap(FREE, Release) == CONTENDED {
            self.unlock_slow();
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        if mutant(Mutant::UnlockBlind) {
            return;
        }
        let mut list = self.waiters.lock();
        let here = list.here();
        let mut outcome = WaitOutcome::Again;
        let standing = list.first_slot().copied();
        if standing == Some(Standing::Hungry) {
            // U4. ORDERING O1: Acquire on behalf of the waiter.
            if self.word.swap(CONTENDED, Acquire) != FREE {
                // Another thread was faster; its unlock comes here.
                return;
            }
            outcome = WaitOutcome::Served;
        }
        if let Some(waiter) = list.take() {
            let wake = waiter.end(outcome, here);
            if standing == Some(Standing::PassedOver) {
                here.keep_next();
            }
            list.wake(wake);
        }
    }

    /// U2 and U4 for a mutex that was handed to an unwound waiter, under the list's lock.
    fn pass_on(&self, list: &mut List<Standing>, wakes: &mut WakeList, here: Here) {
        // ORDERING O1: as in `unlock`.
        self.word.store(FREE, Release);
        if let Some(waiter) = list.take() {
            wakes.push(waiter.end(WaitOutcome::Again, here));
        }
    }
}
