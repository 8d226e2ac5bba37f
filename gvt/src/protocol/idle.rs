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
//! **First children.** A *first child* is a new thread that is the first to be pushed since its worker's last
//! decision. If its spawner waits for it at once, it runs on that worker: another that is woken for it finds
//! nothing, or takes it and then the joiner is woken elsewhere; either costs more than the child. But if the
//! spawner computes first, the child is for another worker. So once [`PATIENCE`] wake-ups in a row for first
//! children have come to less than [`WORTH_NS`] of work each, the worker that goes to sleep takes a nap of
//! [`NAP_NS`], and nobody is woken for first children meanwhile; for all else it sleeps like any other.
//!
//! **N1** Before I5 the worker sets `nap` to NAPS. **N2** The pusher of a first child, after I2: if `nap` is NAPS,
//! it sets OWED; if it was either, it leaves out I3. **N3** After I8 the worker clears `nap`; if that was OWED, it
//! becomes the searcher unless there is one; full fence; it looks for work. It naps again until it finds work worth
//! a wake-up, or a nap passes with nothing owed.
//!
//! If N2 leaves out I3, the N3 that ends the nap follows the push, with the worker's look and the I5 or I9 of the
//! worker or of the searcher that it meets. So a first child waits beside a sleeping worker for a nap at most, to
//! which the kernel adds some 0.05 ms, and only after wake-ups in vain.
//!
//! **Whether nobody runs.** What is read of several threads, one by one, belongs to one moment only if none of them has run meanwhile. So
//! a worker that comes back from sleep **W1** counts that before it runs anything. Who looks **W2** reads the count, **W3** sees all
//! workers asleep, looks, **W4** reads the count again: if it is the same, no worker was awake between W3 and W4.
//!
//! **Rejected.** Waking a worker for each push (each costs a system call and ends in nothing);
//! counters of sleepers without identities (the wake-up then needs a lock).
//!
//! For first children: to wake nobody, as for the first woken thread (a child then waits for the monitor, some ms,
//! while its spawner computes); a searcher that spins (its looks take the spawner's cache lines, and a processor
//! from others).
//!
//! **Evidence.** loom `idle::*`; mutants `NoPushFence`, `NoRescan`, `NoChain`, `OneSearcher`, `NapForgotten` (no N3)
//! and `NapAlone` (N3 without the searcher) fail. Of W1 to W4, loom `settle::*`; mutants `WakeUncounted` (no W1),
//! `SleepersFirst` (W3 before W2), `WakeUnfenced` (W1 and W4 without fences) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, AtomicU64, Mutant, fence, mutant};

/// Wake-ups for first children in a row that are in vain before a worker naps.
const PATIENCE: u32 = 4;
/// A nap.
pub(crate) const NAP_NS: u64 = 50_000;
/// What a worker must do to have been worth a wake-up, about what that costs.
pub(crate) const WORTH_NS: u64 = 10_000;

pub(crate) struct IdleSet {
    sleepers: AtomicU64,
    /// By [`Class`]: 0, or what the searcher was woken for.
    searching: [AtomicU32; 2],
    /// N1 to N3.
    nap: AtomicU32,
    /// Wake-ups for first children in a row that were in vain.
    ///
    /// Relaxed: a guess at what is to come; what is lost makes a nap begin or end a little later.
    vain: AtomicU32,
    /// Workers that run only Low threads.
    low: u64,
    /// How often workers have come back from sleep.
    wakings: AtomicU64,
}

/// Threads as far as it matters who may run them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Only workers that are not kept for Low threads.
    Normal = 0,
    /// Every worker.
    Low = 1,
}

/// What a worker is woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Errand {
    /// A first child.
    Child = 1,
    Other = 2,
}

/// Nobody naps.
const NOBODY: u32 = 0;
/// A worker naps.
const NAPS: u32 = 1;
/// And some first child was not offered to anybody.
const OWED: u32 = 2;

/// What a worker finds when it takes its announcement back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retracted {
    /// Nobody had noticed.
    Alone,
    /// A pusher had chosen it: it is the searcher, and a notification is in its parker.
    Chosen(Errand),
}

impl IdleSet {
    /// For workers of which those in `low` run only Low threads.
    pub(crate) fn new(low: u64) -> Self {
        IdleSet {
            sleepers: AtomicU64::new(0),
            searching: [AtomicU32::new(0), AtomicU32::new(0)],
            nap: AtomicU32::new(NOBODY),
            vain: AtomicU32::new(0),
            low,
            wakings: AtomicU64::new(0),
        }
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
        self.choose_slow(class, Errand::Other)
    }

    /// N2 and I3 for a first child that is no Low thread.
    pub(crate) fn choose_for_child(&self) -> Option<usize> {
        if self.leave_to_nap() { None } else { self.choose_slow(Class::Normal, Errand::Child) }
    }

    #[cold]
    #[inline(never)]
    fn choose_slow(&self, class: Class, errand: Errand) -> Option<usize> {
        loop {
            let sleepers = self.sleepers();
            let (members, searching) = match class {
                Class::Low if sleepers & self.low != 0 => (self.low, self.searching(Class::Low)),
                _ => (!self.low, self.searching(Class::Normal)),
            };
            if sleepers & members == 0
                || searching.load(SeqCst) != 0
                || searching.compare_exchange(0, errand as u32, SeqCst, SeqCst).is_err()
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

    /// I8: takes the announcement back. W1.
    pub(crate) fn retract(&self, index: usize) -> Retracted {
        let was_there = self.take(index);
        if !mutant(Mutant::WakeUncounted) {
            self.wakings.fetch_add(1, SeqCst);
        }
        if !mutant(Mutant::WakeUnfenced) {
            // ORDERING O3: Release pairs with the Acquire in `while_all_sleep`: who sees what this worker does from here on sees W1.
            fence(Release);
        }
        if was_there {
            return Retracted::Alone;
        }
        let is_child = self.searching(self.class_of(index)).load(SeqCst) == Errand::Child as u32;
        Retracted::Chosen(if is_child { Errand::Child } else { Errand::Other })
    }

    /// How often workers have come back from sleep.
    pub(crate) fn wakings(&self) -> u64 {
        // ORDERING O1: SeqCst: who is seen awake by it is not seen asleep later, unless it is asleep again.
        self.wakings.load(SeqCst)
    }

    /// W2 to W4: whether all `count` workers sleep, and none has come back before `look` has looked; and what that says.
    pub(crate) fn while_all_sleep(&self, count: usize, look: impl FnOnce() -> bool) -> bool {
        let do_all_sleep = || self.sleepers().count_ones() as usize == count;
        if mutant(Mutant::SleepersFirst) && !do_all_sleep() {
            return false;
        }
        let before = self.wakings();
        if !(mutant(Mutant::SleepersFirst) || do_all_sleep()) || !look() {
            return false;
        }
        if !mutant(Mutant::WakeUnfenced) {
            // ORDERING O3: Acquire pairs with the Release in `retract`.
            fence(Acquire);
        }
        self.wakings() == before
    }

    /// A wake-up for a first child, or the end of a nap, came to so much work; `None`: to none.
    pub(crate) fn has_worked(&self, ns: Option<u64>) {
        match ns {
            Some(WORTH_NS..) => self.vain.store(0, Relaxed),
            _ => self.vain.store(self.vain.load(Relaxed).saturating_add(1), Relaxed),
        }
    }

    /// N1: whether the next sleep of worker `index` is a nap.
    pub(crate) fn begin_nap(&self, index: usize) -> bool {
        self.vain.load(Relaxed) >= PATIENCE
            && self.class_of(index) == Class::Normal
            && self.nap.compare_exchange(NOBODY, NAPS, SeqCst, SeqCst).is_ok()
    }

    /// N2: whether a first child waits for the end of a nap.
    fn leave_to_nap(&self) -> bool {
        match self.nap.load(SeqCst) {
            NOBODY => false,
            NAPS => self.nap.compare_exchange(NAPS, OWED, SeqCst, SeqCst) != Err(NOBODY),
            _ => true,
        }
    }

    /// N3, after `retract`: whether something was owed. `searches`: whether the caller is the searcher.
    pub(crate) fn end_nap(&self, searches: &mut bool) -> bool {
        if mutant(Mutant::NapForgotten) {
            return false;
        }
        let is_owed = self.nap.swap(NOBODY, SeqCst) == OWED;
        if is_owed && !*searches && !mutant(Mutant::NapAlone) {
            let searching = self.searching(Class::Normal);
            *searches = searching.compare_exchange(0, Errand::Child as u32, SeqCst, SeqCst).is_ok();
        }
        // ORDERING O2: pairs with the fence in `push_fence`: a pusher that saw the nap pushed before this fence.
        fence(SeqCst);
        is_owed
    }

    /// A nap has passed with nothing owed.
    pub(crate) fn stop_napping(&self) {
        self.vain.store(0, Relaxed);
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

        /// A push of a first child.
        fn push_child(&self) {
            self.queue.fetch_add(1, Release);
            self.idle.push_fence();
            if let Some(index) = self.idle.choose_for_child() {
                self.notified[index].store(1, SeqCst);
            }
        }

        /// Worker 0 naps, or is about to.
        fn with_nap() -> Arc<Self> {
            let world = World::new();
            (0..PATIENCE).for_each(|_| world.idle.has_worked(None));
            assert!(world.idle.begin_nap(0));
            world
        }

        /// The nap of worker 0 is over: what it does then, and in the end sleeps without a limit. Returns whether it does.
        fn after_nap(&self) -> bool {
            let mut searches = self.idle.retract(0) != Retracted::Alone;
            self.idle.end_nap(&mut searches);
            self.round(0, searches)
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

    /// A first child is pushed while a worker goes to take a nap, naps, or comes back from it.
    fn child_beside_a_nap() {
        loom::model(|| {
            let world = World::with_nap();
            let worker = {
                let world = world.clone();
                loom::thread::spawn(move || {
                    world.idle.announce(0, false);
                    world.after_nap()
                })
            };
            world.push_child();
            let asleep = worker.join().unwrap();
            world.settled(&[asleep]);
        });
    }

    /// Two workers have a first child each, and worker 0 comes back from its nap; the second child must reach worker 1.
    fn nap_chains() {
        loom::model(|| {
            let world = World::with_nap();
            world.idle.announce(0, false);
            world.idle.announce(1, false);
            world.push_child();
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || world.push_child())
            };
            let found = !world.after_nap();
            pusher.join().unwrap();
            assert!(found, "the child that was owed is there to find");
            let offered = world.notified[1].load(SeqCst) == 1;
            assert!(world.queue.load(SeqCst) == 0 || offered, "the second child waits beside a sleeper");
        });
    }

    /// The same, and worker 1 has been woken for something that is gone by now.
    fn nap_meets_a_searcher() {
        loom::model(|| {
            let world = World::with_nap();
            world.idle.announce(1, false);
            assert_eq!(world.idle.choose(Class::Normal), Some(1));
            world.idle.announce(0, false);
            let searcher = {
                let world = world.clone();
                loom::thread::spawn(move || world.round(1, true))
            };
            world.push_child();
            world.push_child();
            world.after_nap();
            let asleep = searcher.join().unwrap();
            let offered = !asleep || world.notified[1].load(SeqCst) == 1;
            assert!(world.queue.load(SeqCst) == 0 || offered, "a child waits beside a sleeper");
        });
    }

    #[test]
    fn idle_child_beside_a_nap() {
        check(child_beside_a_nap);
    }

    #[test]
    fn idle_nap_chains() {
        check(nap_chains);
    }

    #[test]
    fn idle_nap_meets_a_searcher() {
        check(nap_meets_a_searcher);
    }

    #[test]
    fn mutant_nap_forgotten() {
        check_mutant(Mutant::NapForgotten, child_beside_a_nap);
    }

    #[test]
    fn mutant_nap_alone() {
        check_mutant(Mutant::NapAlone, nap_chains);
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
