//! What all workers share: the free lists, and the growth of the address space. All of it is used under
//! one lock, which workers take once in some thirty operations.
//!
//! **Where a slot is.** Numbers below `fresh` have been taken at least once. Each is in exactly one
//! place (P1): in use (its token exists), in `warm`, `cooling` or `bare`, in one worker's cache, or in the
//! hands of the one call that moves it. The lists are stacks:
//!
//! - `warm`: came back, and may hold physical pages.
//! - `cooling`: the same, about to lose its pages (`decay`). Used when `warm` is empty.
//! - `bare`: holds nothing, and no mark for a guard: given back to the system, or its guard could not be
//!   installed. Used when those are empty, before new numbers.
//!
//! P2: every slot in use, in a cache, in `warm` or `cooling` has its guard. Guards made by `mprotect` are
//! made before a slot counts as reserved, and kept for good: there may be no more of them at any time, and
//! then it is the spawn that must be refused, not the thread when it is to run.
//!
//! **The promise** (S5) must hold although slots lie in other workers' caches, where `acquire` cannot
//! reach them. So with `total` slots reserved, `total - (workers - 1) * cache - HANDS` are promised
//! (P3), where `cache` bounds each worker's cache, and `HANDS` what `trim` and `decay` have in their hands.
//! `cache` grows with `total`, so that a small runtime reserves little.
//!
//! **Rejected.** Stealing from others' caches instead of reserving more: it costs every `acquire` an
//! atomic operation, and address space costs nothing. Lists linked through the free slots themselves:
//! they would touch memory that has just been given back.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use gvt_traits::{GUARD_SIZE, MemoryError, StackClass};

use crate::layout::{Layout, MAX_SEGMENTS, PAGE_TABLE_SPAN};
use crate::protect;
use crate::sys::{Guarding, Mapping, Range};

/// A worker's cache holds this many slots at the most.
pub(crate) const CACHE: usize = 64;
/// A worker's cache may hold this many, however small the pool.
const MIN_CACHE: usize = 4;
/// Slots that `trim` and `decay` have in their hands at the most.
pub(crate) const HANDS: usize = 16;

/// How many slots lie in one worker's cache; written by that worker alone, read by `memory_use`.
///
/// Relaxed everywhere: a gauge. With no call in progress, the reader is ordered after its last write.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Gauge(pub(crate) AtomicU32);

/// One class. Shared by a pool and the caches made by it; the address space lives as long as any of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) guarding: Guarding,
    /// Address of each segment's first slot. Relaxed: the holder of a slot's token is ordered after the
    /// lock under which the slot came into being, and the segment before it.
    bases: [AtomicPtr<u8>; MAX_SEGMENTS],
    /// Threads promised (P3). Relaxed: it is written under the lock, and a reader of a new value takes the
    /// lock later than the writer did, by coherence.
    promised: AtomicUsize,
    workers: usize,
    central: Mutex<Central>,
    /// Held by the one `trim` or `decay` at work.
    pub(crate) decay: Mutex<Decay>,
    /// Slots in `decay`'s hands. Relaxed: a gauge, written under the lock.
    pub(crate) decaying: AtomicU32,
    /// How long a slot that nobody needs keeps its pages; `None`: for ever.
    pub(crate) keep_warm_ns: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Central {
    pub(crate) warm: Vec<u32>,
    pub(crate) cooling: Vec<u32>,
    pub(crate) bare: Vec<u32>,
    /// The fewest that were in `warm` since `decay` last asked.
    pub(crate) least_warm: usize,
    /// Numbers from here on have never been taken.
    pub(crate) fresh: u32,
    /// Slots reserved.
    pub(crate) total: u32,
    segments: Vec<Mapping>,
    pub(crate) gauges: Vec<Arc<Gauge>>,
}

/// What the decaying caller keeps between calls.
#[derive(Debug)]
pub(crate) struct Decay {
    /// Slots at hand: taken from `cooling`, stripped, not yet in `bare`.
    pub(crate) slots: [u32; HANDS],
    pub(crate) count: usize,
    /// When the next half is due; 0: a period has to begin.
    pub(crate) due_ns: u64,
    /// `warm`'s level when the period began.
    pub(crate) level: usize,
    /// How many of those that came to `cooling` last are in order.
    pub(crate) sorted: usize,
}

impl Decay {
    const fn new() -> Self {
        Decay { slots: [0; HANDS], count: 0, due_ns: 0, level: 0, sorted: 0 }
    }
}

/// What a pool shares with the caches made by it.
#[derive(Debug)]
pub(crate) struct Regions {
    /// How often `trim` was called. Relaxed: a worker that sees a new value late gives its memory back late.
    pub(crate) epoch: AtomicU32,
    /// By class. As many as numbers can name, so that none has to be checked; those beyond the pool's classes
    /// have no slots.
    pub(crate) of: [Shared; StackClass::COUNT],
}

impl Shared {
    pub(crate) fn new(layout: Layout, guarding: Guarding, workers: usize, keep_warm_ns: Option<u64>) -> Self {
        Shared {
            layout,
            guarding,
            bases: [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_SEGMENTS],
            promised: AtomicUsize::new(0),
            workers,
            central: Mutex::default(),
            decay: Mutex::new(Decay::new()),
            decaying: AtomicU32::new(0),
            keep_warm_ns,
        }
    }

    /// Nothing below panics while the lock is held, so a poisoned lock guards sound data.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Central> {
        self.central.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// [`lock`](Self::lock), if nobody holds it.
    pub(crate) fn try_lock(&self) -> Result<MutexGuard<'_, Central>, ()> {
        match self.central.try_lock() {
            Ok(central) => Ok(central),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(()),
        }
    }

    /// How many slots one worker may keep when `total` are reserved.
    pub(crate) fn cache_limit(&self, total: usize) -> usize {
        (total / (4 * self.workers)).clamp(MIN_CACHE, CACHE)
    }

    /// How many threads `total` slots are enough for (P3).
    fn promise(&self, total: usize) -> usize {
        let elsewhere = (self.workers - 1) * self.cache_limit(total) + HANDS;
        total.saturating_sub(elsewhere)
    }

    /// Whether `gauge` is one of the first `workers`: only those may keep slots (P3).
    pub(crate) fn may_cache(&self, central: &Central, gauge: &Arc<Gauge>) -> bool {
        central.gauges.iter().take(self.workers).any(|known| Arc::ptr_eq(known, gauge))
    }

    /// The slot's lowest byte: its guard.
    #[inline]
    pub(crate) fn base(&self, index: u32) -> *mut u8 {
        let (segment, offset) = self.layout.place(index);
        let base = self.bases[segment].load(Relaxed);
        assert!(!base.is_null(), "slot {index} is not this pool's");
        base.wrapping_add(offset)
    }

    /// The slot as a range, guard included.
    pub(crate) fn range(&self, index: u32) -> Range {
        Range { start: self.base(index).expose_provenance(), bytes: self.layout.slot_size() }
    }

    /// See [`SlotAllocator::reserve`](gvt_traits::SlotAllocator::reserve).
    #[inline]
    pub(crate) fn reserve(&self, threads: usize) -> Result<(), MemoryError> {
        if threads <= self.promised.load(Relaxed) {
            return Ok(());
        }
        self.grow(threads)
    }

    #[cold]
    fn grow(&self, threads: usize) -> Result<(), MemoryError> {
        let mut central = self.lock();
        let before = central.segments.len();
        let refused = |slots: usize, errno| MemoryError::Reserve {
            what: "stacks",
            bytes: slots.saturating_mul(self.layout.slot_size()),
            errno,
        };

        let mut segments = before;
        // With guards by `mprotect` the last segment may hold slots that do not count yet.
        while self.promise(self.layout.segment_start(segments)) < threads {
            segments += 1;
            // More than the pool was built for.
            if segments > MAX_SEGMENTS || self.layout.segment_slots(segments - 1) == 0 {
                return Err(refused(threads, libc::ENOMEM));
            }
        }
        let total = self.layout.segment_start(segments);
        let more = total.saturating_sub(central.total as usize);

        // The lists together hold each slot once at the most (P1), so no later push allocates.
        let Central { warm, cooling, bare, .. } = &mut *central;
        for list in [warm, cooling, bare] {
            if list.try_reserve_exact(total - list.len()).is_err() {
                return Err(refused(more, libc::ENOMEM));
            }
        }
        for k in before..segments {
            let span = self.layout.segment_slots(k).checked_mul(self.layout.slot_size());
            match span.and_then(|span| span.checked_add(2 * PAGE_TABLE_SPAN)).map(Mapping::new) {
                Some(Ok(mapping)) => {
                    self.bases[k].store(self.align(&mapping), Relaxed);
                    central.segments.push(mapping);
                }
                failure => {
                    for (k, mapping) in (before..).zip(central.segments.drain(before..)) {
                        self.bases[k].store(std::ptr::null_mut(), Relaxed);
                        // SAFETY: no slot of this segment has been handed out: `total` is unchanged.
                        unsafe { mapping.unmap() };
                    }
                    let errno = failure.and_then(Result::err).unwrap_or(libc::ENOMEM);
                    return Err(refused(more, errno));
                }
            }
        }
        let (total, error) = match self.guarding {
            Guarding::Protect => self.protect(central.total as usize, total, threads),
            _ => (total, None),
        };
        central.total = total as u32;
        let promise = self.promise(total);
        self.promised.store(promise, Relaxed);
        match error {
            Some(errno) if promise < threads => Err(MemoryError::Guard { errno }),
            _ => Ok(()),
        }
    }

    /// Guards slots from number `from` on by `mprotect`, enough of them for `threads`, `mapped` at the most
    /// (P2). Returns how many have a guard now, and the error that stopped it.
    fn protect(&self, from: usize, mapped: usize, threads: usize) -> (usize, Option<i32>) {
        let mut total = from;
        let mut most = mapped;
        // Not all at once: each costs a system call and two of the process's mappings.
        while most > total && self.promise(most - (most - total).div_ceil(2)) >= threads {
            most -= (most - total).div_ceil(2);
        }
        while total < most {
            let guard = Range { bytes: GUARD_SIZE, ..self.range(total as u32) };
            if let Err(errno) = protect::install(guard) {
                return (total, Some(errno));
            }
            total += 1;
        }
        (total, None)
    }

    /// All address space of the class.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        self.lock().segments.iter().map(Mapping::range).collect()
    }

    /// The lowest address in `mapping` with the layout's phase. The mapping is two spans longer than
    /// its slots, so that they fit wherever it begins.
    fn align(&self, mapping: &Mapping) -> *mut u8 {
        let phase = self.layout.phase();
        let to_phase = phase.wrapping_sub(mapping.address()) % PAGE_TABLE_SPAN;
        mapping.pointer().wrapping_add(to_phase)
    }
}

impl Central {
    pub(crate) fn bytes_reserved(&self) -> usize {
        self.segments.iter().map(Mapping::bytes).sum()
    }

    /// Slots that are in one of the lists.
    pub(crate) fn listed(&self) -> usize {
        self.warm.len() + self.cooling.len() + self.bare.len()
    }

    /// Notes the level of `warm`, after some were taken.
    pub(crate) fn note_warm(&mut self) {
        self.least_warm = self.least_warm.min(self.warm.len());
    }
}

impl Drop for Shared {
    /// Runs when the pool and all its caches are gone. If a slot is still in use, some stack may still run:
    /// then the address space stays (S2), and is lost.
    fn drop(&mut self) {
        let central = self.central.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let free = central.listed() + *self.decaying.get_mut() as usize;
        if free == central.fresh as usize {
            if self.guarding == Guarding::Protect {
                protect::forget(central.total as usize);
            }
            for mapping in central.segments.drain(..) {
                // SAFETY: P1: every slot ever handed out is in a list, so none is in use.
                unsafe { mapping.unmap() };
            }
        }
    }
}

/// Moves the last entries of `list`, as many as there are and fit, into `slots`, in their order.
pub(crate) fn take_last<'a>(list: &mut Vec<u32>, slots: &'a mut [u32]) -> Option<&'a mut [u32]> {
    let rest = list.len().saturating_sub(slots.len());
    let slots = &mut slots[..list.len() - rest];
    slots.copy_from_slice(&list[rest..]);
    list.truncate(rest);
    if slots.is_empty() { None } else { Some(slots) }
}
