//! The threads of a scope that nobody joins, for the scope's end to wait for depth first.
//!
//! **Hazard.** A scope that only counts its threads down leaves their order to the queue: a tree of threads is then walked
//! breadth first and has a stack for each thread of a level. An explicit join lets the awaited thread go first
//! (`ReadyQueue::expedite`); so must the scope's end.
//!
//! **Protocol.** A handle that the scope's owner drops unjoined goes into a slot, in the place of the oldest one; the scope's end
//! takes the newest first and waits for its thread. A slot holds a whole handle, so the record of what is expedited is
//! never another thread's. **N1** Who exchanges a record out of a slot owns the handle. Only the owner puts; the owner takes
//! any, a thread its own. **N2** A thread that ends leaves its slot first, so that a slot keeps no ended thread's place: it publishes its
//! result under the packet's lock and then looks for itself; the owner puts under that lock, and only while there is no
//! result. Both inside a section, so that nobody is preempted with the lock.
//!
//! The slots are few: they decide in which order threads run, never whether the scope may end (V3 of `scope`).

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

use crate::kernel::thread::record::Record;
use crate::thread::join_handle::JoinHandle;

/// Handles that a scope keeps; more children than that are rarely a tree.
const SLOTS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Unjoined {
    /// Relaxed: N2's lock orders it against the one thread that it concerns.
    used: AtomicBool,
    /// Handles put less handles taken by the scope's end; only the owner's.
    ///
    /// Relaxed: written and read by the owner alone.
    next: AtomicUsize,
    /// Relaxed: an exchange alone decides who owns a handle (N1), and that one knows the record already: the owner
    /// has put it, a thread compares with its own. N2's lock shows a thread its slot.
    slots: [AtomicPtr<Record>; SLOTS],
}

impl Unjoined {
    /// Keeps the handle of a thread that has no result yet (N2). Returns one that is no longer kept, for the caller to drop.
    ///
    /// Context: the scope's owner.
    pub(crate) fn put(&self, handle: JoinHandle<()>) -> Option<JoinHandle<()>> {
        let next = self.next.load(Relaxed);
        self.next.store(next.wrapping_add(1), Relaxed);
        self.used.store(true, Relaxed);
        handle_of(self.slots[next % SLOTS].swap(handle.into_record().as_ptr(), Relaxed))
    }

    /// The newest handle that is still kept.
    ///
    /// Context: the scope's owner.
    pub(crate) fn take_newest(&self) -> Option<JoinHandle<()>> {
        if !self.used.load(Relaxed) {
            return None;
        }
        (0..SLOTS).find_map(|_| {
            let next = self.next.load(Relaxed).wrapping_sub(1);
            self.next.store(next, Relaxed);
            handle_of(self.slots[next % SLOTS].swap(ptr::null_mut(), Relaxed))
        })
    }

    /// N2: the running thread `me` has published its result. Returns its handle, if it is kept.
    pub(crate) fn leave(&self, me: &Record) -> Option<JoinHandle<()>> {
        if !self.used.load(Relaxed) {
            return None;
        }
        let me = ptr::from_ref(me).cast_mut();
        let slot = self.slots.iter().find(|slot| slot.load(Relaxed) == me)?;
        slot.compare_exchange(me, ptr::null_mut(), Relaxed, Relaxed).ok().and_then(handle_of)
    }
}

/// The handle that a slot held.
fn handle_of(record: *mut Record) -> Option<JoinHandle<()>> {
    // SAFETY: `put` made it from a `JoinHandle<()>`, which is the caller's since the exchange (N1): C1 of `from_record`.
    NonNull::new(record).map(|record| unsafe { JoinHandle::from_record(record.as_ref()) })
}
