//! A flag that an OS thread sleeps on.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::os::{futex_wait_until, futex_wake};

const QUIET: u32 = 0;
const FIRED: u32 = 1;
const SLEEPING: u32 = 2;

/// Before it sleeps, an OS thread looks this often with growing pauses, then this often yielding to others in
/// between.
const SPIN_ROUNDS: u32 = 6;
const YIELD_ROUNDS: u32 = 4;

/// A one-shot event that an OS thread waits for.
pub(crate) struct OsFlag {
    word: AtomicU32,
}

impl OsFlag {
    pub(crate) const fn new() -> Self {
        OsFlag { word: AtomicU32::new(QUIET) }
    }

    /// Whether it has fired.
    pub(crate) fn is_fired(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release in `fire`.
        self.word.load(Acquire) == FIRED
    }

    /// Sleeps until it fires, at the longest until the deadline.
    pub(crate) fn wait(&self, deadline_ns: Option<u64>) {
        if self.is_fired_soon() {
            return;
        }
        // ORDERING O1: as in `is_fired`, on failure.
        if self.word.compare_exchange(QUIET, SLEEPING, Relaxed, Acquire).is_err() {
            return;
        }
        while !self.is_fired() {
            if !futex_wait_until(&self.word, SLEEPING, deadline_ns) {
                // Reset, so that a firing in between stays visible; the result does not matter.
                let _ = self.word.compare_exchange(SLEEPING, QUIET, Relaxed, Relaxed);
                return;
            }
        }
    }

    /// Looks for a while before sleeping: OS threads that answer each other do so in less time than a sleep
    /// and its wake-up take (some 4 µs on one core, 30 µs across cores).
    fn is_fired_soon(&self) -> bool {
        for round in 0..SPIN_ROUNDS + YIELD_ROUNDS {
            if self.is_fired() {
                return true;
            }
            if round < SPIN_ROUNDS {
                (0..1 << round).for_each(|_| spin_loop());
            } else {
                std::thread::yield_now();
            }
        }
        false
    }

    pub(crate) fn waker(&self) -> OsWaker {
        OsWaker(&raw const self.word)
    }
}

/// Fires a flag.
pub(crate) struct OsWaker(*const AtomicU32);

impl OsWaker {
    /// Ends the sleep. The exchange is the last access: the flag's owner may be gone afterwards, and the
    /// kernel uses the address only as a key.
    ///
    /// # Safety
    ///
    /// **C1**: the flag exists until it fires.
    pub(crate) unsafe fn fire(self) {
        // ORDERING O1: Release pairs with the Acquire in `is_fired` and `wait`.
        // SAFETY: C1: not fired yet, so it exists.
        if unsafe { &*self.0 }.swap(FIRED, Release) == SLEEPING {
            futex_wake(self.0, 1);
        }
    }
}
