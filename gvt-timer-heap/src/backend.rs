//! The shards together.
//!
//! **Hazard.** A million sleepers on one lock; workers that ask for the next deadline at each
//! scheduling decision; a deadline that is filed while another worker decides how long to sleep.
//!
//! **Protocol.** An entry goes to the shard of its affinity, that is, of the worker that files it, so
//! that workers meet only to expire. Each shard publishes its earliest deadline under its lock, in a
//! word that readers load without it:
//! - P1 `insert` publishes before it returns. Whoever its effect happens before sees that
//!   deadline or an earlier one (T5).
//! - P2 `cancel` and `expire` publish what is earliest afterwards, so that no cancelled
//!   deadline wakes anybody.
//! - P3 `expire` takes the lock of those shards only whose word says that something is due. It
//!   leaves a shard that another call is expiring to that call (T3), and waits for one that is
//!   only being inserted into.
//!
//! The words lie eight to a cache line: `next_deadline_ns` reads nine lines with 64 workers. One
//! word for all would be cheaper to read, but raising it races with inserts that lower it.
//!
//! **Not covered.** A waiter that sleeps until an earlier answer of `next_deadline_ns` is the
//! runtime's to wake when an insert comes before that.
//!
//! **Evidence.** The `timer_backend` suite of `gvt-conformance`, and unit tests of each part.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gvt_traits::{Factory, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerId};

use crate::shard::{Batch, Shard, Timers};

/// Configures a [`HeapBackend`]; there is nothing to set.
///
/// ```
/// use gvt_timer_heap::HeapTimer;
/// use gvt_traits::{Factory, GvtId, Plan, TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId};
///
/// let timers = HeapTimer.build(&Plan::new(2, 1000))?;
/// let handle = timers.insert(TimerEntry {
///     deadline_ns: 500,
///     ticket: WakeTicket { sequence: 1, id: GvtId::new(0) },
///     affinity: WorkerId::new(1),
///     kind: TimerType::Sleep,
/// });
/// assert_eq!(timers.next_deadline_ns(), Some(500));
/// assert_eq!(timers.expire(WorkerId::new(0), 499, &mut |_| ()), 0);
/// assert!(timers.cancel(handle).is_some());
/// assert!(timers.is_empty());
/// # Ok::<(), gvt_traits::SchedError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapTimer;

impl Factory for HeapTimer {
    type Output = HeapBackend;

    fn build(&self, plan: &Plan) -> Result<HeapBackend, SchedError> {
        let shards = plan.workers + 1;
        Ok(HeapBackend {
            shards: (0..shards).map(|_| Shard::new()).collect(),
            earliest: (0..shards.div_ceil(8)).map(|_| Line::default()).collect(),
        })
    }
}

/// Eight published deadlines, one cache line.
#[repr(align(64))]
struct Line([AtomicU64; 8]);

impl Default for Line {
    fn default() -> Self {
        Line([const { AtomicU64::new(u64::MAX) }; 8])
    }
}

/// A 4-ary heap a worker; see the crate's documentation.
pub struct HeapBackend {
    /// One a worker, then one for entries without affinity.
    shards: Box<[Shard]>,
    /// Per shard, the earliest deadline held, `u64::MAX` also for none.
    ///
    /// Relaxed: coherence gives P1, since the store happens before `insert` returns; the lock orders
    /// everything else. Against a worker that falls asleep the runtime's fences order these
    /// words with its own.
    earliest: Box<[Line]>,
}

impl HeapBackend {
    fn shard_of(&self, worker: WorkerId) -> usize {
        let outside = self.shards.len() - 1;
        worker.index().map_or(outside, |index| index.min(outside))
    }

    fn earliest_of(&self, shard: usize) -> &AtomicU64 {
        &self.earliest[shard / 8].0[shard % 8]
    }

    /// To be called before the lock is released, after each change.
    fn publish(&self, shard: usize, timers: &MutexGuard<'_, Timers>) {
        self.shards[shard].len.store(timers.len(), Relaxed);
        let earliest = timers.earliest_ns();
        let word = self.earliest_of(shard);
        // Most changes leave it as it is, and readers on other cores keep the line.
        if word.load(Relaxed) != earliest {
            word.store(earliest, Relaxed);
        }
    }

    fn expire_shard(&self, shard: usize, near: bool, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let mut given = 0;
        loop {
            let this = &self.shards[shard];
            let timers = if near { Some(this.lock()) } else { this.lock_to_help() };
            let Some(mut timers) = timers else { return given };
            this.expiring.store(true, Relaxed);
            let mut batch = Batch::new();
            timers.take_due(now_ns, &mut batch);
            self.publish(shard, &timers);
            this.expiring.store(false, Relaxed);
            drop(timers);
            for &entry in &batch {
                sink(entry);
            }
            given += batch.len();
            if !batch.is_full() {
                return given;
            }
        }
    }
}

impl TimerBackend for HeapBackend {
    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let shard = self.shard_of(entry.affinity);
        let mut timers = self.shards[shard].lock();
        let (place, number) = timers.insert(entry);
        self.publish(shard, &timers);
        TimerHandle { place: (shard as u64) << 32 | u64::from(place), generation: number }
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let shard = (handle.place >> 32) as usize;
        let mut timers = self.shards.get(shard)?.lock();
        let entry = timers.cancel(handle.place as u32, handle.generation)?;
        self.publish(shard, &timers);
        Some(entry)
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let near = self.shard_of(near);
        let others = (0..self.shards.len()).filter(|&shard| shard != near);
        let mut given = 0;
        for shard in std::iter::once(near).chain(others) {
            let earliest = self.earliest_of(shard).load(Relaxed);
            // `u64::MAX` also stands for none: look at what the shard holds then.
            if earliest <= now_ns && (earliest != u64::MAX || self.shards[shard].len.load(Relaxed) > 0) {
                given += self.expire_shard(shard, shard == near, now_ns, sink);
            }
        }
        given
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let words = self.earliest.iter().flat_map(|line| &line.0);
        match words.map(|word| word.load(Relaxed)).min() {
            Some(earliest) if earliest != u64::MAX => Some(earliest),
            // All words say `u64::MAX`, which is also a deadline.
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

impl std::fmt::Debug for HeapBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapBackend")
            .field("shards", &self.shards.len())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
