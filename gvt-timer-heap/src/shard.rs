//! One heap with its slab, the buckets behind it, and one run, behind a lock.
//!
//! **Handles.** The shard numbers its entries in 64 bits and never repeats a number. A handle is the
//! place and the number; it is stale unless the entry in that place has that very number (T4).
//! The number is kept in halves, one in the heap's item, one in the slab's record, where there
//! was room: an entry costs 44 bytes in all, a few more while far off, or 48 in the run, whose places have
//! the top bit set.
//!
//! **Batches.** Expired entries are taken out [`BATCH`] at a time under the lock and given to the
//! sink without it: waking a thread takes longer than popping it, and inserts should not
//! wait for a flood of wake-ups.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use arrayvec::ArrayVec;
use gvt_traits::{TimerEntry, WakeTicket};

use crate::far::Far;
use crate::heap::{Heap, Item};
use crate::run::Run;
use crate::slab::{FAR, Record, Slab};

/// Entries that are taken out in one turn of the lock: 1 KiB of stack.
pub(crate) const BATCH: usize = 32;

/// With so many in the heap, which fit a core's cache with their positions, others wait in buckets if they
/// can.
const NEAR: usize = 1 << 11;

/// Set in a place: the rest is an index of the run, modulo this.
const IN_RUN: u32 = 1 << 31;

/// Expired entries on their way to the sink.
pub(crate) type Batch = ArrayVec<TimerEntry, BATCH>;

/// What lies behind the lock.
pub(crate) struct Timers {
    heap: Heap,
    far: Far,
    slab: Slab,
    run: Run,
    /// The number of the entry inserted last.
    number: u64,
}

impl Timers {
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.far.len() + self.run.len()
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
        if self.heap.len() >= NEAR && self.is_far(item.deadline_ns) {
            self.far.push(item, &mut self.slab);
        } else {
            self.heap.push(item, &mut self.slab);
        }
        (place, self.number)
    }

    fn is_far(&mut self, deadline_ns: u64) -> bool {
        let earliest = self.heap.first();
        earliest.is_some_and(|earliest| self.far.accepts(deadline_ns, earliest.deadline_ns))
    }

    /// Takes out the entry in `place` if it is the one with this number.
    pub(crate) fn cancel(&mut self, place: u32, number: u64) -> Option<TimerEntry> {
        if place & IN_RUN != 0 {
            return self.run.cancel((place & !IN_RUN) as usize, IN_RUN as usize, number);
        }
        let position = self.slab.position(place)?;
        let is_far = position & FAR != 0;
        let item = if is_far { self.far.get(position) } else { self.heap.get(position as usize) };
        let high = self.slab.record(place).number_high;
        if u64::from(high) << 32 | u64::from(item.number_low) != number {
            return None;
        }
        if is_far {
            self.far.remove(position, &mut self.slab);
        } else {
            self.heap.remove(position as usize, &mut self.slab);
            self.refill();
        }
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
                self.refill();
                self.free(item)
            });
        }
    }

    /// F1 of `far`, after an item was taken from the heap.
    #[inline]
    fn refill(&mut self) {
        let earliest_ns = self.heap.first().map_or(u64::MAX, |item| item.deadline_ns);
        if earliest_ns >= self.far.begins_ns() {
            self.pour(earliest_ns);
        }
    }

    #[inline(never)]
    fn pour(&mut self, mut earliest_ns: u64) {
        while self.far.len() > 0 && earliest_ns >= self.far.begins_ns() {
            for item in self.far.pour() {
                // Fetched here, where one need not wait for the other: soon they are taken out one by one.
                std::hint::black_box(self.slab.record(item.place).sequence);
                self.heap.push(item, &mut self.slab);
            }
            earliest_ns = self.heap.first().map_or(u64::MAX, |item| item.deadline_ns);
        }
        if self.heap.len() == 0 {
            self.far.shrink();
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
    /// How many entries it holds; written under the lock. Relaxed: a gauge; coherence
    /// orders it for the thread that inserted.
    pub(crate) len: AtomicUsize,
    /// Whether the lock's holder is expiring; written under the lock. Relaxed: only a hint on what
    /// to do about a lock that is taken.
    pub(crate) expiring: AtomicBool,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let timers = Timers {
            heap: Heap::new(),
            far: Far::default(),
            slab: Slab::default(),
            run: Run::default(),
            number: 0,
        };
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gvt_traits::{GvtId, TimerType, WorkerId};

    use super::*;

    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }

    fn entry(sequence: u64, deadline_ns: u64) -> TimerEntry {
        TimerEntry {
            deadline_ns,
            ticket: WakeTicket { sequence, id: GvtId::new(0) },
            affinity: WorkerId::NONE,
            kind: TimerType::Deadline,
        }
    }

    /// Heap and buckets together give what a sorted map gives, in the same order, and know at any time
    /// which is the earliest.
    #[test]
    fn as_a_sorted_map() {
        const SECOND: u64 = 1_000_000_000;
        for seed in 1..=6 {
            let mut dice = Dice(seed);
            let shard = Shard::new();
            let mut timers = shard.lock();
            let mut model: BTreeMap<(u64, u64), (u32, u64)> = BTreeMap::new();
            let mut now_ns = 0;
            let mut was_far = 0;
            // It grows, then shrinks, twice.
            for step in 0..60_000_u64 {
                let grows = step % 30_000 < 15_000;
                match dice.roll(10) {
                    0..8 if grows => {
                        let spread = [SECOND / 1000, SECOND, 10 * SECOND, 60 * SECOND][dice.roll(4) as usize];
                        let deadline_ns =
                            if dice.roll(100) == 0 { u64::MAX } else { now_ns + dice.roll(spread) };
                        let handle = timers.insert(entry(step, deadline_ns));
                        model.insert((deadline_ns, step), handle);
                    }
                    0..9 => {
                        let from = (now_ns + dice.roll(20 * SECOND), 0);
                        let Some((&key, &(place, number))) = model.range(from..).next() else { continue };
                        assert!(timers.cancel(place, number + 1).is_none(), "seed {seed}, step {step}");
                        let cancelled =
                            timers.cancel(place, number).map(|it| (it.deadline_ns, it.ticket.sequence));
                        assert_eq!(cancelled, Some(key), "seed {seed}, step {step}");
                        assert!(timers.cancel(place, number).is_none(), "seed {seed}, step {step}");
                        model.remove(&key);
                    }
                    _ => {
                        now_ns += dice.roll(SECOND / 500);
                        let mut batch = Batch::new();
                        timers.take_due(now_ns, &mut batch);
                        for given in &batch {
                            let (first, _) = model.pop_first().expect("it holds no more than the model");
                            assert_eq!(
                                (given.deadline_ns, given.ticket.sequence),
                                first,
                                "seed {seed}, step {step}"
                            );
                        }
                        let more = model.keys().next().is_some_and(|&(deadline_ns, _)| deadline_ns <= now_ns);
                        assert!(batch.is_full() || !more, "seed {seed}, step {step}");
                    }
                }
                assert_eq!(timers.len(), model.len(), "seed {seed}, step {step}");
                let earliest_ns = model.keys().next().map_or(u64::MAX, |&(deadline_ns, _)| deadline_ns);
                assert_eq!(timers.earliest_ns(), earliest_ns, "seed {seed}, step {step}");
                was_far = was_far.max(timers.far.len());
            }
            assert!(was_far > 1_000, "seed {seed}: the buckets were hardly used: {was_far}");
        }
    }
}
