//! The allocator: how a slot goes out, comes back, and has its memory returned.
//!
//! **Hazard.** Two million stacks of 16 MiB: what is done per slot must neither split mappings, nor cost
//! more than one page-table page, nor fill the 47 bits of a process before the slots are needed, nor
//! put a lock or a system call on the path of a short thread.
//!
//! **Protocol.** `acquire` pops from the worker's own cache; if that is empty it refills half of it from
//! the shared lists, and only if those are empty takes slots that were never used, whose guards it
//! installs in one system call, and whose top pages it populates in another. `release` pushes to the
//! cache, and from a full one spills the older half. So the order is last in, first out, but for what
//! lies in other caches.
//!
//! `trim` gives back what the shared lists hold and counts an epoch; a worker that sees a new epoch gives
//! back what its own cache holds. What was given back is kept apart, so it is not given back twice.
//!
//! There is no lock-free protocol here: a cache has one owner, the rest is behind a lock.
//!
//! **Departure from the specified one region.** A region for 2,097,152 slots takes a quarter of the
//! address space, so that a process could not have a fifth runtime, and none under `ulimit -v`. Address
//! space is reserved in segments instead, as threads are accepted; `layout` says how.
//!
//! **Limits.** With `vm.overcommit_memory=2` the kernel counts address space as memory: use small slots.
//! After `mlockall(MCL_FUTURE)` reserving fails. A page-table page once made stays until the pool
//! goes: `trim` gives back stack pages, not page tables.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{
    GUARD_SIZE, MAX_WORKERS, MemoryError, MemoryUse, Plan, Slot, SlotAllocator, StackBounds, WorkerId,
};

use crate::central::{CACHE, Shared, TRIM_BATCH};
use crate::layout::Layout;
use crate::local::SlotCache;
use crate::sys::{BATCH, Guarding, Range, resident};

const _: () = assert!(CACHE <= BATCH && TRIM_BATCH <= BATCH);

/// Stack slots in address space of its own; made by [`MmapSlots`](crate::MmapSlots).
///
/// Dropping it, and the caches that it made, unmaps everything, unless a slot is still in use.
#[derive(Debug)]
pub struct MmapPool {
    shared: Arc<Shared>,
}

impl MmapPool {
    pub(crate) fn new(slot_size: usize, force_mprotect_guards: bool, plan: &Plan) -> Self {
        let workers = plan.workers.clamp(1, MAX_WORKERS);
        let slots = plan.max_gvthreads.saturating_add(workers * CACHE + TRIM_BATCH);
        let layout = Layout::new(slot_size, slots);
        let guarding = if force_mprotect_guards { Guarding::Protect } else { Guarding::probe() };
        MmapPool { shared: Arc::new(Shared::new(layout, guarding, workers)) }
    }

    /// The address space of one slot, bytes.
    pub fn slot_size(&self) -> usize {
        self.shared.layout.slot_size()
    }

    /// The largest stack that every slot can hold, bytes: the most that `acquire` can be asked for.
    pub fn largest_stack(&self) -> usize {
        self.shared.largest
    }

    /// Gives back the memory of everything in the worker's cache, after a `trim`.
    #[cold]
    fn obey_trim(&self, local: &mut SlotCache) {
        local.epoch = self.shared.epoch.load(Relaxed);
        let mut slots = [0; CACHE];
        let count = local.take_all(&mut slots);
        if count == 0 {
            return;
        }
        let slots = &mut slots[..count];
        self.discard(slots);
        self.shared.lock().clean.extend_from_slice(slots);
    }

    /// Gives back the memory of `slots`, which are sorted on the way, and returns the bytes found there.
    ///
    /// The slots are in this call's hands (P1).
    fn discard(&self, slots: &mut [u32]) -> usize {
        slots.sort_unstable();
        let mut ranges = [Range { start: 0, bytes: 0 }; BATCH];
        let mut count = 0;
        let mut bytes = 0;
        for &mut index in slots {
            let slot = self.shared.range(index);
            bytes += resident(slot);
            match ranges[..count].last_mut() {
                Some(last) if last.start + last.bytes == slot.start => last.bytes += slot.bytes,
                _ => {
                    ranges[count] = slot;
                    count += 1;
                }
            }
        }
        // SAFETY: the slots are free, by C1 of `release` and P1, so nobody needs their contents.
        unsafe { self.shared.guarding.discard(&ranges[..count]) };
        bytes
    }

    /// Takes slots from the shared lists into the cache, and the one that is to be used out of it.
    #[cold]
    fn refill(&self, local: &mut SlotCache) -> Result<u32, MemoryError> {
        let mut slots = [0; CACHE];
        let mut central = self.shared.lock();
        local.update_limit(&central);
        let half = local.half().max(1);
        let central_mut = &mut *central;

        // Freed slots first, the last to come back at the end.
        for list in [&mut central_mut.warm, &mut central_mut.clean] {
            if !list.is_empty() {
                let rest = list.len().saturating_sub(half);
                let (last, others) = list[rest..].split_last().expect("the list is not empty");
                let (last, kept) = (*last, others.iter().all(|&index| local.push(index)));
                debug_assert!(kept, "half of a cache fits into an empty one");
                list.truncate(rest);
                return Ok(last);
            }
        }

        // Then slots that were never used: those whose guard failed before, then new numbers.
        let want = half.min(local.fresh_batch as usize);
        let mut count = 0;
        while count < want {
            slots[count] = if let Some(index) = central_mut.bare.pop() {
                index
            } else if central_mut.fresh < central_mut.total {
                central_mut.fresh += 1;
                central_mut.fresh - 1
            } else {
                break;
            };
            count += 1;
        }
        let total = central_mut.total as usize;
        drop(central);
        if count == 0 {
            return Err(MemoryError::SlotsExhausted { slots: total });
        }
        local.fresh_batch = (local.fresh_batch * 2).min(CACHE as u32 / 2);
        self.prepare_fresh(local, &slots[..count])
    }

    /// Guards and populates slots that were never used, keeps all but the first, which it returns.
    fn prepare_fresh(&self, local: &mut SlotCache, slots: &[u32]) -> Result<u32, MemoryError> {
        let mut guards = [Range { start: 0, bytes: 0 }; CACHE];
        let mut tops = guards;
        for ((guard, top), &index) in guards.iter_mut().zip(&mut tops).zip(slots) {
            let slot = self.shared.range(index);
            *guard = Range { start: slot.start, bytes: GUARD_SIZE };
            *top = Range { start: slot.start + self.shared.layout.top_page(index), bytes: 4096 };
        }
        // SAFETY: each range is a slot's lowest page, which `bounds` leaves out.
        let (guarded, error) = unsafe { self.shared.guarding.install(&guards[..slots.len()]) };
        let (guarded, bare) = slots.split_at(guarded);
        if !bare.is_empty() {
            self.shared.lock().bare.extend(bare.iter().rev());
        }
        let Some((&first, others)) = guarded.split_first() else {
            return Err(MemoryError::Guard { errno: error.unwrap_or(0) });
        };
        if !others.is_empty() {
            self.shared.guarding.populate(&tops[..guarded.len()]);
        }
        let kept = others.iter().rev().all(|&index| local.push(index));
        debug_assert!(kept, "half of a cache fits into an empty one");
        Ok(first)
    }

    /// Makes room in a full cache, and keeps the slot there.
    #[cold]
    fn spill(&self, local: &mut SlotCache, index: u32) {
        let mut central = self.shared.lock();
        local.update_limit(&central);
        if local.push(index) {
            return;
        }
        local.spill(&mut central, local.half());
        if !local.push(index) {
            central.warm.push(index);
        }
    }

    /// A cache of another pool would bring slots that are not this one's (S1).
    #[inline]
    fn check(&self, local: &SlotCache) {
        assert!(
            Arc::ptr_eq(&self.shared, &local.shared),
            "a slot cache was used with another pool than its own"
        );
    }
}

// SAFETY: S1: slots are disjoint ranges of one mapping, guard included (`layout`), and P1 keeps one token a
// slot. S2: mappings stay until `Shared` is dropped, and beyond if a slot is in use; only free slots are
// discarded. S3: P2, and the rest of a slot is mapped readable and writable. S4: `acquire` compares with
// `largest`, which every slot holds; the stagger is a multiple of 64.
unsafe impl SlotAllocator for MmapPool {
    type Local = SlotCache;

    fn local(&self, _worker: WorkerId) -> SlotCache {
        SlotCache::new(&self.shared)
    }

    fn reserve(&self, threads: usize) -> Result<(), MemoryError> {
        self.shared.reserve(threads)
    }

    #[inline]
    fn acquire(&self, local: &mut SlotCache, min_bytes: usize) -> Result<Slot, MemoryError> {
        self.check(local);
        if min_bytes > self.shared.largest {
            return Err(MemoryError::SlotTooSmall { asked: min_bytes, largest: self.shared.largest });
        }
        if local.epoch != self.shared.epoch.load(Relaxed) {
            self.obey_trim(local);
        }
        let index = match local.pop() {
            Some(index) => index,
            None => self.refill(local)?,
        };
        // SAFETY: C1 of `from_index`: P1; the number was just taken out of the only place it was in.
        Ok(unsafe { Slot::from_index(index) })
    }

    #[inline]
    unsafe fn release(&self, local: &mut SlotCache, slot: Slot) {
        self.check(local);
        if local.epoch != self.shared.epoch.load(Relaxed) {
            self.obey_trim(local);
        }
        let index = slot.into_index();
        if !local.push(index) {
            self.spill(local, index);
        }
    }

    #[inline]
    fn bounds(&self, slot: &Slot) -> StackBounds {
        let base = self.shared.base(slot.index());
        let top = self.shared.layout.slot_size() - self.shared.layout.stagger(slot.index());
        let at = |offset| NonNull::new(base.wrapping_add(offset)).expect("no slot lies at address 0");
        StackBounds { top: at(top), bottom: at(GUARD_SIZE) }
    }

    fn trim(&self) -> usize {
        let _alone = self.shared.trimming.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.shared.epoch.fetch_add(1, Relaxed);
        let mut bytes = 0;
        // What comes back meanwhile is for the next call, or this one might never end.
        let mut left = self.shared.lock().warm.len();
        while left > 0 {
            let mut slots = [0; TRIM_BATCH];
            let mut central = self.shared.lock();
            let count = left.min(TRIM_BATCH).min(central.warm.len());
            if count == 0 {
                break;
            }
            let rest = central.warm.len() - count;
            let slots = &mut slots[..count];
            slots.copy_from_slice(&central.warm[rest..]);
            central.warm.truncate(rest);
            drop(central);
            bytes += self.discard(slots);
            self.shared.lock().clean.extend_from_slice(slots);
            left -= count;
        }
        bytes
    }

    fn memory_use(&self) -> MemoryUse {
        let central = self.shared.lock();
        let cached: usize = central.gauges.iter().map(|gauge| gauge.0.load(Relaxed) as usize).sum();
        let mut memory = MemoryUse::default();
        memory.slots_in_use = (central.fresh as usize).saturating_sub(central.listed() + cached);
        memory.slots_cached = central.warm.len() + cached;
        memory.slots_reserved = central.total as usize;
        memory.bytes_reserved = central.bytes_reserved();
        memory
    }
}
