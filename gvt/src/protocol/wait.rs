//! One wait of one thread: how a park and its wake-up meet exactly once.
//!
//! **Hazard.** A thread that is about to park makes itself known to wakers (in a wait list, in a timer)
//! before it has left its stack. A waker on another worker may come at once. If it queued the thread then, a
//! second worker would load registers that are not saved yet. If it did nothing, the wake-up would be lost.
//! And a waker may come late, when the thread waits for something else, or when another thread lives in its
//! record.
//!
//! **Protocol.** The word holds the number of the thread's present wait and its stage.
//!
//! ```text
//!             owner: prepare (number + 1)
//!   NOTIFIED ────────────────────────────► ARMED
//!      ▲ ▲                                 │  │
//!      │ └──── waker: wake ────────────────┘  │ what runs next on the worker:
//!      │                                      ▼ commit, after the registers are saved
//!      └────── waker: wake, and queue it ── PARKED
//! ```
//!
//! - **W1** The owner draws a number and arms the word, then publishes the ticket (a lock or a
//!   compare-exchange orders that), then leaves its stack.
//! - **W2** What runs next on that worker commits: ARMED to PARKED. If that fails the wake-up has come
//!   already, and the committer queues the thread.
//! - **W3** A waker names the number. It moves ARMED or PARKED of *that* number to NOTIFIED, by
//!   compare-exchange; if it finds PARKED, it queues the thread. In any other case the wake-up is not needed.
//! - So exactly one waker of a wait gets `true`, and the thread is queued exactly once. Numbers only grow,
//!   also over the reuse of the record: a stale ticket fails.
//!
//! **Rejected.** A permit as in `std::thread::park`: a stale wake-up leaves a permit that a later wait finds,
//! so each wait needs a loop *and* a read-modify-write on resumption, because the store that takes the permit
//! could overwrite a new one. Two flags: two compare-exchanges a wait instead of one.
//!
//! **Evidence.** loom `wait::*`; mutants `CommitBlind` (W2 by a plain store) and `WakeAnyNumber` (W3
//! without the number) fail them.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU64, Mutant, mutant};

const STAGE: u64 = 0b11;
const ARMED: u64 = 1;
const PARKED: u64 = 2;
const NOTIFIED: u64 = 3;

/// What a successful wake has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Another waker has ended this wait, or it is over: nothing.
    No,
    /// The thread has not left its stack: the committer will queue it.
    InTime,
    /// The thread is parked and this caller must queue it.
    Queue,
}

/// What a commit found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Committed {
    /// The thread is parked; its waker will queue it.
    Parked,
    /// The wake-up came first: the committer must queue it.
    Queue,
}

/// The owner's first step (W1); returns the wait's number.
#[inline]
pub(crate) fn prepare(word: &AtomicU64) -> u64 {
    // Relaxed: only the owner changes the number, and wakers learn it through the lock or the
    // compare-exchange that publishes the ticket.
    let number = (word.load(Relaxed) >> 2) + 1;
    // ORDERING O3: Release pairs with the Acquire in `is_pending`: a thread that sees the number sees that
    // the last wait's deadline is over.
    word.store(number << 2 | ARMED, Release);
    number
}

/// Whether the wait has already ended; the owner asks, to save the switch.
#[inline]
pub(crate) fn is_notified(word: &AtomicU64) -> bool {
    // ORDERING O1: Acquire pairs with the Release in `wake`, so that what the waker did is seen.
    word.load(Acquire) & STAGE == NOTIFIED
}

/// The step after the owner's registers are saved (W2).
#[inline]
pub(crate) fn commit(word: &AtomicU64) -> Committed {
    // Relaxed: the number belongs to the owner, which has just left on this OS thread; the stage is checked
    // below.
    let number = word.load(Relaxed) >> 2;
    if mutant(Mutant::CommitBlind) {
        word.store(number << 2 | PARKED, SeqCst);
        return Committed::Parked;
    }
    // ORDERING O2: Release pairs with the Acquire in `wake`: a waker that sees PARKED sees the
    // saved registers. O1 on failure.
    match word.compare_exchange(number << 2 | ARMED, number << 2 | PARKED, Release, Acquire) {
        Ok(_) => Committed::Parked,
        Err(_) => Committed::Queue,
    }
}

/// A waker's step (W3).
#[inline]
pub(crate) fn wake(word: &AtomicU64, number: u64) -> Woken {
    let mut seen = word.load(Relaxed);
    loop {
        if seen >> 2 != number && !mutant(Mutant::WakeAnyNumber) {
            return Woken::No;
        }
        let stage = seen & STAGE;
        if stage != ARMED && stage != PARKED {
            return Woken::No;
        }
        // ORDERING O1: Release: the owner sees what the waker did before. O2: Acquire: the thread that runs
        // it sees the saved registers.
        match word.compare_exchange_weak(seen, seen | NOTIFIED, AcqRel, Relaxed) {
            Ok(_) if stage == PARKED => return Woken::Queue,
            Ok(_) => return Woken::InTime,
            Err(now) => seen = now,
        }
    }
}

/// The number of the present wait, whatever its stage.
#[inline]
pub(crate) fn number(word: &AtomicU64) -> u64 {
    // Relaxed: a hint; `wake` checks it.
    word.load(Relaxed) >> 2
}

/// Whether wait `number` is the present one and has not ended.
#[inline]
pub(crate) fn is_pending(word: &AtomicU64, number: u64) -> bool {
    // ORDERING O3: Acquire pairs with the Release in `prepare`.
    let seen = word.load(Acquire);
    seen >> 2 == number && seen & STAGE != NOTIFIED
}

/// Whether the thread is parked (committed) in its present wait.
pub(crate) fn is_parked(word: &AtomicU64) -> bool {
    // Relaxed: a gauge; `wake` decides.
    word.load(Relaxed) & STAGE == PARKED
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;

    /// The owner parks once while two wakers hold its ticket: it is queued exactly once, with its
    /// registers saved.
    fn one_wait_two_wakers() {
        loom::model(|| {
            let word = Arc::new(AtomicU64::new(0));
            let registers = Arc::new(AtomicUsize::new(0));
            let queued = Arc::new(AtomicUsize::new(0));
            let number = prepare(&word);
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let (word, registers, queued) = (word.clone(), registers.clone(), queued.clone());
                    loom::thread::spawn(move || {
                        let woken = wake(&word, number);
                        if woken == Woken::Queue {
                            assert_eq!(registers.load(Relaxed), 1, "queued before its registers were saved");
                            queued.fetch_add(1, Relaxed);
                        }
                        woken != Woken::No
                    })
                })
                .collect();
            registers.store(1, Relaxed);
            if commit(&word) == Committed::Queue {
                queued.fetch_add(1, Relaxed);
            }
            let won = wakers.into_iter().map(|w| w.join().unwrap()).filter(|won| *won).count();
            assert_eq!(won, 1, "exactly one waker ends a wait");
            assert_eq!(queued.load(Relaxed), 1, "queued exactly once");
        });
    }

    /// A waker of an earlier wait comes late and must not end the present one.
    fn stale_ticket() {
        loom::model(|| {
            let word = Arc::new(AtomicU64::new(0));
            let first = prepare(&word);
            assert_eq!(wake(&word, first), Woken::InTime);
            prepare(&word);
            let late = {
                let word = word.clone();
                loom::thread::spawn(move || wake(&word, first))
            };
            assert_eq!(commit(&word), Committed::Parked, "ended by a stale ticket");
            assert_eq!(late.join().unwrap(), Woken::No);
        });
    }

    #[test]
    fn wait_is_ended_once() {
        check(one_wait_two_wakers);
    }

    #[test]
    fn wait_ignores_stale_tickets() {
        check(stale_ticket);
    }

    #[test]
    fn mutant_commit_blind() {
        check_mutant(Mutant::CommitBlind, one_wait_two_wakers);
    }

    #[test]
    fn mutant_wake_any_number() {
        check_mutant(Mutant::WakeAnyNumber, stale_ticket);
    }
}
