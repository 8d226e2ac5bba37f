//! Ending any wait of a thread: the words of `cancel::run`.
//!
//! **Hazard** and **Protocol**: U3 to U5 and U7 there. The canceller's fence is K5 of `cancel::cancelled`.
//!
//! **Evidence.** loom `reach::*`; mutants `ReachUnfenced` (no U3), `ReachUnseen` (no U4), `ReachUnlocked` (U5
//! after the lock) fail.

use crate::protocol::atomics::{Mutant, mutant};
use crate::wait::lock::Lock;

/// The thread whose waits must end, as long as they must.
pub(crate) struct Reach<T>(Lock<Option<T>>);

impl<T> Reach<T> {
    pub(crate) fn new(thread: T) -> Self {
        Reach(Lock::new(Some(thread)))
    }

    /// U5: `end` ends the thread's present wait.
    pub(crate) fn end(&self, end: impl FnOnce(&T)) {
        let mut thread = self.0.lock();
        let Some(present) = thread.as_ref() else { return };
        if mutant(Mutant::ReachUnlocked) {
            let was_there = thread.take();
            drop(thread);
            if let Some(thread) = was_there {
                end(&thread);
            }
            return;
        }
        end(present);
    }

    /// U7: no later wait is ended.
    pub(crate) fn close(&self) -> Option<T> {
        self.0.lock().take()
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{
        AtomicBool, AtomicU32, AtomicU64, Ordering::*, check, check_mutant, fence,
    };
    use crate::protocol::pending::is_pending;
    use crate::protocol::wait::{self, Committed};
    use loom::sync::Arc;

    struct World {
        reach: Reach<()>,
        wait: AtomicU64,
        is_cancelled: AtomicBool,
        steps: AtomicU32,
    }

    impl World {
        /// Lets loom try the next step before and after each of the other's steps, as in `settle`. Orders
        /// nothing.
        fn step(&self) {
            self.steps.fetch_add(1, Relaxed);
        }
    }

    /// Another thread cancels; this thread waits.
    fn cancelled() -> (Arc<World>, loom::thread::JoinHandle<()>) {
        let world = Arc::new(World {
            reach: Reach::new(()),
            wait: AtomicU64::new(0),
            is_cancelled: AtomicBool::new(false),
            steps: AtomicU32::new(0),
        });
        let canceller = {
            let world = world.clone();
            loom::thread::spawn(move || {
                // K4, K5, and then K6 finds the waiter.
                world.is_cancelled.store(true, Release);
                fence(SeqCst);
                world.reach.end(|()| {
                    world.step();
                    wait::wake(&world.wait, wait::number(&world.wait));
                });
            })
        };
        (world, canceller)
    }

    /// The thread prepares to park while its token is cancelled.
    fn no_cancelled_thread_parks() {
        loom::model(|| {
            let (world, canceller) = cancelled();
            wait::prepare(&world.wait);
            let parks = !is_pending(|| world.is_cancelled.load(Acquire));
            let parked = parks && wait::commit(&world.wait) == Committed::Parked;
            canceller.join().unwrap();
            assert!(!parked || !wait::is_parked(&world.wait), "parked under a cancelled token");
        });
    }

    /// The call is over while its token is cancelled; the thread waits for something else.
    fn no_later_wait_is_ended() {
        loom::model(|| {
            let (world, canceller) = cancelled();
            world.reach.close();
            world.step();
            wait::prepare(&world.wait);
            assert_eq!(wait::commit(&world.wait), Committed::Parked, "the end of another call's wait");
            canceller.join().unwrap();
            assert!(wait::is_parked(&world.wait), "the end of another call's wait");
        });
    }

    #[test]
    fn reach_ends_waits() {
        check(no_cancelled_thread_parks);
    }

    #[test]
    fn reach_ends_with_its_call() {
        check(no_later_wait_is_ended);
    }

    #[test]
    fn mutant_reach_unfenced() {
        check_mutant(Mutant::ReachUnfenced, no_cancelled_thread_parks);
    }

    #[test]
    fn mutant_reach_unseen() {
        check_mutant(Mutant::ReachUnseen, no_cancelled_thread_parks);
    }

    #[test]
    fn mutant_reach_unlocked() {
        check_mutant(Mutant::ReachUnlocked, no_later_wait_is_ended);
    }
}
