//! Who sleeps, who searches, and whom to wake when there is work.
//!
//! **Hazard.** A thread is queued while a worker makes up its mind to sleep. If the pusher looks
//! for sleepers before the worker announces itself, and the worker looks for work before the push,
//! the thread waits beside a sleeping worker. The other danger is the herd: each push wakes a
//! worker that finds nothing.
//!
//! **Protocol.** `sleepers` is a set of workers, a bit each; `searching` is 1 while a worker that
//! was woken has found nothing yet.
//!
//! Pusher: **I1** push. **I2** full fence (or the push itself is one, see
//! `gvt_traits::PushFence`). **I3** if `searching` is 0 and `sleepers` is not empty: set
//! `searching`, take one bit out of `sleepers`, wake that worker.
//!
//! Worker: **I4** finds nothing. **I5** sets its bit; then clears `searching` if it had it.
//! **I6** full fence. **I7** looks for work again. **I8** sleeps, or takes its bit back; if that is
//! gone, a pusher has taken it, and the worker is the searcher.
//!
//! Searcher that finds work: **I9** clears `searching`, full fence, and if there is more work does I3.
//!
//! The fences are totally ordered. If I2 precedes I6, I7 sees the push. If I6 precedes I2, I3 sees
//! the bit (or that its taker is on the way). Where I3 is skipped because of a searcher, that searcher's I5 or I9 follows, and
//! its fence orders its next look after the push.
//!
//! **Ordering.** All accesses are SeqCst: the two words and the fences are in one total order, on which the argument above
//! rests. On x86 only the stores and the fences cost more for it, and these lie on the way into and out of sleep.
//!
//! **Two classes.** Workers that run only Low threads are a set of their own within `sleepers`, with a `searching` of their own: such a
//! searcher finds nothing of what others may run, so nobody may rely on it for that. A pusher of a Low thread does I3 with them if
//! one sleeps, else, as a pusher of any other thread, with the rest. After I9 each searcher does I3 with its own class first.
//! Of what a searcher of the rest leaves, Low threads have been offered to a Low worker, or to the rest, when they were pushed.
//!
//! **Rejected.** Waking a worker for each push (each costs a system call and ends in nothing);
//! counters of sleepers without identities (the wake-up then needs a lock).
//!
//! **Evidence.** loom `idle::*`; mutants `NoPushFence`, `NoRescan`, `NoChain`, `OneSearcher` fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, AtomicU64, Mutant, fence, mutant};

pub(crate) struct IdleSet {
    sleepers: AtomicU64,
    /// By [`Class`].
    searching: [AtomicU32; 2],
    /// Workers that run only Low threads.
    low: u64,
}

/// Threads as far as it matters who may run them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Only workers that are not kept for Low threads.
    Normal = 0,
    /// Every worker.
    Low = 1,
}

/// What a worker finds when it takes its announcement back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retracted {
    /// Nobody had noticed.
    Alone,
    /// A pusher had chosen it: it is the searcher, and a notification is in its parker.
    Chosen,
}

impl IdleSet {
    /// For workers of which those in `low` run only Low threads.
    pub(crate) fn new(low: u64) -> Self {
        IdleSet { sleepers: AtomicU64::new(0), searching: [AtomicU32::new(0), AtomicU32::new(0)], low }
    }

    /// Whether there are workers that run only Low threads.
    #[inline]
    pub(crate) fn has_classes(&self) -> bool {
        self.low != 0
    }

    /// What worker `index` runs.
    #[inline]
    pub(crate) fn class_of(&self, index: usize) -> Class {
        if self.low & (1 << index) == 0 { Class::Normal } else { Class::Low }
    }

    fn searching(&self, class: Class) -> &AtomicU32 {
        &self.searching[if mutant(Mutant::OneSearcher) { 0 } else { class as usize }]
    }

    /// The workers that sleep.
    #[inline]
    pub(crate) fn sleepers(&self) -> u64 {
        // ORDERING O1: SeqCst, in one order with the fences and the queue's SeqCst publications.
        self.sleepers.load(SeqCst)
    }

    /// I2 for pushes that are no fence themselves.
    #[inline]
    pub(crate) fn push_fence(&self) {
        if !mutant(Mutant::NoPushFence) {
            // ORDERING O2: pairs with the fence in `announce`.
            fence(SeqCst);
        }
    }

    /// I3: the worker to wake for a thread of `class`, if one should be.
    #[inline]
    pub(crate) fn choose(&self, class: Class) -> Option<usize> {
        if self.sleepers() == 0 {
            return None;
        }
        self.choose_slow(class)
    }

    #[cold]
    #[inline(never)]
    fn choose_slow(&self, class: Class) -> Option<usize> {
        loop {
            let sleepers = self.sleepers();
            let (members, searching) = match class {
                Class::Low if sleepers & self.low != 0 => (self.low, self.searching(Class::Low)),
                _ => (!self.low, self.searching(Class::Normal)),
            };
            if sleepers & members == 0
                || searching.load(SeqCst) != 0
                || searching.compare_exchange(0, 1, SeqCst, SeqCst).is_err()
            {
                return None;
            }
            let chosen = self.take_any(members);
            if chosen.is_some() {
                return chosen;
            }
            // Whom this was for has taken itself out. Somebody else may have announced himself since, and been passed over
            // because of this `searching`: look again.
            searching.store(0, SeqCst);
        }
    }

    /// Takes any worker of `members` out of the set.
    fn take_any(&self, members: u64) -> Option<usize> {
        let mut seen = self.sleepers.load(SeqCst);
        while seen & members != 0 {
            let index = (seen & members).trailing_zeros() as usize;
            match self.sleepers.compare_exchange(seen, seen & !(1 << index), SeqCst, SeqCst) {
                Ok(_) => return Some(index),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Takes worker `index` out of the set, if it is there.
    pub(crate) fn take(&self, index: usize) -> bool {
        self.sleepers.fetch_and(!(1 << index), SeqCst) & (1 << index) != 0
    }

    /// I5 and I6.
    pub(crate) fn announce(&self, index: usize, was_searching: bool) {
        self.sleepers.fetch_or(1 << index, SeqCst);
        if was_searching {
            self.searching(self.class_of(index)).store(0, SeqCst);
        }
        // ORDERING O2: pairs with the fence in `push_fence` and in `found`.
        fence(SeqCst);
    }

    /// Whether I7 is done at all (it is, but for a mutant).
    pub(crate) fn rescans(&self) -> bool {
        !mutant(Mutant::NoRescan)
    }

    /// I8: takes the announcement back.
    pub(crate) fn retract(&self, index: usize) -> Retracted {
        if self.take(index) { Retracted::Alone } else { Retracted::Chosen }
    }

    /// I9's first half: the searcher `index` has found something. The caller then looks whether there is
    /// more, and if so calls `choose` for its own class.
    pub(crate) fn found(&self, index: usize) {
        if mutant(Mutant::NoChain) {
            return;
        }
        self.searching(self.class_of(index)).store(0, SeqCst);
        // ORDERING O2: pairs with the fence in `push_fence`: a pusher that saw `searching` set
        // pushed before this fence, so the look that follows sees its push.
        fence(SeqCst);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;

    struct World {
        idle: IdleSet,
        queue: AtomicUsize,
        notified: [AtomicUsize; 2],
    }

    impl World {
        fn new() -> Arc<Self> {
            Self::of(IdleSet::new(0))
        }

        fn of(idle: IdleSet) -> Arc<Self> {
            Arc::new(World {
                idle,
                queue: AtomicUsize::new(0),
                notified: [AtomicUsize::new(0), AtomicUsize::new(0)],
            })
        }

        fn push(&self) {
            // Release, as a ring's tail.
            self.queue.fetch_add(1, Release);
            self.idle.push_fence();
            self.wake_one();
        }

        fn wake_one(&self) {
            if let Some(index) = self.idle.choose(Class::Normal) {
                self.notified[index].store(1, SeqCst);
            }
        }

        fn pop(&self) -> bool {
            self.queue.fetch_update(AcqRel, Acquire, |n| n.checked_sub(1)).is_ok()
        }

        /// One worker's round: look, announce, look again. Returns whether it sleeps in the end.
        fn round(&self, index: usize, searching: bool) -> bool {
            if self.pop() {
                if searching {
                    self.idle.found(index);
                    if self.queue.load(Relaxed) > 0 {
                        self.wake_one();
                    }
                }
                return false;
            }
            self.idle.announce(index, searching);
            if self.idle.rescans() && self.queue.load(Relaxed) > 0 {
                self.idle.retract(index);
                return false;
            }
            true
        }

        /// After everybody stopped: work must not lie beside sleepers that nobody woke.
        fn settled(&self, asleep: &[bool]) {
            let left = self.queue.load(SeqCst);
            if left == 0 {
                return;
            }
            let awake = asleep
                .iter()
                .enumerate()
                .any(|(index, asleep)| !asleep || self.notified[index].load(SeqCst) == 1);
            assert!(awake, "{left} queued and every worker asleep");
        }
    }

    /// A push from outside against a worker that goes to sleep.
    fn no_lost_wakeup() {
        loom::model(|| {
            let world = World::new();
            let worker = {
                let world = world.clone();
                loom::thread::spawn(move || world.round(0, false))
            };
            world.push();
            let asleep = worker.join().unwrap();
            world.settled(&[asleep]);
        });
    }

    /// The searcher finds one of two pushed threads; the second must reach the other sleeper.
    fn searcher_chains() {
        loom::model(|| {
            let world = World::new();
            // Worker 1 sleeps for good; worker 0 has been chosen by an earlier push.
            world.idle.announce(1, false);
            world.idle.announce(0, false);
            assert_eq!(world.idle.choose(Class::Normal), Some(0));
            world.queue.fetch_add(1, Release);
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || world.push())
            };
            let found = !world.round(0, true);
            pusher.join().unwrap();
            assert!(found, "the searcher had one to find");
            // Worker 0 now runs what it found, for long. The second thread must have been offered.
            let offered = world.notified[1].load(SeqCst) == 1;
            assert!(world.queue.load(SeqCst) == 0 || offered, "the second thread waits beside a sleeper");
        });
    }

    /// A worker for Low threads searches, and finds nothing, while a Normal thread is pushed.
    fn classes_search_apart() {
        loom::model(|| {
            let world = World::of(IdleSet::new(0b10));
            world.idle.announce(0, false);
            world.idle.announce(1, false);
            assert_eq!(world.idle.choose(Class::Low), Some(1));
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || world.push())
            };
            // It may not run what is queued.
            world.idle.announce(1, true);
            pusher.join().unwrap();
            assert_eq!(world.notified[0].load(SeqCst), 1, "the thread waits beside a sleeping worker");
        });
    }

    #[test]
    fn idle_classes_search_apart() {
        check(classes_search_apart);
    }

    #[test]
    fn mutant_one_searcher() {
        check_mutant(Mutant::OneSearcher, classes_search_apart);
    }

    #[test]
    fn idle_no_lost_wakeup() {
        check(no_lost_wakeup);
    }

    #[test]
    fn idle_searcher_chains() {
        check(searcher_chains);
    }

    #[test]
    fn mutant_no_push_fence() {
        check_mutant(Mutant::NoPushFence, no_lost_wakeup);
    }

    #[test]
    fn mutant_no_rescan() {
        check_mutant(Mutant::NoRescan, no_lost_wakeup);
    }

    #[test]
    fn mutant_no_chain() {
        check_mutant(Mutant::NoChain, searcher_chains);
    }
}
