//! The allocator: how a slot goes out, comes back, and has its memory returned.
//!
//! **Hazard.** Two million stacks of 16 MiB: what is done per slot must neither split mappings, nor cost
//! more than one page-table page, nor fill the 47 bits of a process before the slots are needed, nor
//! put a lock or a system call on the path of a short thread.
//!
//! **Protocol.** `acquire` pops from the worker's own cache; if that is empty it refills half of it from
//! the slots that came back to all, and only if there are none takes slots without a guard: 1, 2, 4, up to 32
//! at a time, whose guards it installs in one system call. `release` pushes to the cache, and from a full one
//! spills the older half. So the order is last in, first out, but for what lies in other caches.
//!
//! `trim` takes memory and guards from the slots that came back to all, and counts an epoch; a worker that
//! sees a new epoch does so with its own cache. A slot without a guard holds nothing, so nothing is given
//! back twice. Guards go too because they alone would keep the page-table pages, which are half of what a 16
//! MiB slot costs.
//!
//! There is no lock-free protocol here: a cache has one owner, the rest is behind a lock.
//!
//! **Classes.** Each size of slot has a region of its own (`central`, `region`): its own segments, lists, and
//! place in each worker's cache. The upper bits of a slot's number say which. A class that nobody uses costs
//! a few hundred bytes.
//!
//! **Departure from the specified one region.** A region for 2,097,152 slots takes a quarter of the
//! address space, so that a process could not have a fifth runtime, and none under `ulimit -v`. Address
//! space is reserved in segments instead, as threads are accepted; `layout` says how.
//!
//! **First touch.** What a fresh slot costs until its top is written, ns (Linux 6.18, a virtual machine;
//! `--example first_touch`):
//!
//! | slots of | page faults only | guard, fault | 8 guards, faults | 32 guards, faults | 32 guards, 32 populated |
//! |---|---|---|---|---|---|
//! | 16 MiB | 2,190 | 3,540 | 2,880 | 2,690 | 2,800 |
//! | 1 MiB | 1,880 | 3,170 | 2,480 | 2,340 | 2,390 |
//! | 64 KiB | 1,500 | 2,730 | 2,060 | 1,960 | 2,040 |
//!
//! So one page costs 1.5 µs, the page-table page of a large slot 0.7 µs more, and a guard 1.2 µs alone but
//! 0.45 µs in a batch. Rejected: populating tops (`MADV_POPULATE_WRITE`), which saves nothing here and spends
//! pages on slots that may not be used; populating before guarding, which is the same; marking whole ranges
//! and unmarking the stacks, which takes longer. What remains is the kernel's clearing and charging of pages.
//! The very first use of a physical page by a virtual machine costs 8–10 µs on top, spent by the host: that
//! is the 10 to 20 µs that a fresh 16 MiB slot is sometimes seen to cost, and only using fewer pages, or used
//! ones, avoids it.
//!
//! **Limits.** With `vm.overcommit_memory=2` the kernel counts address space as memory: use small slots.
//! After `mlockall(MCL_FUTURE)` reserving fails. `trim` sorts the free slots under the lock, some 20 ms for
//! a million. Page-table pages are given back from Linux 6.14 on.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use gvt_traits::{
    GUARD_SIZE, MAX_WORKERS, MIN_SLOT_SIZE, MemoryError, MemoryUse, Plan, Slot, SlotAllocator, StackBounds,
    StackClass, WorkerId,
};

use crate::MmapSlots;
use crate::central::{CACHE, HANDS, Regions, Shared};
use crate::layout::{INDEX_BITS, Layout};
use crate::local::{Cache, SlotCache};
use crate::sys::{self, BATCH, Guarding};

const _: () = assert!(CACHE <= BATCH && HANDS <= BATCH);
const _: () = assert!(StackClass::COUNT << INDEX_BITS <= 1 << 32);

/// Stack slots in address space of its own; made by [`MmapSlots`].
///
/// Dropping it, and the caches that it made, unmaps everything, unless a slot is still in use.
#[derive(Debug)]
pub struct MmapPool {
    regions: Arc<Regions>,
    /// How many classes there are.
    classes: usize,
}

impl MmapPool {
    pub(crate) fn new(slots: &MmapSlots, plan: &Plan) -> Self {
        let workers = plan.workers.clamp(1, MAX_WORKERS);
        // What P3 keeps back, at the most, is on top.
        let most = plan.max_gvthreads.saturating_add((workers - 1) * CACHE + HANDS);
        let guarding = if slots.forces_mprotect_guards() { Guarding::Protect } else { Guarding::probe() };
        let mut sizes = slots.sizes();
        let mut region = |_| {
            let layout = sizes.next().map_or(Layout::new(MIN_SLOT_SIZE, 0), |size| Layout::new(size, most));
            Shared::new(layout, guarding, workers, slots.keeps_warm())
        };
        let of = std::array::from_fn(&mut region);
        MmapPool {
            regions: Arc::new(Regions { epoch: AtomicU32::new(0), of }),
            classes: slots.sizes().count(),
        }
    }

    /// The address space of one slot of the default class, bytes.
    pub fn default_slot_size(&self) -> usize {
        self.regions.of[0].layout.slot_size()
    }

    /// The stack that every slot of a class has, bytes.
    ///
    /// # Panics
    ///
    /// If there is no such class.
    pub fn stack_size(&self, class: StackClass) -> usize {
        assert!(class.index() < self.classes, "the pool has {} classes, and so not {class:?}", self.classes);
        self.regions.of[class.index()].layout.largest()
    }

    /// A `trim` has asked for the memory of what is in the worker's cache.
    #[cold]
    fn obey_trim(&self, cache: &mut Cache, class: usize) {
        cache.epoch = self.regions.epoch.load(Relaxed);
        self.regions.of[class].give_back(cache);
    }

    /// A cache of another pool would bring slots that are not this one's (S1).
    #[inline]
    fn check(&self, local: &SlotCache) {
        assert!(
            Arc::ptr_eq(&self.regions, &local.regions),
            "a slot cache was used with another pool than its own"
        );
    }
}

/// The class of a slot, and its number within.
#[inline]
const fn apart(index: u32) -> (usize, u32) {
    ((index >> INDEX_BITS) as usize, index & ((1 << INDEX_BITS) - 1))
}

// SAFETY: S1: slots are disjoint ranges of one mapping, guard included (`layout`), and P1 keeps one token a
// slot. S2: mappings stay until `Shared` is dropped, and beyond if a slot is in use; only free slots are
// discarded. S3: P2, and the rest of a slot is mapped readable and writable. S4: `Layout::largest` is what
// every slot of a class has, seven eighths less 6 KiB of at least 64; the stagger is a multiple of 64.
unsafe impl SlotAllocator for MmapPool {
    type Local = SlotCache;

    fn local(&self, _worker: WorkerId) -> SlotCache {
        SlotCache::new(&self.regions)
    }

    fn slot_size(&self, class: StackClass) -> Option<usize> {
        (class.index() < self.classes).then(|| self.regions.of[class.index()].layout.slot_size())
    }

    #[inline]
    fn reserve(&self, class: StackClass, threads: usize) -> Result<(), MemoryError> {
        self.regions.of[class.index()].reserve(threads)
    }

    #[inline]
    fn acquire(&self, local: &mut SlotCache, class: StackClass) -> Result<Slot, MemoryError> {
        self.check(local);
        let class = class.index();
        let cache = &mut local.caches[class];
        if cache.epoch != self.regions.epoch.load(Relaxed) {
            self.obey_trim(cache, class);
        }
        let index = match cache.pop() {
            Some(index) => index,
            None => self.regions.of[class].refill(cache)?,
        };
        // SAFETY: C1 of `from_index`: P1; the number was just taken out of the only place it was in.
        Ok(unsafe { Slot::from_index((class as u32) << INDEX_BITS | index) })
    }

    #[inline]
    unsafe fn release(&self, local: &mut SlotCache, slot: Slot) {
        self.check(local);
        let (class, index) = apart(slot.into_index());
        let cache = &mut local.caches[class];
        if cache.epoch != self.regions.epoch.load(Relaxed) {
            self.obey_trim(cache, class);
        }
        if !cache.push(index) {
            self.regions.of[class].spill(cache, index);
        }
    }

    #[inline]
    fn bounds(&self, slot: &Slot) -> StackBounds {
        let (class, index) = apart(slot.index());
        let region = &self.regions.of[class];
        let base = region.base(index);
        let top = region.layout.slot_size() - region.layout.stagger(index);
        let at = |offset| NonNull::new(base.wrapping_add(offset)).expect("no slot lies at address 0");
        StackBounds { top: at(top), bottom: at(GUARD_SIZE) }
    }

    fn trim(&self) -> usize {
        self.regions.epoch.fetch_add(1, Relaxed);
        self.regions.of.iter().map(Shared::trim).sum()
    }

    fn decay(&self, now_ns: u64) -> Option<u64> {
        self.regions.of.iter().filter_map(|region| region.decay(now_ns)).min()
    }

    fn memory_use(&self, class: StackClass) -> MemoryUse {
        let region = &self.regions.of[class.index()];
        let central = region.lock();
        let cached: usize = central.gauges.iter().map(|gauge| gauge.0.load(Relaxed) as usize).sum();
        let mut memory = MemoryUse::default();
        let free = central.listed() + cached + region.decaying.load(Relaxed) as usize;
        memory.slots_in_use = (central.fresh as usize).saturating_sub(free);
        memory.slots_cached = central.warm.len() + central.cooling.len() + cached;
        memory.slots_reserved = central.total as usize;
        memory.bytes_reserved = central.bytes_reserved();
        memory
    }

    fn resident(&self, class: StackClass) -> Option<usize> {
        sys::resident_in(&self.regions.of[class.index()].ranges())
    }
}
