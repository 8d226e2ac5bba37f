//! Deadlines in a sorted map for each worker: the default order.
//!
//! **Protocol.** An entry goes to the shard of its affinity, so that workers meet only to expire. Under its
//! lock a shard publishes its earliest deadline and how many it holds, in words that anybody may read (T5,
//! B6; P1 of `watch`).
//!
//! A handle is the entry's key: its deadline, its number and its shard. Numbers are not used twice, so a
//! stale one finds nothing.
//!
//! **Rejected.** A heap with places, as in the backends that are made for speed: `cancel` needs a second
//! structure that says where an entry is. A map is one, of the standard library, and costs some tenths of a
//! microsecond more with many timers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gvt_traits::{Factory, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerId};

/// Configures a [`SortedBackend`]; there is nothing to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sorted;

impl Factory for Sorted {
    type Output = SortedBackend;

    fn build(&self, plan: &Plan) -> Result<SortedBackend, SchedError> {
        Ok(SortedBackend { shards: (0..=plan.workers).map(|_| Shard::default()).collect() })
    }
}

/// A sorted map of deadlines a worker. Takes O(log n) for each operation.
#[derive(Debug)]
pub struct SortedBackend {
    /// One a worker, then one for entries without affinity.
    shards: Box<[Shard]>,
}

#[repr(align(64))]
#[derive(Debug)]
struct Shard {
    timers: Mutex<Timers>,
    /// The earliest deadline; `u64::MAX` also for none. Written under the lock.
    ///
    /// Relaxed: it says when to look under the lock, which orders the rest; P1 of `watch` orders it against a
    /// waiter.
    earliest: AtomicU64,
    /// Relaxed: as `earliest`.
    len: AtomicUsize,
}

impl Default for Shard {
    fn default() -> Self {
        Shard { timers: Mutex::default(), earliest: AtomicU64::new(u64::MAX), len: AtomicUsize::new(0) }
    }
}

#[derive(Debug, Default)]
struct Timers {
    /// By deadline, then by number: equal deadlines come out in the order of insertion.
    entries: BTreeMap<(u64, u64), TimerEntry>,
    inserted: u64,
}

/// Bits of a handle's generation that name the shard; above them is the entry's number.
const SHARD_BITS: u32 = 8;

const _: () = assert!(gvt_traits::MAX_WORKERS < 1 << SHARD_BITS);

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the lock is released, after each change.
    fn publish(&self, timers: &Timers) {
        let earliest =
            timers.entries.first_key_value().map_or(u64::MAX, |(&(deadline_ns, _), _)| deadline_ns);
        self.earliest.store(earliest, Relaxed);
        self.len.store(timers.entries.len(), Relaxed);
    }

    fn may_be_due(&self, now_ns: u64) -> bool {
        self.earliest.load(Relaxed) <= now_ns && self.len.load(Relaxed) > 0
    }

    fn expire(&self, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let mut timers = self.lock();
        let mut given = 0;
        while let Some(first) = timers.entries.first_entry().filter(|first| first.key().0 <= now_ns) {
            sink(first.remove());
            given += 1;
        }
        self.publish(&timers);
        given
    }
}

impl SortedBackend {
    fn shard_of(&self, worker: WorkerId) -> usize {
        let outside = self.shards.len() - 1;
        worker.index().map_or(outside, |index| index.min(outside))
    }
}

impl TimerBackend for SortedBackend {
    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let index = self.shard_of(entry.affinity);
        let shard = &self.shards[index];
        let mut timers = shard.lock();
        let number = timers.inserted;
        timers.inserted += 1;
        timers.entries.insert((entry.deadline_ns, number), entry);
        shard.publish(&timers);
        TimerHandle { place: entry.deadline_ns, generation: number << SHARD_BITS | index as u64 }
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let index = handle.generation & ((1 << SHARD_BITS) - 1);
        let shard = self.shards.get(index as usize)?;
        let mut timers = shard.lock();
        let entry = timers.entries.remove(&(handle.place, handle.generation >> SHARD_BITS))?;
        shard.publish(&timers);
        Some(entry)
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let near = self.shard_of(near);
        let others = (0..self.shards.len()).filter(|&index| index != near);
        std::iter::once(near)
            .chain(others)
            .map(|index| &self.shards[index])
            .filter(|shard| shard.may_be_due(now_ns))
            .map(|shard| shard.expire(now_ns, sink))
            .sum()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        match self.shards.iter().map(|shard| shard.earliest.load(Relaxed)).min() {
            Some(earliest) if earliest != u64::MAX => Some(earliest),
            // `u64::MAX` is also a deadline.
            _ => (!self.is_empty()).then_some(u64::MAX),
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len.load(Relaxed)).sum()
    }

    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.len.load(Relaxed) == 0)
    }
}
