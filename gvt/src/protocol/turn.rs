//! How a preempted thread waits on the OS thread that it keeps, or was given.
//!
//! It waits for a worker. The monitor may let it run *free* instead, without one (`lock_holders`).
//!
//! **Hazard: confined while it runs.** The monitor frees the thread while a worker is on its way to it: the
//! giver would confine a running OS thread to its own CPU (`wake_affine`).
//!
//! **Hazard: freedom without a wait.** The monitor decides without a lock, and its decision may come late,
//! when the thread has its worker. If the thread counted as free from then on and gave that worker away
//! again, in `blocking`, the next interrupt would make it wait for a worker that will not come: its
//! `Runnable` is not queued.
//!
//! **Protocol.** One word. **V1** A preempted thread stores WAITS before its `Runnable` can be queued. **V2**
//! The monitor changes WAITS to FREE. **V3** A giver changes WAITS to GIVEN; it confines the OS thread unless
//! it finds FREE. **V4** A free thread that is interrupted, or enters the runtime, changes FREE to WAITS.
//! **V5** A thread that has taken its worker stores AWAY; only V1 leaves that state. So V2 and V3 exclude
//! each other, and no freedom outlives its wait.
//!
//! An OS thread that waits for a worker without V1 (a spare, or one whose thread waits while it unwinds) is
//! AWAY and never freed.
//!
//! **Ordering.** AcqRel: what a free thread did comes before what a giver does that finds it waiting again.
//! H2 and H3 of `os_thread` order the worker itself.
//!
//! **Evidence.** loom `turn_has_one_winner`; mutants `GiveBlind` (V3 without looking) and `FreedomStays` (V5
//! stores WAITS) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, Mutant, mutant};

const AWAY: u32 = 0;
const WAITS: u32 = 1;
/// It runs, or will run, without a worker.
const FREE: u32 = 2;
/// A worker is on its way to it.
const GIVEN: u32 = 3;

pub(crate) struct Turn {
    word: AtomicU32,
}

/// What a giver may do with the receiver's OS thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiver {
    /// It does not run before it has the worker.
    Sleeps,
    Free,
}

impl Turn {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Turn { word: AtomicU32::new(AWAY) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Turn { word: AtomicU32::new(AWAY) }
    }

    /// V1. Async-signal-safe, like every function here.
    pub(crate) fn begin(&self) {
        // Relaxed: the queueing of the thread orders it before V2 and V3.
        self.word.store(WAITS, Relaxed);
    }

    /// V2; `false` if the thread is already free or no longer waits.
    pub(crate) fn set_free(&self) -> bool {
        self.change(WAITS, FREE).is_ok()
    }

    /// Whether it runs, or will run, without a worker.
    pub(crate) fn is_free(&self) -> bool {
        // Relaxed: V4 decides.
        self.word.load(Relaxed) == FREE
    }

    /// V3.
    pub(crate) fn give(&self) -> Receiver {
        match self.change(WAITS, GIVEN) {
            Err(FREE) if !mutant(Mutant::GiveBlind) => Receiver::Free,
            _ => Receiver::Sleeps,
        }
    }

    /// V4; whether the thread was free.
    pub(crate) fn end_freedom(&self) -> bool {
        self.change(FREE, WAITS).is_ok()
    }

    /// V5.
    pub(crate) fn end(&self) {
        // Relaxed: the thread's own next V1 comes after it.
        self.word.store(if mutant(Mutant::FreedomStays) { WAITS } else { AWAY }, Relaxed);
    }

    fn change(&self, from: u32, to: u32) -> Result<u32, u32> {
        // ORDERING: each of V2, V3, V4 pairs with the one whose value it finds.
        self.word.compare_exchange(from, to, AcqRel, Relaxed)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;
    use loom::thread::spawn;

    struct World {
        turn: Turn,
        inbox: AtomicU32,
        /// The thread runs free.
        runs: AtomicU32,
    }

    impl World {
        /// A thread without a worker does this each time that it is woken: takes its worker, or runs free
        /// until it is interrupted.
        fn look(&self) -> bool {
            let taken = self.inbox.swap(0, AcqRel) == 1;
            if taken {
                self.turn.end();
            } else if self.turn.is_free() {
                self.runs.store(1, Release);
                self.runs.store(0, Release);
                self.turn.end_freedom();
            }
            taken
        }
    }

    /// A preempted thread, the monitor that frees it, and a worker that is passed to it.
    fn turn_has_one_winner() {
        loom::model(|| {
            let world =
                Arc::new(World { turn: Turn::new(), inbox: AtomicU32::new(0), runs: AtomicU32::new(0) });
            let monitor = world.clone();
            let monitor = spawn(move || monitor.turn.set_free());
            world.turn.begin();
            let giver = world.clone();
            let giver = spawn(move || {
                if giver.turn.give() == Receiver::Sleeps {
                    assert_eq!(giver.runs.load(Acquire), 0, "confined while it runs");
                }
                giver.inbox.swap(1, AcqRel);
            });
            let has_worker = world.look() || world.look();
            giver.join().unwrap();
            assert!(has_worker || world.look());
            // It gives its worker away and is interrupted, at once and later.
            assert!(!world.turn.end_freedom(), "it would wait for nobody");
            monitor.join().unwrap();
            assert!(!world.turn.end_freedom(), "it would wait for nobody");
        });
    }

    #[test]
    fn a_turn_has_one_winner() {
        check(turn_has_one_winner);
    }

    #[test]
    fn mutant_give_blind() {
        check_mutant(Mutant::GiveBlind, turn_has_one_winner);
    }

    #[test]
    fn mutant_freedom_stays() {
        check_mutant(Mutant::FreedomStays, turn_has_one_winner);
    }
}
