//! Threads that many senders bring to one OS thread, and the OS thread as it leaves and comes home.
//!
//! **Hazard.** A sender brings a thread to an OS thread that is busy, and leaves it in the mailbox, just as
//! that OS thread finds the mailbox empty and goes to sleep. **Hazard.** Two senders find the OS thread at
//! home at once, and both pass it their worker.
//!
//! **Protocol.** **A1** The list is a Treiber stack: an arrival is pushed by compare-exchange with a link to
//! the one before it; only the owner takes, and takes all. So no record is read after it was taken, and no
//! address is compared with one that left and came back (ABA). **A2** A sender that finds the owner at home,
//! by exchange, passes it a worker. **A3** Otherwise it pushes the thread, fence, and tries A2 again. **A4**
//! An owner that goes home says so, fence, and takes what the list holds. So of an arrival and a return home
//! at the same time, one sees the other.
//!
//! Pushing allocates nothing, takes no lock and loops only while others push, so signal handlers may do it.
//!
//! **Evidence.** loom `arrival_meets_return`; mutants `PushRelaxed`, `DrainRelaxed` (A1), `TakeBlind` (A2),
//! `NoSecondLook` (A3) and `HomeLast` (A4 in the wrong order) fail it. No model can miss A4's fence: both
//! sides end with a read-modify-write, which in loom, as on x86, reads the newest value.

use std::ptr;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicBool, AtomicPtr, Mutant, fence, mutant};

/// An item of a mailbox.
pub(crate) trait Linked {
    /// The link to the one that arrived before it. Ordered by the mailbox.
    fn next(&self) -> *mut Self;
    fn set_next(&self, next: *mut Self);
}

/// A list with many producers and one consumer (A1).
pub(crate) struct Mailbox<T> {
    newest: AtomicPtr<T>,
}

impl<T: Linked> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Mailbox { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether the list holds any. Acquire: with a fence before it this is A4's look.
    pub(crate) fn has_any(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release in `push`.
        !self.newest.load(Acquire).is_null()
    }

    /// Adds an item that is in no list. Ends with a full fence.
    pub(crate) fn push(&self, item: &T) {
        let mut newest = self.newest.load(Relaxed);
        loop {
            item.set_next(newest);
            // ORDERING O1: Release pairs with the Acquire in `drain`: the link, and what the sender did to
            // the thread, are seen.
            let publish = if mutant(Mutant::PushRelaxed) { Relaxed } else { Release };
            match self.newest.compare_exchange_weak(newest, ptr::from_ref(item).cast_mut(), publish, Relaxed)
            {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        // ORDERING O2: SeqCst: A3, pairs with the fences of A4 and of `idle`'s announcement.
        fence(SeqCst);
    }

    /// Takes all items and puts them before `first`, oldest first; the caller owns them.
    ///
    /// # Safety
    ///
    /// **C1**: every pushed item is alive, and in no other list.
    pub(crate) unsafe fn drain(&self, first: &mut *mut T) {
        // ORDERING O1: Acquire pairs with the Release in `push`.
        let take = if mutant(Mutant::DrainRelaxed) { Relaxed } else { Acquire };
        let mut next = self.newest.swap(ptr::null_mut(), take);
        // SAFETY: C1.
        while let Some(item) = unsafe { next.as_ref() } {
            next = item.next();
            item.set_next(*first);
            *first = ptr::from_ref(item).cast_mut();
        }
    }
}

/// A mailbox, and whether its owner, an OS thread, waits at home.
pub(crate) struct Door<T> {
    at_home: AtomicBool,
    pub(crate) arrivals: Mailbox<T>,
}

impl<T: Linked> Door<T> {
    /// The state of an OS thread that is away.
    pub(crate) fn new() -> Self {
        Door { at_home: AtomicBool::new(false), arrivals: Mailbox::new() }
    }

    /// A2: whether the owner was at home; the caller must then pass it a worker.
    pub(crate) fn claim(&self) -> bool {
        if mutant(Mutant::TakeBlind) {
            let was = self.at_home.load(SeqCst);
            self.at_home.store(false, SeqCst);
            return was;
        }
        // ORDERING O3: SeqCst, with the fence before it in A3, pairs with A4's store and fence.
        self.at_home.compare_exchange(true, false, SeqCst, SeqCst).is_ok()
    }

    /// A3: leaves `item` in the mailbox; whether the owner has come home meanwhile, like
    /// [`claim`](Self::claim).
    pub(crate) fn leave(&self, item: &T) -> bool {
        self.arrivals.push(item);
        !mutant(Mutant::NoSecondLook) && self.claim()
    }

    /// A4: the owner goes home; what is in the mailbox is put before `first`, as by [`Mailbox::drain`]. Owner
    /// only.
    ///
    /// # Safety
    ///
    /// C1 of [`Mailbox::drain`].
    pub(crate) unsafe fn go_home(&self, first: &mut *mut T) {
        if mutant(Mutant::HomeLast) {
            // SAFETY: C1.
            unsafe { self.arrivals.drain(first) };
        }
        // ORDERING O3: the store and the fence pair with `push`'s fence and with `claim`.
        self.at_home.store(true, SeqCst);
        fence(SeqCst);
        if !mutant(Mutant::HomeLast) {
            // SAFETY: C1.
            unsafe { self.arrivals.drain(first) };
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;

    use super::*;
    use crate::protocol::atomics::{check, check_mutant};

    /// A thread with plain cells: only the list's ordering makes them readable.
    struct Item {
        next: UnsafeCell<*mut Item>,
        said: UnsafeCell<u32>,
    }

    // SAFETY: loom checks every access.
    unsafe impl Sync for Item {}
    // SAFETY: as above.
    unsafe impl Send for Item {}

    impl Linked for Item {
        fn next(&self) -> *mut Item {
            // SAFETY: loom checks.
            self.next.with(|next| unsafe { *next })
        }

        fn set_next(&self, to: *mut Item) {
            // SAFETY: loom checks.
            self.next.with_mut(|next| unsafe { *next = to });
        }
    }

    struct World {
        door: Door<Item>,
        items: [Item; 2],
        /// Workers passed to the owner.
        passed: AtomicUsize,
    }

    /// Two senders bring a thread each while the owner goes home: it gets both threads, from the mailbox or
    /// with a worker, and one worker at most.
    fn arrival_meets_return() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let item = || Item { next: UnsafeCell::new(ptr::null_mut()), said: UnsafeCell::new(0) };
            let world =
                Arc::new(World { door: Door::new(), items: [item(), item()], passed: AtomicUsize::new(0) });
            let bring = |number: usize| {
                let world = world.clone();
                loom::thread::spawn(move || {
                    let item = &world.items[number];
                    // SAFETY: loom checks.
                    item.said.with_mut(|said| unsafe { *said = 1 });
                    // The real sender passes the thread with the worker if A2 succeeds at once.
                    if world.door.leave(item) {
                        world.passed.fetch_add(1, Relaxed);
                    }
                })
            };
            let others = [bring(0), bring(1)];
            let mut got = 0;
            let mut look = |mut first: *mut Item| {
                // SAFETY: taken from the list, so the owner's.
                while let Some(item) = unsafe { first.as_ref() } {
                    // SAFETY: loom checks.
                    item.said.with(|said| assert_eq!(unsafe { *said }, 1));
                    first = item.next();
                    got += 1;
                }
            };
            let mut first = ptr::null_mut();
            // SAFETY: C1: items live as long as the world, and each is brought once.
            unsafe { world.door.go_home(&mut first) };
            look(first);
            others.into_iter().for_each(|other| other.join().unwrap());
            let passed = world.passed.load(Relaxed);
            assert!(passed <= 1, "passed {passed} workers");
            // With a worker it looks into the mailbox again (L4 of `pinned`).
            if passed == 1 {
                let mut first = ptr::null_mut();
                // SAFETY: C1: as above.
                unsafe { world.door.arrivals.drain(&mut first) };
                look(first);
            }
            assert_eq!(got, 2, "somebody waits at the door of an OS thread that sleeps");
        });
    }

    #[test]
    fn arrivals_meet_return() {
        check(arrival_meets_return);
    }

    #[test]
    fn mutant_push_relaxed() {
        check_mutant(Mutant::PushRelaxed, arrival_meets_return);
    }

    #[test]
    fn mutant_drain_relaxed() {
        check_mutant(Mutant::DrainRelaxed, arrival_meets_return);
    }

    #[test]
    fn mutant_take_blind() {
        check_mutant(Mutant::TakeBlind, arrival_meets_return);
    }

    #[test]
    fn mutant_no_second_look() {
        check_mutant(Mutant::NoSecondLook, arrival_meets_return);
    }

    #[test]
    fn mutant_home_last() {
        check_mutant(Mutant::HomeLast, arrival_meets_return);
    }
}
