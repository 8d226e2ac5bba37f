//! The allocator: how a slot goes out, comes back, and has its memory returned.
//!
//! **Hazard.** Two million stacks of 16 MiB: what is done per slot must neither split mappings, nor cost
//! more than one page-table page, nor fill the 47 bits of a process before the slots are needed, nor
//! put a lock or a system call on the path of a short thread.
//!
//! **Protocol.** `acquire` pops from the worker's own cache; if that is empty it refills half of it from
//! the slots that came back to all, and only if there are none takes slots without a guard: 1, 2, 4, up to 32 at a
//! time, whose guards it installs in one system call. `release` pushes to the cache, and from a full one spills the
//! older half. So the order is last in, first out, but for what lies in other caches.
//!
//! `trim` takes memory and guards from the slots that came back to all, and counts an epoch; a worker that sees a
//! new epoch does so with its own cache. A slot without a guard holds nothing, so nothing is given back twice.
//! Guards go too because they alone would keep the page-table pages, which are half of what a 16 MiB slot costs.
//!
//! There is no lock-free protocol here: a cache has one owner, the rest is behind a lock.
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
//! So one page costs 1.5 µs, the page-table page of a large slot 0.7 µs more, and a guard 1.2 µs alone but 0.45 µs in
//! a batch. Rejected: populating tops (`MADV_POPULATE_WRITE`), which saves nothing here and spends pages on slots
//! that may not be used; populating before guarding, which is the same; marking whole ranges and unmarking the
//! stacks, which takes longer. What remains is the kernel's clearing and charging of pages. The very first use of a
//! physical page by a virtual machine costs 8–10 µs on top, spent by the host: that is the 10 to 20 µs that a fresh
//! 16 MiB slot is sometimes seen to cost, and only using fewer pages, or used ones, avoids it.
//!
//! **Limits.** With `vm.overcommit_memory=2` the kernel counts address space as memory: use small slots.
//! After `mlockall(MCL_FUTURE)` reserving fails. `trim` sorts the free slots under the lock, some 20 ms for
//! a million. Page-table pages are given back from Linux 6.14 on.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{
    GUARD_SIZE, MAX_WORKERS, MemoryError, MemoryUse, Plan, Slot, SlotAllocator, StackBounds, WorkerId,
};

use crate::central::{CACHE, Shared, TRIM_BATCH};
use crate::layout::Layout;
use crate::local::SlotCache;
use crate::sys::{BATCH, Guarding, PAGE, Range, resident};

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
        // What P3 keeps back, at the most, is on top.
        let slots = plan.max_gvthreads.saturating_add((workers - 1) * CACHE + TRIM_BATCH);
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
        local.fresh_batch = 1;
        let mut slots = [0; CACHE];
        let count = local.take_all(&mut slots);
        if count > 0 {
            self.strip(&mut slots[..count]);
        }
    }

    /// Takes guards and memory from `slots`, puts them with those never used, and returns the bytes found.
    ///
    /// The slots are in this call's hands (P1).
    fn strip(&self, slots: &mut [u32]) -> usize {
        // Highest first: the list is a stack, so the lowest will be used first.
        slots.sort_unstable_by(|a, b| b.cmp(a));
        let none = Range { start: 0, bytes: 0 };
        let (mut guards, mut runs) = ([none; BATCH], [none; BATCH]);
        let (mut count, mut bytes) = (0, 0);
        for (guard, &index) in guards.iter_mut().zip(slots.iter()) {
            let slot = self.shared.range(index);
            *guard = Range { bytes: GUARD_SIZE, ..slot };
            bytes += resident(Range { bytes: self.shared.layout.top_page(index) + PAGE, ..slot });
            match runs[..count].last_mut() {
                Some(run) if slot.start + slot.bytes == run.start => {
                    *run = Range { start: slot.start, bytes: slot.bytes + run.bytes };
                }
                _ => {
                    runs[count] = slot;
                    count += 1;
                }
            }
        }
        // SAFETY: the slots are free, by C1 of `release` and P1, so nobody needs their contents or guards.
        unsafe { self.shared.guarding.strip(&guards[..slots.len()], &runs[..count]) };
        self.shared.lock().bare.extend_from_slice(slots);
        bytes
    }

    /// Takes slots from the shared lists into the cache, and the one that is to be used out of it.
    #[cold]
    fn refill(&self, local: &mut SlotCache) -> Result<u32, MemoryError> {
        let mut slots = [0; CACHE];
        let mut central = self.shared.lock();
        local.update_limit(&central);
        let half = local.half().max(1);
        if let Some(taken) = take_last(&mut central.warm, &mut slots[..half]) {
            drop(central);
            return Ok(local.keep_but_last(taken));
        }

        // None came back: slots without a guard, once used or never.
        let want = half.min(local.fresh_batch as usize);
        local.fresh_batch = (local.fresh_batch * 2).min(CACHE as u32 / 2);
        let mut taken = 0;
        while taken < want {
            slots[taken] = match central.bare.pop() {
                Some(index) => index,
                None if central.fresh < central.total => {
                    central.fresh += 1;
                    central.fresh - 1
                }
                None => break,
            };
            taken += 1;
        }
        if taken == 0 {
            return Err(MemoryError::SlotsExhausted { slots: central.total as usize });
        }
        drop(central);
        let taken = self.guard(&mut slots[..taken])?;
        taken.reverse();
        Ok(local.keep_but_last(taken))
    }

    /// Guards slots that were never used, puts away those for which that fails, and returns the others.
    fn guard<'a>(&self, slots: &'a mut [u32]) -> Result<&'a mut [u32], MemoryError> {
        let mut guards = [Range { start: 0, bytes: 0 }; CACHE];
        for (guard, &index) in guards.iter_mut().zip(slots.iter()) {
            *guard = Range { bytes: GUARD_SIZE, ..self.shared.range(index) };
        }
        // SAFETY: each range is a slot's lowest page, which `bounds` leaves out.
        let (done, error) = unsafe { self.shared.guarding.install(&guards[..slots.len()]) };
        let (guarded, bare) = slots.split_at_mut(done);
        if !bare.is_empty() {
            self.shared.lock().bare.extend(bare.iter().rev());
        }
        if guarded.is_empty() { Err(MemoryError::Guard { errno: error.unwrap_or(0) }) } else { Ok(guarded) }
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

/// Moves the last entries of `list`, as many as there are and fit, into `slots`, in their order.
fn take_last<'a>(list: &mut Vec<u32>, slots: &'a mut [u32]) -> Option<&'a mut [u32]> {
    let rest = list.len().saturating_sub(slots.len());
    let slots = &mut slots[..list.len() - rest];
    slots.copy_from_slice(&list[rest..]);
    list.truncate(rest);
    if slots.is_empty() { None } else { Some(slots) }
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
        let mut slots = [0; TRIM_BATCH];
        // What comes back meanwhile is for the next call, or this one might never end.
        let mut left = {
            let warm = &mut self.shared.lock().warm;
            // Neighbours share page tables, which go when all of them do.
            warm.sort_unstable();
            warm.len()
        };
        while left > 0 {
            let mut central = self.shared.lock();
            let Some(taken) = take_last(&mut central.warm, &mut slots[..left.min(TRIM_BATCH)]) else { break };
            drop(central);
            left -= taken.len();
            bytes += self.strip(taken);
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
