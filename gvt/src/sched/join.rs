//! How a thread's end and the one who waits for it meet.
//!
//! **Hazard.** The waiter looks whether the thread has ended, then registers, then waits; the end
//! may come between any two of these. The handle may be dropped while the thread ends, and then
//! exactly one of the two must drop the result.
//!
//! **Protocol.** One word: RUNNING, ENDED, DETACHED, or a waiter. **J1** The end swaps ENDED in and
//! acts on what it replaced: a waiter is woken; DETACHED: the result is dropped by the thread itself. **J2** A
//! waiter registers by compare-exchange from RUNNING; if that fails, the thread has ended. **J3** A
//! dropped handle swaps DETACHED in; if it replaced ENDED, the result is dropped by the handle. There is
//! one handle, so J2 and J3 never race with each other.
//!
//! A green waiter is named by its record, which stays mapped, not by a place on its stack: should
//! it be unwound at shutdown while the end is on its way, the worst is a wake-up of a later wait of its,
//! and each wait here looks at its own condition again.
//!
//! **Evidence.** loom `join::*`; mutant `JoinBlind` (J2 by a plain store) fails.

use super::sync::{AtomicU64, Mutant, Ordering::*, mutant};

const RUNNING: u64 = 0;
const ENDED: u64 = 1;
const DETACHED: u64 = 2;
/// Low bits of a waiter; records and boxes are aligned to 8 at least.
const TAG: u64 = 0b111;
const GREEN: u64 = 3;
const OS: u64 = 4;

/// Who waits, as a word: a record's address, or that of a boxed `std::thread::Thread`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(u64);

/// What the end found.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Nobody waits yet; the handle will find the result.
    Nobody,
    /// Nobody ever will.
    Detached,
    /// To be woken.
    Wake(Waiter),
}

/// J1.
pub(crate) fn end(word: &AtomicU64) -> Ended {
    // ORDERING O1: Release: the result is seen by whoever finds ENDED; Acquire: the waiter's record
    // or box is seen here.
    match word.swap(ENDED, AcqRel) {
        RUNNING => Ended::Nobody,
        DETACHED => Ended::Detached,
        waiter => Ended::Wake(Waiter(waiter)),
    }
}

/// Whether the thread has ended and its result may be taken.
pub(crate) fn has_ended(word: &AtomicU64) -> bool {
    // ORDERING O1: Acquire pairs with the Release in `end`.
    word.load(Acquire) == ENDED
}

/// J2: `false` if the thread has ended.
pub(crate) fn register(word: &AtomicU64, waiter: Waiter) -> bool {
    if mutant(Mutant::JoinBlind) {
        word.store(waiter.0, SeqCst);
        return true;
    }
    // ORDERING O1: Release publishes the waiter, Acquire on failure sees the result.
    word.compare_exchange(RUNNING, waiter.0, AcqRel, Acquire).is_ok()
}

/// Takes a registration back; `false` if the end has taken it already.
pub(crate) fn unregister(word: &AtomicU64, waiter: Waiter) -> bool {
    // ORDERING O1: as `register`.
    word.compare_exchange(waiter.0, RUNNING, AcqRel, Acquire).is_ok()
}

/// J3: whether the thread had ended, so that the result is the caller's.
pub(crate) fn detach(word: &AtomicU64) -> bool {
    // ORDERING O1: Acquire sees the result.
    word.swap(DETACHED, AcqRel) == ENDED
}

#[cfg(not(loom))]
mod waiters {
    use super::*;
    use crate::sched::record::Record;
    use crate::sched::wait::{self, Woken};

    impl Waiter {
        pub(crate) fn green(record: &Record) -> Self {
            Waiter((&raw const *record) as u64 | GREEN)
        }

        pub(crate) fn os(thread: std::thread::Thread) -> Self {
            Waiter(Box::into_raw(Box::new(thread)) as u64 | OS)
        }

        /// Frees an OS waiter that was not woken.
        ///
        /// # Safety
        ///
        /// **C1**: the waiter was never registered, or was taken back.
        pub(crate) unsafe fn discard(self) {
            if self.0 & TAG == OS {
                // SAFETY: C1: nobody else has it; it came from `Box::into_raw`.
                drop(unsafe { Box::from_raw((self.0 & !TAG) as *mut std::thread::Thread) });
            }
        }
    }

    /// Wakes a waiter.
    ///
    /// # Safety
    ///
    /// **C1**: the waiter was taken out of its word by this caller.
    pub(crate) unsafe fn wake(waiter: Waiter) {
        let place = waiter.0 & !TAG;
        if waiter.0 & TAG == GREEN {
            // SAFETY: records stay mapped.
            let record = unsafe { &*(place as *const Record) };
            wake_present_wait(record);
        } else {
            // SAFETY: C1; it came from `Box::into_raw`.
            let thread = unsafe { Box::from_raw(place as *mut std::thread::Thread) };
            thread.unpark();
        }
    }

    /// Ends whatever wait `record` is in.
    pub(crate) fn wake_present_wait(record: &Record) {
        wake_wait(record, wait::number(&record.meta.wait));
    }

    /// Ends wait `number` of `record`; whether this call did.
    pub(crate) fn wake_wait(record: &Record, number: u64) -> bool {
        // From the moment the wait is ended until the thread is queued it is in nobody's hands, so
        // this must not be interrupted.
        let _section = crate::sched::local::Section::new();
        match wait::wake(&record.meta.wait, number) {
            Woken::No => false,
            Woken::InTime => true,
            Woken::Queue => {
                // SAFETY: this call ended the wait of a parked thread: no token of it exists.
                let task = unsafe { record.runnable() };
                record.core().push(task, gvt_traits::PushKind::Wake);
                true
            }
        }
    }
}

#[cfg(not(loom))]
pub(crate) use waiters::{wake, wake_present_wait, wake_wait};

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sched::sync::{check, check_mutant};
    use loom::sync::Arc;

    /// The end against a waiter: either the waiter finds the end, or the end finds the waiter.
    fn end_meets_waiter() {
        loom::model(|| {
            let word = Arc::new(AtomicU64::new(RUNNING));
            let thread = {
                let word = word.clone();
                loom::thread::spawn(move || end(&word))
            };
            let waiter = Waiter(8 | GREEN);
            let registered = register(&word, waiter);
            let ended = thread.join().unwrap();
            assert_eq!(registered, ended == Ended::Wake(waiter), "a waiter nobody wakes");
        });
    }

    /// The end against a dropped handle: exactly one of them drops the result.
    fn one_drops_the_result() {
        loom::model(|| {
            let word = Arc::new(AtomicU64::new(RUNNING));
            let thread = {
                let word = word.clone();
                loom::thread::spawn(move || end(&word) == Ended::Detached)
            };
            let by_handle = detach(&word);
            let by_thread = thread.join().unwrap();
            assert!(by_handle != by_thread);
        });
    }

    #[test]
    fn join_meets() {
        check(end_meets_waiter);
    }

    #[test]
    fn join_drops_once() {
        check(one_drops_the_result);
    }

    #[test]
    fn mutant_join_blind() {
        check_mutant(Mutant::JoinBlind, end_meets_waiter);
    }
}
