//! An OS thread's residents (`pinned`), and the list of those that can run.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::*};

use crate::kernel::thread::record::Record;
use crate::protocol::mailbox::{Door, Linked};

/// An OS thread's part.
pub(crate) struct Home {
    /// Number of residents. Written by the OS thread itself.
    residents: AtomicU32,
    /// How many of them are pinned.
    pub(crate) pinned: AtomicU32,
    /// A pinned thread has ended here.
    pub(crate) spent: AtomicBool,
    /// Residents that can run, as left by other workers.
    pub(crate) door: Door<Record>,
    /// Those already taken from the door, oldest first: the OS thread's own list.
    pub(crate) turns: AtomicPtr<Record>,
}

/// The link is a field for reports about waits; a thread in a list does not wait. Relaxed: ordered by the
/// lists.
impl Linked for Record {
    fn next(&self) -> *mut Record {
        self.meta.blocked_since_ns.load(Relaxed) as *mut Record
    }

    fn set_next(&self, next: *mut Record) {
        self.meta.blocked_since_ns.store(next as u64, Relaxed);
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Home {
            residents: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
            spent: AtomicBool::new(false),
            door: Door::new(),
            turns: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// For the next OS thread of this entry.
    pub(crate) fn reset(&self) {
        self.spent.store(false, Relaxed);
    }

    /// Relaxed: the OS thread's own number; a hint for others.
    pub(crate) fn has_residents(&self) -> bool {
        self.residents.load(Relaxed) != 0
    }

    /// Whether the OS thread must end. Relaxed: its own flag.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Relaxed) && !self.has_residents()
    }

    /// Whether a resident can run.
    pub(crate) fn has_bound(&self) -> bool {
        self.door.arrivals.has_any() || !self.turns.load(Relaxed).is_null()
    }

    pub(crate) fn add(&self, count: i32) {
        self.residents.store(self.residents.load(Relaxed).wrapping_add_signed(count), Relaxed);
    }

    /// L4 of `pinned`: the resident that became ready first. Only for the OS thread itself.
    pub(crate) fn take(&self) -> Option<&'static Record> {
        if self.turns.load(Relaxed).is_null() {
            let mut first = ptr::null_mut();
            // SAFETY: C1: records outlive their threads; a thread has one turn at a time.
            unsafe { self.door.arrivals.drain(&mut first) };
            self.turns.store(first, Relaxed);
        }
        self.next_turn()
    }

    pub(crate) fn next_turn(&self) -> Option<&'static Record> {
        // SAFETY: null, or a record, which outlives its thread.
        let first = unsafe { self.turns.load(Relaxed).as_ref() }?;
        self.turns.store(first.next(), Relaxed);
        Some(first)
    }
}
