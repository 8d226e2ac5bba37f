//! How a thread's end and the one who waits for it meet.
//!
//! **Hazard.** The waiter looks whether the thread has ended, then registers, then waits; the end
//! may come between any two of these. The handle may be dropped while the thread ends, and then
//! exactly one of the two must drop the result.
//!
//! **Protocol.** One word: RUNNING, ENDED, DETACHED, or a waiter. **J1** The end exchanges what it sees for
//! ENDED, unless that is DETACHED: then the result is dropped by the thread itself. If it replaced a waiter,
//! that is woken. **J2** A waiter registers by compare-exchange from RUNNING; if that fails, the thread
//! has ended. **J3** A dropped handle swaps DETACHED in; if it replaced ENDED, the result is dropped by the
//! handle. There is one handle, so J2 and J3 never race with each other.
//!
//! **Who keeps the record.** Thread and handle share one reference; the last of them, as J1 and J3 decide, lets
//! go of it. So who has joined a thread knows that its place is free.
//!
//! **A waiter of another runtime** is woken by a thread that does not keep that runtime. The waker uses the runtime's queue and idle set,
//! also after the waiter can run again; so such a waiter leaves only when **J4** the waker has said that it is done ([`Foreign`]).
//!
//! A green waiter of the same runtime is named by its record, which stays mapped, not by a place on its stack: should
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
#[cfg(not(loom))]
const FOREIGN: u64 = 5;
/// A boxed waker of a future.
#[cfg(not(loom))]
const TASK: u64 = 6;

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

/// J1. Unless it answers `Detached`, the thread's record is no longer its own.
pub(crate) fn end(word: &AtomicU64) -> Ended {
    // ORDERING O1: Acquire: what the dropper of the handle did before is seen.
    let mut seen = word.load(Acquire);
    loop {
        if seen == DETACHED {
            return Ended::Detached;
        }
        // ORDERING O1: Release: the result is seen by whoever finds ENDED; Acquire: the waiter's record
        // or box is seen here.
        match word.compare_exchange_weak(seen, ENDED, AcqRel, Acquire) {
            Ok(RUNNING) => return Ended::Nobody,
            Ok(waiter) => return Ended::Wake(Waiter(waiter)),
            Err(now) => seen = now,
        }
    }
}

/// Whether the handle is gone, so that the result is the thread's.
pub(crate) fn is_detached(word: &AtomicU64) -> bool {
    // ORDERING O1: as in `end`.
    word.load(Acquire) == DETACHED
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use gvt_traits::PushKind;

    use crate::sched::record::Record;
    use crate::sched::wait::{self, Woken};

    /// A green waiter of another runtime: which wait, and J4.
    pub(crate) struct Foreign {
        record: *const Record,
        number: u64,
        done: AtomicBool,
    }

    // SAFETY: records are `Sync`, and this one's owner waits for `done` before it leaves.
    unsafe impl Send for Foreign {}
    // SAFETY: as above.
    unsafe impl Sync for Foreign {}

    impl Foreign {
        /// Names the running thread's present wait.
        pub(crate) fn new(record: &Record) -> Arc<Self> {
            let number = wait::number(&record.meta.wait);
            Arc::new(Foreign { record, number, done: AtomicBool::new(false) })
        }

        /// J4, the waiter's side.
        pub(crate) fn wait_until_done(&self) {
            // ORDERING O2: Acquire pairs with the Release in `wake`.
            while !self.done.load(Acquire) {
                std::thread::yield_now();
            }
        }
    }

    impl Waiter {
        pub(crate) fn foreign(foreign: &Arc<Foreign>) -> Self {
            Waiter(Arc::into_raw(foreign.clone()) as u64 | FOREIGN)
        }

        pub(crate) fn green(record: &Record) -> Self {
            Waiter((&raw const *record) as u64 | GREEN)
        }

        pub(crate) fn os(thread: std::thread::Thread) -> Self {
            Waiter(Box::into_raw(Box::new(thread)) as u64 | OS)
        }

        pub(crate) fn task(waker: std::task::Waker) -> Self {
            Waiter(Box::into_raw(Box::new(waker)) as u64 | TASK)
        }

        /// Frees a waiter that was not woken, if it is one that owns something.
        ///
        /// # Safety
        ///
        /// **C1**: the waiter was never registered, or was taken back.
        pub(crate) unsafe fn discard(self) {
            if self.0 & TAG == OS {
                // SAFETY: C1: nobody else has it; it came from `Box::into_raw`.
                drop(unsafe { Box::from_raw((self.0 & !TAG) as *mut std::thread::Thread) });
            } else if self.0 & TAG == FOREIGN {
                // SAFETY: C1; it came from `Arc::into_raw`.
                drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const Foreign) });
            } else if self.0 & TAG == TASK {
                // SAFETY: C1; it came from `Box::into_raw`.
                drop(unsafe { Box::from_raw((self.0 & !TAG) as *mut std::task::Waker) });
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
        } else if waiter.0 & TAG == FOREIGN {
            // SAFETY: C1; it came from `Arc::into_raw`.
            let foreign = unsafe { Arc::from_raw(place as *const Foreign) };
            // SAFETY: its owner waits for `done`.
            wake_wait(unsafe { &*foreign.record }, foreign.number, PushKind::Wake);
            // ORDERING O2: Release pairs with the Acquire in `wait_until_done`: the last use of the runtime.
            foreign.done.store(true, Release);
        } else if waiter.0 & TAG == TASK {
            // SAFETY: C1; it came from `Box::into_raw`.
            let waker = unsafe { Box::from_raw(place as *mut std::task::Waker) };
            // Somebody else's code; it has nobody to panic to here.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
        } else {
            // SAFETY: C1; it came from `Box::into_raw`.
            let thread = unsafe { Box::from_raw(place as *mut std::thread::Thread) };
            thread.unpark();
        }
    }

    /// Ends whatever wait `record` is in.
    fn wake_present_wait(record: &Record) {
        wake_wait(record, wait::number(&record.meta.wait), PushKind::Joined);
    }

    /// Ends wait `number` of `record`; whether this call did.
    pub(crate) fn wake_wait(record: &Record, number: u64, kind: PushKind) -> bool {
        // From the moment the wait is ended until the thread is queued it is in nobody's hands, so
        // this must not be interrupted.
        let _section = crate::sched::local::Section::new();
        match wait::wake(&record.meta.wait, number) {
            Woken::No => false,
            Woken::InTime => true,
            Woken::Queue => {
                // SAFETY: this call ended the wait of a parked thread: no token of it exists.
                let task = unsafe { record.runnable() };
                record.core().push(task, kind);
                true
            }
        }
    }
}

#[cfg(not(loom))]
pub(crate) use waiters::{Foreign, wake, wake_wait};

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
