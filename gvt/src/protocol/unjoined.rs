//! Threads of a scope without a join, for the scope's end to wait for depth first.
//!
//! **Hazard.** A scope that only counts its threads down leaves their order to the queue: a tree of threads
//! is then walked breadth first and needs a stack for each thread of a level. An explicit join lets the
//! awaited thread run first (`ReadyQueue::expedite`); the scope's end must do the same.
//!
//! **Protocol.** A handle that the scope's owner drops unjoined goes into a slot, replacing the oldest one;
//! the scope's end takes the newest first and waits for its thread. A slot holds a whole handle, so an
//! expedited record is never another thread's. **N1** The thread that exchanges a record out of a slot owns
//! the handle. Only the owner puts; the owner takes any, a thread only its own. **N2** A thread that ends
//! leaves its slot first, so that a slot keeps no ended thread's record: it publishes its result under the
//! packet's lock and then looks for itself; the owner puts under that lock, and only while there is no
//! result. Both are inside a section, so that neither is preempted with the lock.
//!
//! **Evidence.** loom `unjoined::*`; mutants `TakeHandleBlind` (N1 by a load and a store) and `LeaveFirst`
//! (N2, the look before the result) fail.
//!
//! There are few slots: they decide in which order threads run, never whether the scope may end (V3 of
//! `scope`).

use std::ptr;

use crate::protocol::atomics::{AtomicBool, AtomicPtr, AtomicUsize, Mutant, Ordering::*, mutant};

/// Handles that a scope keeps; a node of a tree rarely has more children.
const SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// The slots. A handle is kept as the pointer that it is made of; null for none.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Relaxed: N2's lock orders it for the one thread that it concerns.
    used: AtomicBool,
    /// Handles put minus handles taken by the scope's end; only the owner uses it.
    ///
    /// Relaxed: written and read by the owner alone.
    next: AtomicUsize,
    /// Relaxed: an exchange alone decides which thread owns a handle (N1), and that thread knows the record:
    /// the owner has put it, another thread compares with its own. N2's lock shows a thread its slot.
    slots: [AtomicPtr<()>; SLOTS],
}

impl Slots {
    /// Keeps a handle; returns the one that it replaces.
    ///
    /// Context: the owner.
    pub(crate) fn put(&self, handle: *mut ()) -> *mut () {
        let next = self.next.load(Relaxed);
        self.next.store(next.wrapping_add(1), Relaxed);
        self.used.store(true, Relaxed);
        self.slots[next % SLOTS].swap(handle, Relaxed)
    }

    /// The newest handle that is still kept.
    ///
    /// Context: the owner.
    pub(crate) fn take_newest(&self) -> *mut () {
        if !self.used.load(Relaxed) {
            return ptr::null_mut();
        }
        let mut taken = (0..SLOTS).map(|_| {
            let next = self.next.load(Relaxed).wrapping_sub(1);
            self.next.store(next, Relaxed);
            let slot = &self.slots[next % SLOTS];
            if mutant(Mutant::TakeHandleBlind) {
                let handle = slot.load(Relaxed);
                slot.store(ptr::null_mut(), Relaxed);
                return handle;
            }
            slot.swap(ptr::null_mut(), Relaxed)
        });
        taken.find(|handle| !handle.is_null()).unwrap_or(ptr::null_mut())
    }

    /// N2, by the thread of `mine`; `publish` publishes its result under the packet's lock. Returns its
    /// handle, if kept.
    pub(crate) fn leave(&self, mine: *mut (), publish: impl FnOnce()) -> *mut () {
        let is_mine = |slot: &&AtomicPtr<()>| slot.load(Relaxed) == mine;
        let find = || if self.used.load(Relaxed) { self.slots.iter().find(is_mine) } else { None };
        let early = if mutant(Mutant::LeaveFirst) { find() } else { None };
        publish();
        let slot = if mutant(Mutant::LeaveFirst) { early } else { find() };
        let is_taken =
            |slot: &AtomicPtr<()>| slot.compare_exchange(mine, ptr::null_mut(), Relaxed, Relaxed).is_ok();
        if slot.is_some_and(is_taken) { mine } else { ptr::null_mut() }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::{Arc, Mutex};

    fn handle() -> *mut () {
        ptr::without_provenance_mut(64)
    }

    /// The slots, and under the packet's lock whether there is a result. A thread ends meanwhile, and returns
    /// whether it got its handle.
    fn ending(world: &Arc<(Slots, Mutex<bool>)>) -> loom::thread::JoinHandle<bool> {
        let world = world.clone();
        loom::thread::spawn(move || {
            let publish = || *world.1.lock().unwrap() = true;
            !world.0.leave(handle(), publish).is_null()
        })
    }

    /// The owner takes the handle of a thread that ends: exactly one of them gets it.
    fn one_has_the_handle() {
        loom::model(|| {
            let world = Arc::new((Slots::default(), Mutex::new(false)));
            world.0.put(handle());
            let thread = ending(&world);
            let is_taken = !world.0.take_newest().is_null();
            assert!(thread.join().unwrap() != is_taken, "a handle has one owner");
        });
    }

    /// The owner drops the handle of a thread that ends: the slot does not keep it.
    fn no_ended_thread_is_kept() {
        loom::model(|| {
            let world = Arc::new((Slots::default(), Mutex::new(false)));
            let thread = ending(&world);
            let is_put = {
                let result = world.1.lock().unwrap();
                if !*result {
                    world.0.put(handle());
                }
                !*result
            };
            assert_eq!(thread.join().unwrap(), is_put, "an ended thread's place is kept");
        });
    }

    #[test]
    fn unjoined_has_one_owner() {
        check(one_has_the_handle);
    }

    #[test]
    fn unjoined_keeps_no_ended_thread() {
        check(no_ended_thread_is_kept);
    }

    #[test]
    fn mutant_take_handle_blind() {
        check_mutant(Mutant::TakeHandleBlind, one_has_the_handle);
    }

    #[test]
    fn mutant_leave_first() {
        check_mutant(Mutant::LeaveFirst, no_ended_thread_is_kept);
    }
}
