//! Waiting until all threads are parked.
//!
//! **Hazard.** A thread that waits until all others have parked cannot check them one by one: one that was
//! seen parked may have been woken by one that is checked later. And the last thread to park must not be
//! missed, or there is no further check.
//!
//! **Protocol.** **Z1** A settler counts itself and enters the list under its lock, and parks. **Z2** A
//! worker without work that has announced itself idle (I5 of `idle`) and found no work (I7) takes that lock
//! if a settler is counted. **Z3** It checks all records while all workers sleep (W2 to W4 of `idle`): is
//! every thread parked, those without a worker included (`detach`)? If so, it wakes all settlers, still under
//! the lock: a settler that enters later was not part of the check. The announcements are in one total order,
//! so the last of them sees all workers asleep. A worker that spoils another's check has come back from
//! sleep, and goes to sleep again: Z2. A thread that is away from all workers, in the kernel or in
//! [`blocking`](crate::blocking()), comes back through a worker: Z2 again. **Z4** A thread that parks without
//! a worker (`detach::park_detached`), having passed its worker on before, commits its wait (W2 of `wait`),
//! fence, and if a settler is counted, has a sleeping worker check again. The fences are totally ordered:
//! either that worker's announcement came first, and Z4 sees the count, or Z3 sees the commit.
//!
//! Virtual time stands still while a settler waits (`idle_worker`).
//!
//! **Evidence.** loom `settlers::*`; mutants `SettleUncounted` (Z1), `LookUnlocked` (Z2, the lock after the
//! look), `HeldSilently` (no Z4), `HeldUnfenced` (Z4 without the fence) fail; those of `idle`, too.

use gvt_traits::WaitReason;

use crate::protocol::atomics::{AtomicU32, Mutant, Ordering::*, fence, mutant};
use crate::protocol::idle::{Class, IdleSet};
use crate::wait::host::Here;
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::WakeList;

/// The settlers of a runtime.
pub(crate) struct Settlers {
    waiting: AtomicU32,
    list: Lock<List<()>>,
}

const POLICY: WaitPolicy<Settlers, List<()>, ()> = WaitPolicy {
    list: |list, _| list,
    reason: WaitReason::Park,
    abandon: |settlers, _, _, outcome, _: &mut WakeList, _: Here| {
        if outcome != WaitOutcome::Served {
            // ORDERING O1: as in `has_any`.
            settlers.waiting.fetch_sub(1, SeqCst);
        }
    },
};

impl Settlers {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Settlers { waiting: AtomicU32::new(0), list: Lock::new(List::new()) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Settlers { waiting: AtomicU32::new(0), list: Lock::new(List::new()) }
    }

    /// Whether a settler waits.
    pub(crate) fn has_any(&self) -> bool {
        // ORDERING O1: SeqCst: the settler counts itself before its worker announces itself idle.
        self.waiting.load(SeqCst) != 0
    }

    /// Z1, except for the list.
    fn enter(&self) -> LockGuard<'_, List<()>> {
        let list = self.list.lock();
        if !mutant(Mutant::SettleUncounted) {
            // ORDERING O1: as in `has_any`.
            self.waiting.fetch_add(1, SeqCst);
        }
        list
    }

    /// Z1: waits until all others are parked.
    #[cfg(not(loom))]
    pub(crate) fn settle(&self) {
        wait(self, self.enter(), &POLICY, 0, &mut None, None);
    }

    /// Z2 and Z3; whether a settler was woken. `are_all_parked` checks all records.
    pub(crate) fn serve_if_quiet(
        &self,
        idle: &IdleSet,
        workers: usize,
        are_all_parked: impl Fn() -> bool,
    ) -> bool {
        let is_quiet = || self.has_any() && idle.while_all_sleep(workers, &are_all_parked);
        if !self.has_any() || (mutant(Mutant::LookUnlocked) && !is_quiet()) {
            return false;
        }
        let mut list = self.list.lock_within();
        if !mutant(Mutant::LookUnlocked) && !is_quiet() {
            return false;
        }
        let here = list.here();
        let mut wakes = WakeList::new();
        while let Some(waiter) = list.take() {
            // ORDERING O1: as in `has_any`.
            self.waiting.fetch_sub(1, SeqCst);
            wakes.push(waiter.end(WaitOutcome::Served, here));
        }
        drop(list);
        wakes.fire();
        true
    }

    /// Z4: the worker to wake so that it checks.
    pub(crate) fn parked_without_worker(&self, idle: &IdleSet) -> Option<usize> {
        if mutant(Mutant::HeldSilently) {
            return None;
        }
        if !mutant(Mutant::HeldUnfenced) {
            // ORDERING O2: pairs with the fence in `IdleSet::announce`.
            fence(SeqCst);
        }
        // Any worker may be chosen for this class.
        if self.has_any() { idle.choose(Class::Low) } else { None }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{AtomicBool, AtomicU64, check, check_mutant};
    use crate::protocol::idle::Role;
    use crate::protocol::user;
    use crate::protocol::wait::{self, Woken};
    use crate::wait::seat::Seat;
    use loom::sync::Arc;
    use loom::thread;

    /// A settler's node in the list. No thread sleeps there: its wait is a word of the model's.
    struct Settler(std::cell::UnsafeCell<Seat<()>>);

    // SAFETY: written under the settlers' lock, and read when all others have ended.
    unsafe impl Send for Settler {}
    // SAFETY: as above.
    unsafe impl Sync for Settler {}

    impl Settler {
        fn new() -> Self {
            Settler(std::cell::UnsafeCell::new(Seat::new()))
        }

        /// Z1, with its wait armed and then parked, as its worker does.
        fn settle(&self, settlers: &Settlers, word: &AtomicU64) {
            wait::prepare(word);
            let waker = user::Waker::from_ref(std::task::Waker::noop());
            let list = settlers.enter();
            // SAFETY: C1 of `take`: in the model's world, which is shared by a counted reference;
            // `was_served` ends it.
            unsafe { (*self.0.get()).take(list, &POLICY, 0, None, waker) };
            wait::commit(word);
        }

        /// Whether it was woken; it leaves the list.
        fn was_served(&self, settlers: &Settlers) -> bool {
            // SAFETY: the others have ended.
            let seat = unsafe { &mut *self.0.get() };
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let was_served = seat.is_taken() && seat.poll(&settlers.list, &mut context).is_ready();
            seat.leave(settlers, &settlers.list, &POLICY);
            was_served
        }
    }

    struct World {
        workers: usize,
        idle: IdleSet,
        settlers: Settlers,
        first: Settler,
        second: Settler,
        /// The wait of each thread.
        waits: [AtomicU64; 3],
        /// Whether the last thread has ended.
        has_ended: AtomicBool,
        steps: AtomicU32,
    }

    impl World {
        fn new(workers: usize) -> Arc<Self> {
            Arc::new(World {
                workers,
                idle: IdleSet::new(0),
                settlers: Settlers::new(),
                first: Settler::new(),
                second: Settler::new(),
                waits: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
                has_ended: AtomicBool::new(false),
                steps: AtomicU32::new(0),
            })
        }

        /// Lets loom try the next step before and after each of the others' steps: by itself it does not do
        /// so between two loads of a word by one thread, if another loads and then changes that word. Orders
        /// nothing.
        fn step(&self) {
            self.steps.fetch_add(1, Relaxed);
        }

        fn park(&self, thread: usize) {
            self.step();
            wait::prepare(&self.waits[thread]);
            wait::commit(&self.waits[thread]);
        }

        /// Ends a thread's first wait; nothing runs it afterwards.
        fn wake(&self, thread: usize) {
            self.step();
            assert_eq!(wait::wake(&self.waits[thread], 1), Woken::Queue);
        }

        /// The step of a worker without work; whether it has woken the settlers.
        fn go_idle(&self, worker: usize) -> bool {
            self.idle.announce(worker, Role::Runner);
            self.look()
        }

        fn look(&self) -> bool {
            self.settlers.serve_if_quiet(&self.idle, self.workers, || {
                let [others @ .., last] = &self.waits;
                let is_parked = |word| {
                    self.step();
                    wait::is_parked(word)
                };
                others.iter().all(is_parked) && (self.has_ended.load(Relaxed) || is_parked(last))
            })
        }
    }

    /// A settler and the two threads that it waits for park on two workers: the last worker to look sees all.
    fn the_last_to_sleep_looks() {
        loom::model(|| {
            let world = World::new(2);
            world.park(1);
            let other = {
                let world = world.clone();
                thread::spawn(move || {
                    world.park(2);
                    world.go_idle(1)
                })
            };
            world.first.settle(&world.settlers, &world.waits[0]);
            let seen = world.go_idle(0);
            let seen = other.join().unwrap() || seen;
            assert_eq!(world.first.was_served(&world.settlers), seen);
            assert!(seen, "all are parked, and the settler sleeps");
        });
    }

    /// A worker that sleeps, as the other does, checks with a settler and a thread parked; meanwhile the
    /// other runs `f`, since a thread has come back from the kernel.
    fn somebody_comes_back(f: fn(&World)) -> Arc<World> {
        let world = World::new(2);
        world.first.settle(&world.settlers, &world.waits[0]);
        world.park(1);
        world.idle.announce(1, Role::Runner);
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                world.idle.retract(1);
                f(&world);
            })
        };
        world.go_idle(0);
        other.join().unwrap();
        world
    }

    /// The thread wakes one that was seen parked, and parks.
    fn who_comes_back_is_waited_for() {
        loom::model(|| {
            let world = somebody_comes_back(|world| {
                world.wake(1);
                world.park(2);
            });
            assert!(!world.first.was_served(&world.settlers), "one thread or the other was to run");
        });
    }

    /// The thread says that it has ended, and then wakes its joiner.
    fn who_ends_is_waited_for() {
        loom::model(|| {
            let world = somebody_comes_back(|world| {
                world.has_ended.store(true, Relaxed);
                world.wake(1);
            });
            assert!(!world.first.was_served(&world.settlers), "one thread or the other was to run");
        });
    }

    /// No thread must come back, but a timer is due: the thread that it wakes wakes another, and settles.
    fn who_settles_later_is_not_served() {
        loom::model(|| {
            let world = World::new(2);
            world.first.settle(&world.settlers, &world.waits[0]);
            world.park(1);
            world.park(2);
            world.idle.announce(1, Role::Runner);
            let other = {
                let world = world.clone();
                thread::spawn(move || {
                    world.idle.retract(1);
                    world.wake(1);
                    world.wake(2);
                    world.second.settle(&world.settlers, &world.waits[2]);
                })
            };
            world.go_idle(0);
            other.join().unwrap();
            world.first.was_served(&world.settlers);
            assert!(!world.second.was_served(&world.settlers), "another was to run");
        });
    }

    /// A thread that has passed its worker on parks while that worker goes to sleep.
    fn who_parks_without_a_worker_is_seen() {
        loom::model(|| {
            let world = World::new(1);
            world.first.settle(&world.settlers, &world.waits[0]);
            world.park(1);
            wait::prepare(&world.waits[2]);
            let held = {
                let world = world.clone();
                thread::spawn(move || {
                    wait::commit(&world.waits[2]);
                    world.settlers.parked_without_worker(&world.idle)
                })
            };
            let mut seen = world.go_idle(0);
            if let Some(woken) = held.join().unwrap() {
                world.idle.retract(woken);
                world.idle.announce(woken, Role::Searcher);
                seen |= world.look();
            }
            assert_eq!(world.first.was_served(&world.settlers), seen);
            assert!(seen, "all are parked, and the settler sleeps");
        });
    }

    #[test]
    fn settle_last_looks() {
        check(the_last_to_sleep_looks);
    }

    #[test]
    fn settle_waits_for_who_comes_back() {
        check(who_comes_back_is_waited_for);
    }

    #[test]
    fn settle_waits_for_who_ends() {
        check(who_ends_is_waited_for);
    }

    #[test]
    fn settle_serves_who_was_there() {
        check(who_settles_later_is_not_served);
    }

    #[test]
    fn settle_sees_who_parks_without_a_worker() {
        check(who_parks_without_a_worker_is_seen);
    }

    #[test]
    fn mutant_settle_uncounted() {
        check_mutant(Mutant::SettleUncounted, the_last_to_sleep_looks);
    }

    #[test]
    fn mutant_wake_uncounted() {
        check_mutant(Mutant::WakeUncounted, who_comes_back_is_waited_for);
    }

    #[test]
    fn mutant_sleepers_first() {
        check_mutant(Mutant::SleepersFirst, who_comes_back_is_waited_for);
    }

    #[test]
    fn mutant_wake_unfenced() {
        check_mutant(Mutant::WakeUnfenced, who_ends_is_waited_for);
    }

    #[test]
    fn mutant_look_unlocked() {
        check_mutant(Mutant::LookUnlocked, who_settles_later_is_not_served);
    }

    #[test]
    fn mutant_held_silently() {
        check_mutant(Mutant::HeldSilently, who_parks_without_a_worker_is_seen);
    }

    #[test]
    fn mutant_held_unfenced() {
        check_mutant(Mutant::HeldUnfenced, who_parks_without_a_worker_is_seen);
    }
}
