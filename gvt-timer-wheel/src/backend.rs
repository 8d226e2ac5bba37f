//! The shards together.
//!
//! **Hazard.** A million sleepers on one lock; workers that ask for the next deadline at each
//! scheduling decision; a deadline that is filed while another worker decides how long to sleep.
//!
//! **Protocol.** An entry goes to the shard of its affinity, that is, of the worker that files it, so
//! that workers meet only to expire. Each shard publishes, under its lock, when it wants to be
//! expired next, in a word that readers load without it:
//! - P1 `insert` lowers the word before it returns if its entry comes earlier. Whoever its effect
//!   happens before sees that time or an earlier one (T5).
//! - P2 `cancel` works the word out anew if it emptied a list, and `expire` when nothing due is
//!   left. In between it may be too early, never too late.
//! - P3 `expire` takes the lock of those shards only whose word says that something is due. It
//!   leaves a shard that another call is expiring to that call (T3), and waits for one that is
//!   only being inserted into.
//!
//! The words lie eight to a cache line: `next_deadline_ns` reads nine lines with 64 workers. One
//! word for all would be cheaper to read, but raising it races with inserts that lower it.
//!
//! **Not covered.** A waiter that sleeps until an earlier answer of `next_deadline_ns` is the
//! runtime's to wake when an insert comes before that; or wrap this backend in one that waits by
//! descriptor.
//!
//! **Evidence.** The `timer_backend` suite of `gvt-conformance`, and unit tests of each part.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gvt_traits::{Factory, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerId};

use crate::shard::Shard;
use crate::wheel::{self, Batch};

/// Configures a [`WheelBackend`].
///
/// ```
/// use gvt_timer_wheel::Wheel;
/// use gvt_traits::{Factory, GvtId, Plan, TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId};
///
/// let timers = Wheel::default().tick_ns(1 << 16).build(&Plan::new(2, 1000))?;
/// let handle = timers.insert(TimerEntry {
///     deadline_ns: 5_000_000,
///     ticket: WakeTicket { sequence: 1, id: GvtId::new(0) },
///     affinity: WorkerId::new(1),
///     kind: TimerType::Deadline,
/// });
/// assert!(timers.next_deadline_ns().unwrap() - 5_000_000 <= timers.resolution_ns());
/// assert!(timers.cancel(handle).is_some());
/// assert_eq!(timers.next_deadline_ns(), None);
/// # Ok::<(), gvt_traits::SchedError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    tick_ns: u64,
}

impl Wheel {
    /// The tick unless [`tick_ns`](Self::tick_ns) says otherwise: 4,096 ns, well below what it
    /// takes to wake an OS thread.
    pub const DEFAULT_TICK_NS: u64 = 1 << 12;
    /// The longest tick: 2^30 ns, about a second.
    pub const MAX_TICK_NS: u64 = 1 << 30;

    /// Sets the length of a tick, a power of two from 1 to [`MAX_TICK_NS`](Self::MAX_TICK_NS).
    ///
    /// Entries expire late by less than a tick, and those of one tick together: a longer tick
    /// means fewer wake-ups. Costs hardly depend on it.
    pub const fn tick_ns(mut self, tick_ns: u64) -> Self {
        self.tick_ns = tick_ns;
        self
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Wheel { tick_ns: Self::DEFAULT_TICK_NS }
    }
}

impl Factory for Wheel {
    type Output = WheelBackend;

    fn build(&self, plan: &Plan) -> Result<WheelBackend, SchedError> {
        if !self.tick_ns.is_power_of_two() || self.tick_ns > Self::MAX_TICK_NS {
            return Err(SchedError::Config {
                setting: "timer",
                problem: format!(
                    "a wheel's tick of {} ns cannot work: it is a power of two from 1 to {}",
                    self.tick_ns,
                    Self::MAX_TICK_NS
                ),
            });
        }
        let shift = self.tick_ns.trailing_zeros();
        let shards = plan.workers + 1;
        Ok(WheelBackend {
            shards: (0..shards).map(|_| Shard::new(shift)).collect(),
            earliest: (0..shards.div_ceil(8)).map(|_| Line::default()).collect(),
            resolution_ns: self.tick_ns - 1,
        })
    }
}

/// Eight published times, one cache line.
#[repr(align(64))]
struct Line([AtomicU64; 8]);

impl Default for Line {
    fn default() -> Self {
        Line([const { AtomicU64::new(u64::MAX) }; 8])
    }
}

/// A timing wheel a worker; see the crate's documentation.
pub struct WheelBackend {
    /// One a worker, then one for entries without affinity.
    shards: Box<[Shard]>,
    /// Per shard, when it wants to be expired next, `u64::MAX` also for never. Written under the
    /// shard's lock.
    ///
    /// Relaxed: coherence gives P1, since the store happens before `insert` returns; the lock orders
    /// everything else. Against a worker that falls asleep the runtime's fences order these
    /// words with its own.
    earliest: Box<[Line]>,
    resolution_ns: u64,
}

impl WheelBackend {
    fn shard_of(&self, worker: WorkerId) -> usize {
        let outside = self.shards.len() - 1;
        worker.index().map_or(outside, |index| index.min(outside))
    }

    fn earliest_of(&self, shard: usize) -> &AtomicU64 {
        &self.earliest[shard / 8].0[shard % 8]
    }

    /// P2. The caller holds the shard's lock.
    fn publish(&self, shard: usize, wheel: &wheel::Wheel) {
        let earliest = wheel.earliest_ns();
        let word = self.earliest_of(shard);
        // Readers on other cores keep the line if nothing has changed.
        if word.load(Relaxed) != earliest {
            word.store(earliest, Relaxed);
        }
    }

    fn expire_shard(&self, shard: usize, near: bool, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let mut given = 0;
        loop {
            let this = &self.shards[shard];
            let wheel = if near { Some(this.lock()) } else { this.lock_to_help() };
            let Some(mut wheel) = wheel else { return given };
            this.expiring.store(true, Relaxed);
            let mut batch = Batch::new();
            let done = wheel.take_due(now_ns, &mut batch);
            this.len.store(wheel.len(), Relaxed);
            if done {
                self.publish(shard, &wheel);
            }
            this.expiring.store(false, Relaxed);
            drop(wheel);
            for &entry in &batch {
                sink(entry);
            }
            given += batch.len();
            if done {
                return given;
            }
        }
    }
}

impl TimerBackend for WheelBackend {
    fn resolution_ns(&self) -> u64 {
        self.resolution_ns
    }

    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let shard = self.shard_of(entry.affinity);
        let this = &self.shards[shard];
        let word = self.earliest_of(shard);
        let mut wheel = this.lock();
        let (place, number, asked) = wheel.insert(entry);
        this.len.store(wheel.len(), Relaxed);
        if asked < word.load(Relaxed) {
            word.store(asked, Relaxed);
        }
        drop(wheel);
        TimerHandle { place: (shard as u64) << 32 | u64::from(place), generation: number }
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let shard = (handle.place >> 32) as usize;
        let this = self.shards.get(shard)?;
        let mut wheel = this.lock();
        let (entry, emptied) = wheel.cancel(handle.place as u32, handle.generation)?;
        this.len.store(wheel.len(), Relaxed);
        if emptied {
            self.publish(shard, &wheel);
        }
        Some(entry)
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let near = self.shard_of(near);
        let others = (0..self.shards.len()).filter(|&shard| shard != near);
        let mut given = 0;
        for shard in std::iter::once(near).chain(others) {
            let earliest = self.earliest_of(shard).load(Relaxed);
            // `u64::MAX` also stands for never: look at what the shard holds then.
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

impl std::fmt::Debug for WheelBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WheelBackend")
            .field("shards", &self.shards.len())
            .field("resolution_ns", &self.resolution_ns)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_cannot_work_are_refused() {
        for tick in [0, 3, 1 << 31, u64::MAX] {
            let error = Wheel::default().tick_ns(tick).build(&Plan::new(1, 1)).unwrap_err();
            assert!(error.to_string().contains("power of two"), "{error}");
        }
        for tick in [1, 1 << 12, Wheel::MAX_TICK_NS] {
            assert_eq!(
                Wheel::default().tick_ns(tick).build(&Plan::new(1, 1)).unwrap().resolution_ns(),
                tick - 1
            );
        }
    }
}
