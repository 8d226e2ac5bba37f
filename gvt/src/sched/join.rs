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
//! **A green waiter of the same runtime** is named by its place in the table and the number of its wait. Should it be unwound at
//! shutdown while the end is on its way, the end finds that wait over (W3 of `wait`), whatever the waiter, or the next thread in
//! its record, waits for by then. **J5** The word has the lower 36 bits of the number; the end compares those. It would err if
//! the waiter began a multiple of 2^36 waits, some hours of nothing else, between the end's exchange and its wake-up.
//!
//! A waiter that goes on without having parked (its token was cancelled) leaves that wait armed. A late end moves it to NOTIFIED and is told
//! that it came in time, though nobody is there to commit. That is harmless: only who has left its stack for a wait is committed, with the wait
//! that it drew last; a new draw overwrites the word, whatever its stage; and no caller asks whether its wake-up was the one that counted.
//!
//! **A future's waker** is users' code: it may wait, spawn, take the result, never return. So **J6** a thread that finds one does
//! not end yet. It takes a reference to its own record, says so in its outcome (the handle then leaves the thread's own
//! references alone), and then ends by J1. It is a thread like any other while it calls the waker: outside all sections, on its own
//! record, which the handle's end no longer frees. After the waker has returned it lets go of its references. So who has
//! joined by a future finds the thread's place free a little later than the result; if the waker never returns, never.
//!
//! **Rejected** for J6. Calling the waker before ENDED: a poll that comes at once finds nothing, and nothing wakes it again. Calling
//! it from a thread of its own: that needs a record and a stack, which may not be had. Leaving it to the next
//! thread on the worker, or to the scheduler's loop: a waker that waits would hold up a stranger.
//!
//! **Evidence.** loom `join::*`; mutants `JoinBlind` (J2 by a plain store) and `JoinAnyWait` (J5 without the number) fail.

use super::sync::{AtomicU64, Mutant, Ordering::*, mutant};

const RUNNING: u64 = 0;
const ENDED: u64 = 1;
const DETACHED: u64 = 2;
/// Low bits of a waiter; boxes are aligned to 8 at least.
const TAG: u64 = 0b111;
const GREEN: u64 = 3;
const OS: u64 = 4;
#[cfg(not(loom))]
const FOREIGN: u64 = 5;
/// A boxed waker of a future.
const TASK: u64 = 6;

/// Who waits, as a word: a green thread's wait, or the address of what wakes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(u64);

/// J5: where in a green waiter's word its record's place is; above it is the number of its wait.
const PLACE_SHIFT: u32 = 3;
const NUMBER_SHIFT: u32 = PLACE_SHIFT + 25;
const PLACE_MASK: u64 = (1 << (NUMBER_SHIFT - PLACE_SHIFT)) - 1;
const NUMBER_MASK: u64 = u64::MAX >> NUMBER_SHIFT;

impl Waiter {
    /// Names wait `number` of the thread whose record is at `place`.
    fn named(place: u32, number: u64) -> Self {
        Waiter(number << NUMBER_SHIFT | u64::from(place) << PLACE_SHIFT | GREEN)
    }

    fn place(self) -> u32 {
        (self.0 >> PLACE_SHIFT & PLACE_MASK) as u32
    }

    /// The number of the wait that it names, if that is the thread's present one.
    fn number(self, present: u64) -> Option<u64> {
        let names_it = present & NUMBER_MASK == self.0 >> NUMBER_SHIFT;
        (names_it || mutant(Mutant::JoinAnyWait)).then_some(present)
    }
}

/// What the end found.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Nobody waits yet; the handle will find the result.
    Nobody,
    /// Nobody ever will.
    Detached,
    /// To be woken.
    Wake(Waiter),
    /// A future waits, and the thread has not prepared for that: it has not ended.
    Unprepared,
}

/// Whether a thread may find a future's waker at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prepared {
    /// J6 comes first.
    No,
    /// It keeps its record, or has none.
    Yes,
}

/// J1. Unless it answers `Detached` or `Unprepared`, the thread's record is no longer its own.
pub(crate) fn end(word: &AtomicU64, prepared: Prepared) -> Ended {
    // ORDERING O1: Acquire: what the dropper of the handle did before is seen.
    let mut seen = word.load(Acquire);
    loop {
        if seen == DETACHED {
            return Ended::Detached;
        }
        if seen & TAG == TASK && prepared == Prepared::No {
            return Ended::Unprepared;
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

    use gvt_traits::{GvtId, PushKind, Runnable};

    use crate::sched::core::CoreBase;
    use crate::sched::record::Record;
    use crate::sched::wait::{self, Woken};
    use crate::sync::OsFlag;
    use crate::user;

    const _: () =
        assert!(crate::config::MOST_GVTHREADS as u64 * 2 <= PLACE_MASK + 1, "places fit, caches included");

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

        /// Names the running thread's present wait (J5).
        pub(crate) fn green(record: &Record) -> Self {
            Waiter::named(record.meta.id().index(), wait::number(&record.meta.wait))
        }

        /// An OS thread that sleeps on a flag. Shared, since the waker may come late.
        pub(crate) fn os(flag: &Arc<OsFlag>) -> Self {
            Waiter(Arc::into_raw(flag.clone()) as u64 | OS)
        }

        pub(crate) fn task(waker: user::Waker) -> Self {
            Waiter(Box::into_raw(Box::new(waker)) as u64 | TASK)
        }

        /// Whether its waker is users' code (J6).
        pub(crate) fn is_task(self) -> bool {
            self.0 & TAG == TASK
        }

        /// Whether it is a green thread of the same runtime (J5).
        #[inline]
        pub(crate) fn is_green(self) -> bool {
            self.0 & TAG == GREEN
        }

        /// Frees a waiter that was not woken, if it is one that owns something.
        ///
        /// # Safety
        ///
        /// **C1**: the waiter was never registered, or was taken back.
        pub(crate) unsafe fn discard(self) {
            if self.0 & TAG == OS {
                // SAFETY: C1: nobody else has it; it came from `Arc::into_raw`.
                drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const OsFlag) });
            } else if self.0 & TAG == FOREIGN {
                // SAFETY: C1; it came from `Arc::into_raw`.
                drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const Foreign) });
            } else if self.0 & TAG == TASK {
                // SAFETY: C1; it came from `Box::into_raw`.
                drop(unsafe { Box::from_raw((self.0 & !TAG) as *mut user::Waker) });
            }
        }
    }

    /// Wakes a waiter; `core` is that of a green one of the same runtime.
    ///
    /// Context: a future's waker is users' code (`user`).
    ///
    /// # Safety
    ///
    /// **C1**: the waiter was taken out of its word by this caller.
    pub(crate) unsafe fn wake(waiter: Waiter, core: &CoreBase) {
        let place = waiter.0 & !TAG;
        if waiter.0 & TAG == GREEN {
            wake_named(waiter, core);
        } else if waiter.0 & TAG == FOREIGN {
            // SAFETY: C1; it came from `Arc::into_raw`.
            let foreign = unsafe { Arc::from_raw(place as *const Foreign) };
            // SAFETY: its owner waits for `done`.
            wake_wait(unsafe { &*foreign.record }, foreign.number, PushKind::Wake);
            // ORDERING O2: Release pairs with the Acquire in `wait_until_done`: the last use of the runtime.
            foreign.done.store(true, Release);
        } else if waiter.0 & TAG == TASK {
            // SAFETY: C1; it came from `Box::into_raw`.
            let waker = unsafe { Box::from_raw(place as *mut user::Waker) };
            waker.wake();
        } else {
            // SAFETY: C1; it came from `Arc::into_raw`.
            let flag = unsafe { Arc::from_raw(place as *const OsFlag) };
            // SAFETY: C1 of `fire`: kept until after.
            unsafe { flag.waker().fire() };
        }
    }

    /// J5: ends the wait that a green waiter's word names, unless it is over; the waiter, if the caller is to queue it.
    ///
    /// Context: inside the runtime, until the waiter is queued; `waiter` [is green](Waiter::is_green), of `core`.
    #[inline]
    pub(crate) fn end_named(waiter: Waiter, core: &CoreBase) -> Option<Runnable> {
        let record = core.table.get(GvtId::new(waiter.place()));
        // At least the number that the word names: the exchange that took the word orders W1 of `wait` before this.
        let number = waiter.number(wait::number(&record.meta.wait))?;
        // SAFETY: this call ended the wait of a parked thread: no token of it exists.
        (wait::wake(&record.meta.wait, number) == Woken::Queue).then(|| unsafe { record.runnable() })
    }

    /// [`end_named`], from anywhere.
    fn wake_named(waiter: Waiter, core: &CoreBase) {
        // As in `wake_wait`.
        let _section = crate::sched::local::Section::new();
        if let Some(task) = end_named(waiter, core) {
            core.push(task, PushKind::Joined);
        }
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
pub(crate) use waiters::{Foreign, end_named, wake, wake_wait};

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sched::sync::{check, check_mutant};
    use crate::sched::wait;
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

    /// A waiter is unwound while the end is on its way: the end does not end the next wait in its record.
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
            // The shutdown ends the wait, unless the end was faster; the thread unwinds, and its place is another's.
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

    /// A waiter goes on without having parked, while the end is on its way: nobody queues it, and its next wait is its own.
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
