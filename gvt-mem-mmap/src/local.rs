//! One worker's cache of free slots: for each class a small stack that needs no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::StackClass;

use crate::central::{CACHE, Central, Gauge, Regions, Shared};

/// One worker's cache of free slots, of at most 64 of each class.
///
/// A cache that is dropped gives its slots to the others.
pub struct SlotCache {
    pub(crate) regions: Arc<Regions>,
    /// By class.
    pub(crate) caches: Box<[Cache; StackClass::COUNT]>,
}

impl SlotCache {
    pub(crate) fn new(regions: &Arc<Regions>) -> Self {
        let caches = Box::new(std::array::from_fn(|class| {
            Cache::new(&regions.of[class], regions.epoch.load(Relaxed))
        }));
        SlotCache { regions: Arc::clone(regions), caches }
    }
}

impl Drop for SlotCache {
    fn drop(&mut self) {
        for (region, cache) in self.regions.of.iter().zip(&mut *self.caches) {
            let mut central = region.lock();
            cache.spill(&mut central, CACHE);
            central.gauges.retain(|gauge| !Arc::ptr_eq(gauge, &cache.gauge));
        }
    }
}

impl fmt::Debug for SlotCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.caches).finish()
    }
}

/// One class's part.
pub(crate) struct Cache {
    gauge: Arc<Gauge>,
    len: u32,
    /// Slots that may be kept: 0 for a cache beyond the plan's workers.
    limit: u32,
    /// Slots to guard at a time; doubles up to half the cache.
    pub(crate) fresh_batch: u32,
    /// The last `trim` that this cache obeyed.
    pub(crate) epoch: u32,
    slots: [u32; CACHE],
}

impl Cache {
    pub(crate) fn new(shared: &Shared, epoch: u32) -> Self {
        let gauge = Arc::new(Gauge::default());
        shared.lock().gauges.push(Arc::clone(&gauge));
        Cache { gauge, len: 0, limit: 0, fresh_batch: 1, epoch, slots: [0; CACHE] }
    }

    #[inline]
    fn set_len(&mut self, len: u32) {
        self.len = len;
        self.gauge.0.store(len, Relaxed);
    }

    /// The slot that came last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let len = self.len.checked_sub(1)?;
        self.set_len(len);
        Some(self.slots[len as usize])
    }

    /// Keeps a slot if there is room.
    #[inline]
    pub(crate) fn push(&mut self, index: u32) -> bool {
        if self.len >= self.limit {
            return false;
        }
        self.slots[self.len as usize] = index;
        self.set_len(self.len + 1);
        true
    }

    /// Half of what the cache may hold: how many slots go to or come from the others at once.
    pub(crate) fn half(&self) -> usize {
        self.limit as usize / 2
    }

    /// Keeps all of `slots`, which are at most half of the cache, but the last, and returns that.
    pub(crate) fn keep_but_last(&mut self, slots: &[u32]) -> u32 {
        let (last, others) = slots.split_last().expect("a refill brings at least one slot");
        let kept = others.iter().all(|&index| self.push(index));
        assert!(kept, "half of a cache fits into an empty one");
        *last
    }

    /// Asks anew how many slots may be kept.
    pub(crate) fn update_limit(&mut self, shared: &Shared, central: &Central) {
        let may = shared.may_cache(central, &self.gauge);
        self.limit = if may { shared.cache_limit(central.total as usize) as u32 } else { 0 };
    }

    /// Gives the `count` slots that came first to the others.
    pub(crate) fn spill(&mut self, central: &mut Central, count: usize) {
        let len = self.len as usize;
        let count = count.min(len);
        central.warm.extend_from_slice(&self.slots[..count]);
        self.slots.copy_within(count..len, 0);
        self.set_len((len - count) as u32);
    }

    /// Takes all slots out; the last is the one that came last.
    pub(crate) fn take_all(&mut self, into: &mut [u32; CACHE]) -> usize {
        let len = self.len as usize;
        into[..len].copy_from_slice(&self.slots[..len]);
        self.set_len(0);
        len
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("slots", &&self.slots[..self.len as usize])
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
