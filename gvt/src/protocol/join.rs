//! How a thread's end and its joiner meet.
//!
//! **Hazard.** The waiter checks whether the thread has ended, then registers, then waits; the end may come
//! between any two of these. If the handle is dropped while the thread ends, exactly one of the two must drop
//! the result.
//!
//! **Protocol.** One word: RUNNING, ENDED, DETACHED, or a waiter. **J1** The end exchanges the word for
//! ENDED, unless it is DETACHED: then the thread itself drops the result. If it replaced a waiter, it wakes
//! that. **J2** A waiter registers by compare-exchange from RUNNING; if that fails, the thread has ended.
//! **J3** A dropped handle swaps DETACHED in; if it replaced ENDED, the handle drops the result. There is one
//! handle, so J2 and J3 never race with each other.
//!
//! **Ownership of the record.** Thread and handle share one reference; the last of them, as J1 and J3 decide,
//! drops it. So after a join the thread's slot in the table is free.
//!
//! **A waiter of another runtime** is woken by a thread that does not keep that runtime alive. The waker uses
//! the runtime's queue and idle set even after the waiter can run again. So such a waiter leaves only when
//! **J4** the waker has said that it is done (`joiner::Foreign`).
//!
//! **A green waiter of the same runtime** is named by its index in the table and the number of its wait. If
//! shutdown unwinds it while the end is under way, the end finds that wait over (W3 of `wait`), whatever the
//! waiter, or the next thread in its record, waits for by then. **J5** The word holds the lower 36 bits of
//! the number, and the end compares those. The comparison is wrong only if the waiter begins a multiple of
//! 2^36 waits between the end's exchange and its wake-up: hours of nothing else.
//!
//! A waiter that goes on without having parked (its token was cancelled) leaves that wait armed. A late end
//! moves the wait to NOTIFIED and is told that it came in time, though no worker will commit it. That is
//! harmless: only a thread that has left its stack for a wait is committed, with its latest number; a new
//! wait overwrites the word, whatever its stage; and no caller asks whether its own wake-up ended the wait.
//!
//! **A future's waker** is users' code: it may wait, spawn, take the result, or never return. So **J6** a
//! thread that finds one does not end yet. It takes a reference to its own record, notes that in its outcome
//! (the handle then leaves the thread's own references alone), and then ends by J1. While it calls the waker
//! it is a thread like any other: outside all sections, on its own record, which the handle's end does not
//! free. After the waker has returned it drops its references. So after a join by a future the thread's slot
//! becomes free a little later than the result; if the waker never returns, never.
//!
//! **Rejected** for J6. Calling the waker before ENDED: a poll that comes at once finds nothing and is not
//! woken again. Calling it from a thread of its own: that needs a record and a stack, which may be
//! unavailable. Leaving it to the next thread on the worker, or to the worker loop: a waker that waits would
//! block an unrelated thread.
//!
//! **Evidence.** loom `join::*`; mutants `JoinBlind` (J2 by a plain store) and `JoinAnyWait` (J5 without the
//! number) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU64, Mutant, mutant};

const RUNNING: u64 = 0;
const ENDED: u64 = 1;
const DETACHED: u64 = 2;
/// Low bits of a waiter; boxes are aligned to 8 at least.
pub(crate) const TAG: u64 = 0b111;
pub(crate) const GREEN: u64 = 3;
pub(crate) const OS: u64 = 4;
#[cfg(not(loom))]
pub(crate) const FOREIGN: u64 = 5;
/// A boxed waker of a future.
pub(crate) const TASK: u64 = 6;

/// A waiter as a word: a green thread's wait, or the address of another kind of waker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(pub(crate) u64);

/// J5: the shift of the record's index in a green waiter's word; the number of its wait is above it.
const PLACE_SHIFT: u32 = 3;
const NUMBER_SHIFT: u32 = PLACE_SHIFT + 25;
pub(crate) const PLACE_MASK: u64 = (1 << (NUMBER_SHIFT - PLACE_SHIFT)) - 1;
const NUMBER_MASK: u64 = u64::MAX >> NUMBER_SHIFT;

impl Waiter {
    /// Names wait `number` of the thread whose record is at index `place`.
    pub(crate) fn named(place: u32, number: u64) -> Self {
        Waiter(number << NUMBER_SHIFT | u64::from(place) << PLACE_SHIFT | GREEN)
    }

    pub(crate) fn place(self) -> u32 {
        (self.0 >> PLACE_SHIFT & PLACE_MASK) as u32
    }

    /// The number of the wait that this names, if it is the thread's present one.
    pub(crate) fn number(self, present: u64) -> Option<u64> {
        let names_it = present & NUMBER_MASK == self.0 >> NUMBER_SHIFT;
        (names_it || mutant(Mutant::JoinAnyWait)).then_some(present)
    }
}

/// What the end found.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// There is no waiter yet; the handle will find the result.
    Nobody,
    /// There will never be a waiter.
    Detached,
    /// The waiter to wake.
    Wake(Waiter),
    /// A future waits, and the thread has not prepared for that: it has not ended (J6).
    Unprepared,
}

/// Whether a thread is prepared to find a future's waker at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prepared {
    /// J6 comes first.
    No,
    /// It holds a reference to its record, or has none.
    Yes,
}

/// J1. Unless it answers `Detached` or `Unprepared`, the caller gives up the thread's record.
pub(crate) fn end(word: &AtomicU64, prepared: Prepared) -> Ended {
    // ORDERING O1: Acquire: what the thread that dropped the handle did before is seen.
    let mut seen = word.load(Acquire);
    loop {
        if seen == DETACHED {
            return Ended::Detached;
        }
        if seen & TAG == TASK && prepared == Prepared::No {
            return Ended::Unprepared;
        }
        // ORDERING O1: Release: a reader of ENDED sees the result; Acquire: the waiter's record or box is
        // seen here.
        match word.compare_exchange_weak(seen, ENDED, AcqRel, Acquire) {
            Ok(RUNNING) => return Ended::Nobody,
            Ok(waiter) => return Ended::Wake(Waiter(waiter)),
            Err(now) => seen = now,
        }
    }
}

/// Whether the handle is gone, so that the thread owns the result.
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

/// Takes a registration back; `false` if the end has already taken it.
pub(crate) fn unregister(word: &AtomicU64, waiter: Waiter) -> bool {
    // ORDERING O1: as `register`.
    word.compare_exchange(waiter.0, RUNNING, AcqRel, Acquire).is_ok()
}

/// J3: whether the thread had ended, so that the caller owns the result.
pub(crate) fn detach(word: &AtomicU64) -> bool {
    // ORDERING O1: Acquire sees the result.
    word.swap(DETACHED, AcqRel) == ENDED
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use crate::protocol::wait;
    use loom::sync::Arc;

    /// The end against a waiter: either the waiter finds the end, or the end finds the waiter.
    fn end_meets_waiter() {
        loom::model(|| {
            let word = Arc::new(AtomicU64::new(RUNNING));
            let thread = {
                let word = word.clone();
                loom::thread::spawn(move || end(&word, Prepared::No))
            };
            let waiter = Waiter::named(1, 1);
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
                loom::thread::spawn(move || end(&word, Prepared::No) == Ended::Detached)
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

    /// A waiter is unwound while the end is under way: the end does not end the next wait in its record.
    fn late_end_misses_the_next_wait() {
        loom::model(|| {
            let words = Arc::new((AtomicU64::new(RUNNING), AtomicU64::new(0)));
            let waiter = Waiter::named(7, wait::prepare(&words.1));
            assert!(register(&words.0, waiter));
            let ending = {
                let words = words.clone();
                loom::thread::spawn(move || {
                    if let Ended::Wake(waiter) = end(&words.0, Prepared::No)
                        && let Some(number) = waiter.number(wait::number(&words.1))
                    {
                        wait::wake(&words.1, number);
                    }
                })
            };
            // Shutdown ends the wait, unless the end was faster; the thread unwinds, and another thread gets
            // its record.
            wait::wake(&words.1, 1);
            unregister(&words.0, waiter);
            wait::prepare(&words.1);
            assert_eq!(
                wait::commit(&words.1),
                wait::Committed::Parked,
                "ended by a thread that is not waited for"
            );
            ending.join().unwrap();
            assert!(wait::is_parked(&words.1), "ended by a thread that is not waited for");
        });
    }

    /// A waiter goes on without having parked while the end is under way: it is not queued, and the end
    /// leaves its next wait alone.
    fn late_end_of_an_abandoned_wait() {
        loom::model(|| {
            let words = Arc::new((AtomicU64::new(RUNNING), AtomicU64::new(0)));
            let waiter = Waiter::named(7, wait::prepare(&words.1));
            assert!(register(&words.0, waiter));
            let ending = {
                let words = words.clone();
                loom::thread::spawn(move || {
                    if let Ended::Wake(waiter) = end(&words.0, Prepared::No)
                        && let Some(number) = waiter.number(wait::number(&words.1))
                    {
                        assert_ne!(wait::wake(&words.1, number), wait::Woken::Queue, "it runs");
                    }
                })
            };
            unregister(&words.0, waiter);
            ending.join().unwrap();
            wait::prepare(&words.1);
            assert_eq!(wait::commit(&words.1), wait::Committed::Parked, "ended by what it waited for before");
        });
    }

    #[test]
    fn join_leaves_abandoned_waits() {
        check(late_end_of_an_abandoned_wait);
    }

    #[test]
    fn join_names_one_wait() {
        check(late_end_misses_the_next_wait);
    }

    #[test]
    fn mutant_join_any_wait() {
        check_mutant(Mutant::JoinAnyWait, late_end_misses_the_next_wait);
    }

    #[test]
    fn mutant_join_blind() {
        check_mutant(Mutant::JoinBlind, end_meets_waiter);
    }
}
