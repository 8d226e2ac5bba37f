//! One heap with its slab, and one run, behind a lock.
//!
//! **Handles.** The shard numbers its entries in 64 bits and never repeats a number. A handle is the
//! place and the number; it is stale unless the entry in that place has that very number (T4).
//! The number is kept in halves, one in the heap's item, one in the slab's record, where there
//! was room: an entry costs 44 bytes in all, or 48 in the run, whose places have the top bit set.
//!
//! **Batches.** Expired entries are taken out [`BATCH`] at a time under the lock and given to the
//! sink without it: waking a thread takes longer than popping it, and inserts should not
//! wait for a flood of wake-ups.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use arrayvec::ArrayVec;
use gvt_traits::{TimerEntry, WakeTicket};

use crate::heap::{Heap, Item};
use crate::run::Run;
use crate::slab::{Record, Slab};

/// Entries that are taken out in one turn of the lock: 1 KiB of stack.
pub(crate) const BATCH: usize = 32;

/// Set in a place: the rest is an index of the run, modulo this.
const IN_RUN: u32 = 1 << 31;

/// Expired entries on their way to the sink.
pub(crate) type Batch = ArrayVec<TimerEntry, BATCH>;

/// What lies behind the lock.
pub(crate) struct Timers {
    heap: Heap,
    slab: Slab,
    run: Run,
    /// The number of the entry inserted last.
    number: u64,
}

impl Timers {
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.run.len()
    }

    /// The earliest deadline, `u64::MAX` also for none.
    pub(crate) fn earliest_ns(&self) -> u64 {
        let in_heap = self.heap.first().map_or(u64::MAX, |item| item.deadline_ns);
        self.run.first().map_or(in_heap, |item| item.deadline_ns.min(in_heap))
    }

    /// Files `entry`; returns its place and number.
    pub(crate) fn insert(&mut self, entry: TimerEntry) -> (u32, u64) {
        self.number += 1;
        if self.run.accepts(&entry) {
            let index = self.run.push(entry, self.number);
            return (index as u32 | IN_RUN, self.number);
        }
        let place = self.slab.insert(Record {
            sequence: entry.ticket.sequence,
            id: entry.ticket.id,
            number_high: (self.number >> 32) as u32,
            affinity: entry.affinity,
            kind: entry.kind,
        });
        let item = Item { deadline_ns: entry.deadline_ns, number_low: self.number as u32, place };
        self.heap.push(item, &mut self.slab);
        (place, self.number)
    }

    /// Takes out the entry in `place` if it is the one with this number.
    pub(crate) fn cancel(&mut self, place: u32, number: u64) -> Option<TimerEntry> {
        if place & IN_RUN != 0 {
            return self.run.cancel((place & !IN_RUN) as usize, IN_RUN as usize, number);
        }
        let position = self.slab.position(place)? as usize;
        let low = self.heap.get(position).number_low;
        let high = self.slab.record(place).number_high;
        if u64::from(high) << 32 | u64::from(low) != number {
            return None;
        }
        let item = self.heap.remove(position, &mut self.slab);
        Some(self.free(item))
    }

    /// Takes out entries that are due until `batch` is full or no more are due.
    pub(crate) fn take_due(&mut self, now_ns: u64, batch: &mut Batch) {
        batch.clear();
        while !batch.is_full() {
            let (in_heap, in_run) = (self.heap.first(), self.run.first());
            let run_is_next = in_run.is_some_and(|item| in_heap.is_none_or(|other| item.before(other)));
            let next = if run_is_next { in_run.as_ref() } else { in_heap };
            if next.is_none_or(|item| item.deadline_ns > now_ns) {
                return;
            }
            batch.push(if run_is_next {
                self.run.pop()
            } else {
                let item = self.heap.pop(&mut self.slab).expect("there is a first");
                self.free(item)
            });
        }
    }

    fn free(&mut self, item: Item) -> TimerEntry {
        let record = self.slab.remove(item.place);
        TimerEntry {
            deadline_ns: item.deadline_ns,
            ticket: WakeTicket { sequence: record.sequence, id: record.id },
            affinity: record.affinity,
            kind: record.kind,
        }
    }
}

/// A shard. Two cache lines of its own, since adjacent ones are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Shard {
    timers: Mutex<Timers>,
    /// How many entries it holds; written under the lock. Relaxed: a gauge, ordered for whoever
    /// inserted by coherence.
    pub(crate) len: AtomicUsize,
    /// Whether the lock's holder is expiring; written under the lock. Relaxed: only a hint on what
    /// to do about a lock that is taken.
    pub(crate) expiring: AtomicBool,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let timers = Timers { heap: Heap::new(), slab: Slab::default(), run: Run::default(), number: 0 };
        Shard { timers: Mutex::new(timers), len: AtomicUsize::new(0), expiring: AtomicBool::new(false) }
    }

    /// Takes the lock. Held for one operation or one batch, with preemption off (B1), so that only
    /// the kernel can stretch it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Timers> {
        // A poisoned lock means that a panic is on its way to abort the process (B3).
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock, unless another call is expiring this shard.
    pub(crate) fn lock_to_help(&self) -> Option<MutexGuard<'_, Timers>> {
        match self.timers.try_lock() {
            Ok(timers) => Some(timers),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if self.expiring.load(Relaxed) => None,
            Err(TryLockError::WouldBlock) => Some(self.lock()),
        }
    }
}
