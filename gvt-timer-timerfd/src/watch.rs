//! When the alarm is set: by a worker that is about to wait, and by inserts while one may wait.
//!
//! **Hazard.** A worker looks for the earliest deadline, sets the alarm by it and waits. An insert
//! that comes in between, or while it waits, must set the alarm earlier, or its entry is late
//! by as much as the wait is long (T7). But an insert while nobody waits must not cost a
//! system call.
//!
//! **State.** `threshold`: an insert below it must see to the alarm. It is 0 while nobody waits.
//! `set_to`, behind a lock: what the alarm was set to last.
//!
//! ```text
//!                    prepare                       an expire at or past `threshold`
//!   nobody waits  ──────────────►  somebody may  ────────────────────────────────► nobody waits
//!   threshold 0                    threshold = set_to                              (alarm rings)
//!                                    ▲       │
//!                                    └───────┘ insert below: sets the alarm earlier
//! ```
//!
//! **Protocol.** The backend publishes its earliest deadline in words that anybody may read.
//! - Insert: P1 publish (the wrapped backend), full fence, read `threshold`. P2 if the deadline is
//!   below: lock, read the earliest deadline, set the alarm if that is earlier than `set_to`.
//! - Wait: P3 lock, `threshold` = `u64::MAX`, full fence, read the earliest deadline, set the alarm
//!   if it differs from `set_to`, `threshold` = that. The fences are totally ordered, so the
//!   insert sees P3's `threshold`, or P3 sees the insert's deadline. Only P3 sets the alarm later,
//!   since only P3 makes every insert look.
//! - Expire: P4 if the present has reached `threshold`, lock, look again, `threshold` = 0.
//!
//! **The descriptor is never read.** An alarm that has rung keeps ringing until P3 sets it anew,
//! which clears it. So P4 loses no wake-up even if it is another worker than the waiting one that
//! expires: the waiter comes back, finds nothing due, and prepares its next wait. And while all
//! workers are busy, timers cost no system call at all.
//!
//! **Rejected.** Reading the descriptor in `expire`: a call more for each wake-up, and a waiter that
//! has not left the kernel yet goes back to sleep with the alarm cleared. Setting the alarm at
//! each change of the earliest deadline: two calls for each timer of a busy runtime. Setting it
//! later in `cancel`: a call for each request that ends in time.
//!
//! **Not covered.** A cancelled deadline may wake the waiter once for nothing. Times ahead of
//! `CLOCK_MONOTONIC` in `expire` void P4, which takes it that the alarm has rung.
//!
//! **Evidence.** loom models below, with the mutants in `sync`; laws `t7_descriptor`, `t6_quiet`.

use crate::alarm::Alarm;
use crate::sync::{AtomicU64, Mutant, Mutex, Ordering::Relaxed, Ordering::SeqCst, fence, mutant};

/// Keeps the alarm early enough for the worker that waits.
pub(crate) struct Watch<A> {
    alarm: A,
    /// Inserts below this see to the alarm; 0 while nobody waits. Written under the lock.
    ///
    /// Relaxed: P1 and P3 order it by their fences, and P2 and P4 look again under the lock.
    threshold: AtomicU64,
    set_to: Mutex<Option<u64>>,
}

impl<A: Alarm> Watch<A> {
    /// Watches an alarm that is not set.
    pub(crate) fn new(alarm: A) -> Self {
        Watch { alarm, threshold: AtomicU64::new(0), set_to: Mutex::new(None) }
    }

    pub(crate) fn alarm(&self) -> &A {
        &self.alarm
    }

    /// P1 and P2, after the entry was inserted. `earliest` reads the earliest deadline.
    #[inline]
    pub(crate) fn inserted(&self, deadline_ns: u64, earliest: impl FnOnce() -> Option<u64>) {
        if !mutant(Mutant::InsertFence) {
            // ORDERING O1: pairs with O2 in `prepare`.
            fence(SeqCst);
        }
        if deadline_ns < self.threshold.load(Relaxed) {
            self.set_earlier(deadline_ns, earliest);
        }
    }

    #[cold]
    fn set_earlier(&self, deadline_ns: u64, earliest: impl FnOnce() -> Option<u64>) {
        let mut set_to = self.set_to.lock().unwrap();
        if self.threshold.load(Relaxed) == 0 {
            // The alarm rings, and the worker that waits looks for itself.
            return;
        }
        let wanted = if mutant(Mutant::LaterOverwrites) { Some(deadline_ns) } else { earliest() };
        // `None`: expired or cancelled by now.
        let Some(wanted) = wanted else { return };
        if set_to.is_none_or(|set_to| wanted < set_to) || mutant(Mutant::LaterOverwrites) {
            self.alarm.set(Some(wanted));
            *set_to = Some(wanted);
            self.threshold.store(wanted, Relaxed);
        }
    }

    /// P3: a worker is about to wait for the alarm.
    pub(crate) fn prepare(&self, earliest: impl FnOnce() -> Option<u64>) {
        let mut set_to = self.set_to.lock().unwrap();
        if !mutant(Mutant::Announce) {
            self.threshold.store(u64::MAX, Relaxed);
        }
        if !mutant(Mutant::WaitFence) {
            // ORDERING O2: pairs with O1 in `inserted`.
            fence(SeqCst);
        }
        let wanted = earliest();
        if *set_to != wanted {
            self.alarm.set(wanted);
            *set_to = wanted;
        }
        // A deadline of 0 has passed: the alarm rings, and 0 is the right threshold too.
        self.threshold.store(wanted.unwrap_or(u64::MAX), Relaxed);
    }

    /// P4, after entries that are due at `now_ns` were given out.
    #[inline]
    pub(crate) fn expired(&self, now_ns: u64) {
        let threshold = self.threshold.load(Relaxed);
        if threshold != 0 && threshold <= now_ns {
            self.retire(now_ns);
        }
    }

    #[cold]
    fn retire(&self, now_ns: u64) {
        let _set_to = self.set_to.lock().unwrap();
        if self.threshold.load(Relaxed) <= now_ns || mutant(Mutant::RetireUnchecked) {
            self.threshold.store(0, Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Notes what it is set to.
    #[derive(Default)]
    struct Notes(RefCell<Vec<Option<u64>>>);

    impl Alarm for Notes {
        fn set(&self, time_ns: Option<u64>) {
            self.0.borrow_mut().push(time_ns);
        }
    }

    #[test]
    fn set_only_for_waiters_and_only_when_the_earliest_changes() {
        let watch = Watch::new(Notes::default());
        let notes = || std::mem::take(&mut *watch.alarm().0.borrow_mut());
        watch.inserted(10, || Some(10));
        watch.expired(100);
        assert_eq!(notes(), [], "nobody waits");
        watch.prepare(|| None);
        assert_eq!(notes(), [], "nothing to wait for, and it was not set");
        watch.inserted(50, || Some(50));
        watch.inserted(60, || Some(50));
        watch.inserted(40, || Some(40));
        assert_eq!(notes(), [Some(50), Some(40)]);
        watch.prepare(|| Some(40));
        watch.prepare(|| Some(40));
        watch.expired(39);
        assert_eq!(notes(), [], "it is set already");
        watch.inserted(39, || Some(39));
        assert_eq!(notes(), [Some(39)], "an early `expire` leaves the waiter its watch");
        watch.expired(41);
        watch.inserted(20, || Some(20));
        watch.expired(60);
        assert_eq!(notes(), [], "it rings: no need to set it");
        watch.prepare(|| Some(90));
        watch.prepare(|| None);
        assert_eq!(notes(), [Some(90), None]);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::MUTANT;
    use loom::{sync::Arc, thread};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const NEVER: u64 = u64::MAX;

    struct Bell(AtomicU64);

    impl Alarm for Bell {
        fn set(&self, time_ns: Option<u64>) {
            self.0.store(time_ns.unwrap_or(NEVER), Relaxed);
        }
    }

    /// The wrapped backend, reduced to the word that it publishes, and the watch.
    struct Timers {
        earliest: AtomicU64,
        watch: Watch<Bell>,
    }

    impl Timers {
        fn new() -> Arc<Self> {
            let watch = Watch::new(Bell(AtomicU64::new(NEVER)));
            Arc::new(Timers { earliest: AtomicU64::new(NEVER), watch })
        }

        fn earliest(&self) -> Option<u64> {
            Some(self.earliest.load(Relaxed)).filter(|&earliest| earliest != NEVER)
        }

        fn insert(&self, deadline: u64) {
            self.earliest.fetch_min(deadline, Relaxed);
            self.watch.inserted(deadline, || self.earliest());
        }

        fn idle_wait(&self) {
            self.watch.prepare(|| self.earliest());
        }

        /// Everything up to `now` goes out; `next` is what is left.
        fn expire(&self, now: u64, next: u64) {
            self.earliest.store(next, Relaxed);
            self.watch.expired(now);
        }

        /// T7: the worker that waits is woken by `deadline`.
        fn assert_rings_by(&self, deadline: u64) {
            assert!(self.watch.alarm().0.load(Relaxed) <= deadline, "T7: nobody is woken for {deadline}");
        }
    }

    fn insert_against_wait() {
        loom::model(|| {
            let timers = Timers::new();
            let other = timers.clone();
            let inserter = thread::spawn(move || other.insert(5));
            timers.idle_wait();
            inserter.join().unwrap();
            timers.assert_rings_by(5);
        });
    }

    fn two_inserts_while_one_waits() {
        loom::model(|| {
            let timers = Timers::new();
            timers.insert(100);
            timers.idle_wait();
            let inserters = [5, 7].map(|deadline| {
                let timers = timers.clone();
                thread::spawn(move || timers.insert(deadline))
            });
            inserters.into_iter().for_each(|inserter| inserter.join().unwrap());
            timers.assert_rings_by(5);
        });
    }

    fn expire_against_the_next_wait() {
        loom::model(|| {
            let timers = Timers::new();
            timers.insert(10);
            timers.idle_wait();
            let busy = timers.clone();
            let busy = thread::spawn(move || busy.expire(10, 50));
            // The waiter has been woken, and prepares its next wait.
            timers.expire(10, 50);
            timers.idle_wait();
            busy.join().unwrap();
            // It rings for 10 still, or this sets it for 20.
            timers.insert(20);
            timers.assert_rings_by(20);
        });
    }

    const MODELS: [fn(); 3] =
        [insert_against_wait, two_inserts_while_one_waits, expire_against_the_next_wait];

    /// One test, since what is left out is one for the whole process.
    #[test]
    fn no_wake_up_is_lost_and_each_step_is_needed() {
        let all_hold = || MODELS.iter().for_each(|model| model());
        all_hold();
        for step in [
            Mutant::InsertFence,
            Mutant::WaitFence,
            Mutant::Announce,
            Mutant::LaterOverwrites,
            Mutant::RetireUnchecked,
        ] {
            MUTANT.store(step as u8, Relaxed);
            let caught = MODELS.iter().any(|model| catch_unwind(AssertUnwindSafe(model)).is_err());
            MUTANT.store(0, Relaxed);
            assert!(caught, "no model notices that {step:?} is left out");
            // A model that failed has left nothing behind that makes others fail.
            all_hold();
        }
    }
}
