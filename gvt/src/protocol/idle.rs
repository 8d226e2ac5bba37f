//! Which workers sleep, which one searches, and which one to wake when there is work.
//!
//! **Hazard.** A thread is queued while a worker prepares to sleep. If the pusher looks for sleepers before
//! the worker announces itself, and the worker looks for work before the push, the thread waits beside a
//! sleeping worker. The other danger is a thundering herd: each push wakes a worker that finds nothing.
//!
//! **Protocol.** `sleepers` is a set of workers, one bit each. `searching` is 1 while a woken worker has not
//! found work yet.
//!
//! Pusher: **I1** push. **I2** full fence (or the push itself is one, see `gvt_traits::PushFence`). **I3** if
//! `searching` is 0 and `sleepers` is not empty: set `searching`, take one bit out of `sleepers`, wake that
//! worker.
//!
//! Worker: **I4** finds nothing. **I5** sets its bit, then clears `searching` if it is the searcher. **I6**
//! full fence. **I7** looks for work again. **I8** sleeps, or takes its bit back; if the bit is gone, a
//! pusher has taken it, and the worker is the searcher.
//!
//! Searcher that finds work: **I9** clears `searching`, full fence, and does I3 if there is more work.
//!
//! The fences are totally ordered. If I2 precedes I6, I7 sees the push. If I6 precedes I2, I3 sees the bit,
//! or another pusher has taken it. Where I3 is skipped because of a searcher, that searcher's I5 or I9
//! follows, and its fence orders its next look after the push.
//!
//! **Ordering.** All accesses are SeqCst: the argument above needs the two words and the fences in one total
//! order. On x86 only stores and fences cost more for it, and these are on the way into and out of sleep.
//!
//! **Two classes.** Workers that run only Low threads form their own set within `sleepers`, with their own
//! `searching`. Such a searcher does not look for other threads, so no pusher of those may rely on it. A
//! pusher of a Low thread does I3 with the Low workers if one of them sleeps, else with the rest, like any
//! other pusher. After I9 each searcher does I3 with its own class first. Low threads that a searcher of the
//! rest leaves behind were offered to a Low worker, or to the rest, when they were pushed.
//!
//! **First children.** A *first child* is a new thread that is the first push since its worker's last
//! scheduling decision. If its spawner waits for it at once, the child runs on that worker: another worker
//! that is woken for it finds nothing, or takes it, and then the joiner is woken elsewhere; either costs more
//! than the child. If the spawner computes first, another worker should run the child. So once [`PATIENCE`]
//! wake-ups in a row for first children have led to less than [`WORTH_NS`] of work each, the worker that goes
//! to sleep takes a nap of [`NAP_NS`]. During a nap no worker is woken for first children; for all other work
//! the napping worker is a sleeper like any other.
//!
//! **N1** Before I5 the worker sets `nap` to NAPS. **N2** The pusher of a first child, after I2: if `nap` is
//! NAPS, it sets OWED; if it was NAPS or OWED, it skips I3. **N3** After I8 the worker clears `nap`; if that
//! was OWED, it becomes the searcher unless there is one; full fence; it looks for work. It naps again until
//! it finds work worth a wake-up, or a nap passes with nothing owed.
//!
//! If N2 skips I3, the N3 that ends the nap follows the push, and so do the worker's look and the I5 or I9 of
//! the worker or of the searcher that it finds. So a first child waits beside a sleeping worker for one nap
//! at most (plus the kernel's timer slack of 0.05 ms), and only after wake-ups in vain.
//!
//! **Whether no worker runs.** A scan of several threads, one by one, describes one moment only if none of
//! them ran meanwhile. So a worker that comes back from sleep **W1** counts that before it runs anything. A
//! scanner **W2** reads the count, **W3** sees all workers asleep and scans, **W4** reads the count again: if
//! it is the same, no worker was awake between W3 and W4.
//!
//! **Rejected.** Waking a worker for each push: each costs a system call and finds nothing. Counters of
//! sleepers without identities: the wake-up then needs a lock.
//!
//! For first children: waking no worker, as for the first woken thread (the child then waits some ms for the
//! monitor while its spawner computes); a searcher that spins (it takes cache lines from the spawner and a
//! CPU from others).
//!
//! **Evidence.** loom `idle::*`; mutants `NoPushFence`, `NoRescan`, `NoChain`, `OneSearcher`, `NapForgotten`
//! (no N3) and `NapAlone` (N3 without the searcher) fail. W1 to W4: loom `settle::*`; mutants `WakeUncounted`
//! (no W1), `SleepersFirst` (W3 before W2) and `WakeUnfenced` (W1 and W4 without fences) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, AtomicU64, Mutant, fence, mutant};

/// Wake-ups for first children in vain, in a row, before a worker naps.
const PATIENCE: u32 = 4;
/// The length of a nap.
pub(crate) const NAP_NS: u64 = 50_000;
/// The work that makes a wake-up worth its cost; about that cost.
pub(crate) const WORTH_NS: u64 = 10_000;

pub(crate) struct IdleSet {
    sleepers: AtomicU64,
    /// By [`Class`]: 0, or the searcher's [`Errand`].
    searching: [AtomicU32; 2],
    /// The state of N1 to N3.
    nap: AtomicU32,
    /// Wake-ups for first children that were in vain, in a row.
    ///
    /// Relaxed: a heuristic; a lost update makes a nap begin or end a little later.
    vain: AtomicU32,
    /// Workers that run only Low threads.
    low: u64,
    /// How often workers have come back from sleep.
    wakings: AtomicU64,
}

/// Classes of threads, by the workers that may run them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Only workers that are not reserved for Low threads.
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

/// No worker naps.
const NOBODY: u32 = 0;
/// A worker naps.
const NAPS: u32 = 1;
/// A worker naps, and some first child was offered to no worker.
const OWED: u32 = 2;

/// What a worker is before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It ran threads, or found none without being the searcher.
    Runner,
    /// It was woken and has not found work yet.
    Searcher,
}

/// What a worker finds when it takes its announcement back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retracted {
    /// No pusher has taken it.
    Alone,
    /// A pusher has chosen it: it is the searcher, and its parker holds a notification.
    Chosen(Errand),
}

impl IdleSet {
    /// A set in which the workers `low` run only Low threads.
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
            // The sleeper that this was for has retracted. Another may have announced itself since and been
            // skipped because of this `searching`: look again.
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
    pub(crate) fn announce(&self, index: usize, role: Role) {
        self.sleepers.fetch_or(1 << index, SeqCst);
        if role == Role::Searcher {
            self.searching(self.class_of(index)).store(0, SeqCst);
        }
        // ORDERING O2: pairs with the fence in `push_fence` and in `found`.
        fence(SeqCst);
    }

    /// Whether I7 is done at all; only a mutant leaves it out.
    pub(crate) fn rescans(&self) -> bool {
        !mutant(Mutant::NoRescan)
    }

    /// I8: retracts the announcement. W1.
    pub(crate) fn retract(&self, index: usize) -> Retracted {
        let was_there = self.take(index);
        if !mutant(Mutant::WakeUncounted) {
            self.wakings.fetch_add(1, SeqCst);
        }
        if !mutant(Mutant::WakeUnfenced) {
            // ORDERING O3: Release pairs with the Acquire in `while_all_sleep`: a scanner that sees what this
            // worker does from here on sees W1.
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
        // ORDERING O1: SeqCst: a worker seen awake through this count is not seen asleep later unless it
        // sleeps again.
        self.wakings.load(SeqCst)
    }

    /// W2 to W4: `look`'s answer if all `count` workers sleep and none came back before it returned; else
    /// `false`.
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

    /// Notes how much work a wake-up for a first child, or the end of a nap, led to; `None`: none.
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

    /// N3, after `retract`: whether a child was owed. `searches`: whether the caller is the searcher.
    pub(crate) fn end_nap(&self, searches: &mut bool) -> bool {
        if mutant(Mutant::NapForgotten) {
            return false;
        }
        let is_owed = self.nap.swap(NOBODY, SeqCst) == OWED;
        if is_owed && !*searches && !mutant(Mutant::NapAlone) {
            let searching = self.searching(Class::Normal);
            *searches = searching.compare_exchange(0, Errand::Child as u32, SeqCst, SeqCst).is_ok();
        }
        // ORDERING O2: pairs with the fence in `push_fence`: a pusher that saw the nap pushed before this
        // fence.
        fence(SeqCst);
        is_owed
    }

    /// A nap has passed with nothing owed.
    pub(crate) fn stop_napping(&self) {
        self.vain.store(0, Relaxed);
    }

    /// I9's first half: the searcher `index` has found work. The caller then looks for more, and if there is
    /// some calls `choose` for its own class.
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
            // Release, like the tail of a ring.
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

        /// The end of worker 0's nap, up to its next sleep without a limit. Returns whether it sleeps.
        fn after_nap(&self) -> bool {
            let mut searches = self.idle.retract(0) != Retracted::Alone;
            self.idle.end_nap(&mut searches);
            self.round(0, if searches { Role::Searcher } else { Role::Runner })
        }

        fn pop(&self) -> bool {
            self.queue.fetch_update(AcqRel, Acquire, |n| n.checked_sub(1)).is_ok()
        }

        /// One worker's round: look, announce, look again. Returns whether it sleeps in the end.
        fn round(&self, index: usize, role: Role) -> bool {
            if self.pop() {
                if role == Role::Searcher {
                    self.idle.found(index);
                    if self.queue.load(Relaxed) > 0 {
                        self.wake_one();
                    }
                }
                return false;
            }
            self.idle.announce(index, role);
            if self.idle.rescans() && self.queue.load(Relaxed) > 0 {
                self.idle.retract(index);
                return false;
            }
            true
        }

        /// At the end: work must not wait beside sleepers that no pusher woke.
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
                loom::thread::spawn(move || world.round(0, Role::Runner))
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
            // Worker 1 sleeps and stays asleep; worker 0 has been chosen by an earlier push.
            world.idle.announce(1, Role::Runner);
            world.idle.announce(0, Role::Runner);
            assert_eq!(world.idle.choose(Class::Normal), Some(0));
            world.queue.fetch_add(1, Release);
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || world.push())
            };
            let found = !world.round(0, Role::Searcher);
            pusher.join().unwrap();
            assert!(found, "the searcher had one to find");
            // Worker 0 runs its find for a long time. The second thread must have been offered.
            let offered = world.notified[1].load(SeqCst) == 1;
            assert!(world.queue.load(SeqCst) == 0 || offered, "the second thread waits beside a sleeper");
        });
    }

    /// A worker for Low threads searches and finds nothing while a Normal thread is pushed.
    fn classes_search_apart() {
        loom::model(|| {
            let world = World::of(IdleSet::new(0b10));
            world.idle.announce(0, Role::Runner);
            world.idle.announce(1, Role::Runner);
            assert_eq!(world.idle.choose(Class::Low), Some(1));
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || world.push())
            };
            // It may not run the queued thread.
            world.idle.announce(1, Role::Searcher);
            pusher.join().unwrap();
            assert_eq!(world.notified[0].load(SeqCst), 1, "the thread waits beside a sleeping worker");
        });
    }

    /// A first child is pushed while a worker prepares its nap, naps, or comes back from it.
    fn child_beside_a_nap() {
        loom::model(|| {
            let world = World::with_nap();
            let worker = {
                let world = world.clone();
                loom::thread::spawn(move || {
                    world.idle.announce(0, Role::Runner);
                    world.after_nap()
                })
            };
            world.push_child();
            let asleep = worker.join().unwrap();
            world.settled(&[asleep]);
        });
    }

    /// Two workers have a first child each, and worker 0 comes back from its nap: the second child must reach
    /// worker 1.
    fn nap_chains() {
        loom::model(|| {
            let world = World::with_nap();
            world.idle.announce(0, Role::Runner);
            world.idle.announce(1, Role::Runner);
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

    /// The same, but worker 1 was woken for work that is gone.
    fn nap_meets_a_searcher() {
        loom::model(|| {
            let world = World::with_nap();
            world.idle.announce(1, Role::Runner);
            assert_eq!(world.idle.choose(Class::Normal), Some(1));
            world.idle.announce(0, Role::Runner);
            let searcher = {
                let world = world.clone();
                loom::thread::spawn(move || world.round(1, Role::Searcher))
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
