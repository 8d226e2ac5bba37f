//! All records of a runtime: one reserved array, and the lists of free ones.
//!
//! **Indices.** A record's index and its address follow from each other by arithmetic. The array is reserved
//! whole (256 bytes for each thread that may be alive) and grows into physical memory as its high-water mark
//! rises.
//!
//! **Free records** are reused last in, first out, so that they are warm. Each worker keeps a small cache;
//! beyond that they are in one list behind a lock, which workers visit for a batch at a time. In a small
//! table (`max_gvthreads` below 64 caches' worth a worker) nothing is cached, so that the limit is exact. In
//! a larger one a spawn could be refused while other workers cache free records, so the array has room for
//! all caches beyond `max_gvthreads`.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};

use gvt_traits::{GvtId, MemoryError, Metadata, SchedError};

use crate::kernel::thread::inner::InnerLock;
use crate::kernel::thread::record::Record;

/// Records in a worker's cache at most.
pub(crate) const CACHE: usize = 64;

/// The largest `max_gvthreads`.
pub(crate) const MOST_GVTHREADS: usize = 16 << 20;

/// The owner of a table's records: a runtime's core.
pub(crate) trait Owner {
    /// Its address, which each record stores.
    fn address(&self) -> *mut ();

    fn workers(&self) -> usize;

    /// Ensures that so many threads can have stacks.
    fn reserve(&self, threads: usize) -> Result<(), MemoryError>;
}

pub(crate) struct RecordTable {
    base: NonNull<Record>,
    bytes: usize,
    /// The limit that the user set.
    limit: usize,
    /// Most records: `limit` plus those that may be in caches.
    capacity: usize,
    /// Records that were ever used; written under `free`'s lock.
    high_water: AtomicU32,
    free: InnerLock<Vec<u32>>,
    /// Number moved between a cache and `free` at once; 0: no caches.
    batch: usize,
}

// SAFETY: the array is shared memory whose contents are `Sync`; the rest is `Sync`.
unsafe impl Sync for RecordTable {}
// SAFETY: the array is shared memory whose contents are `Send`.
unsafe impl Send for RecordTable {}

/// Asks for huge pages behind the first few thousand records: with so many, each access would miss the TLB,
/// and a page fault for every 16 would be half of the cost of a new record.
fn advise_huge_pages(base: usize, bytes: usize) {
    const HUGE: usize = 2 << 20;
    let first = (base + HUGE / 2).next_multiple_of(HUGE);
    let end = (base + bytes) & !(HUGE - 1);
    if first < end {
        // A refusal (no huge pages here) only costs speed.
        // SAFETY: within the mapping just made, which is not used yet.
        unsafe { libc::madvise(first as *mut _, end - first, libc::MADV_HUGEPAGE) };
    }
}

impl RecordTable {
    pub(crate) fn new(limit: usize, workers: usize) -> Result<Self, MemoryError> {
        let batch = if limit >= 64 * CACHE * workers { CACHE / 2 } else { 0 };
        let capacity = if batch > 0 { limit + CACHE * workers } else { limit };
        let bytes = (capacity * size_of::<Record>()).next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(MemoryError::Reserve {
                what: "the green threads' records",
                bytes,
                errno: crate::os::errno(),
            });
        }
        advise_huge_pages(base as usize, bytes);
        Ok(RecordTable {
            base: NonNull::new(base.cast()).expect("mmap never maps address 0"),
            bytes,
            limit,
            capacity,
            high_water: AtomicU32::new(0),
            free: InnerLock::new(Vec::new()),
            batch,
        })
    }

    /// Whether the limit is exact: free records are in one list, not in caches.
    pub(crate) fn is_exact(&self) -> bool {
        self.batch == 0
    }

    /// Most threads that may be admitted.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The record at `id`, which must have been used.
    #[inline]
    pub(crate) fn get(&self, id: GvtId) -> &Record {
        debug_assert!((id.index() as usize) < self.capacity);
        // SAFETY: within the array; ids are given out only for initialised records.
        unsafe { self.base.add(id.index() as usize).as_ref() }
    }

    /// The record at `id`, if there is one: for ids of foreign origin.
    #[inline]
    pub(crate) fn find(&self, id: GvtId) -> Option<&Record> {
        // ORDERING O1: Acquire pairs with the Release in `grow`: records below the mark are initialised.
        (id.index() < self.high_water.load(Acquire)).then(|| self.get(id))
    }

    /// The record at an address that a part claims is a record's, if it is within the table. It may be blank,
    /// or any thread's: good for prefetching only.
    #[inline(always)]
    pub(crate) fn lies_within(&self, address: NonNull<Metadata>) -> Option<NonNull<Record>> {
        const SHIFT: u32 = size_of::<Record>().trailing_zeros();
        // One comparison for both: an address that is not a multiple of a record's size becomes a large
        // number.
        let place = address.addr().get().wrapping_sub(self.base.addr().get()).rotate_right(SHIFT);
        // Within the mapping, and aligned.
        (place < self.capacity).then(|| self.base.with_addr(address.addr()))
    }

    /// Records that were ever used.
    pub(crate) fn used_count(&self) -> usize {
        // Relaxed: for reports.
        self.high_water.load(Relaxed) as usize
    }

    /// All records that were ever used.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Record> {
        // ORDERING O1: Acquire pairs with the Release in `grow`: records below the mark are
        // initialised.
        let high_water = self.high_water.load(Acquire);
        (0..high_water).map(|index| self.get(GvtId::new(index)))
    }

    /// Takes a free record, through `cache` if the caller is a worker.
    #[inline]
    pub(crate) fn allocate(
        &self,
        owner: &impl Owner,
        cache: Option<&mut RecordCache>,
    ) -> Result<NonNull<Record>, SchedError> {
        if let Some(cache) = cache {
            if let Some(index) = cache.pop() {
                return Ok(self.at(index));
            }
            return self.refill(owner, Some(cache));
        }
        self.refill(owner, None)
    }

    fn at(&self, index: u32) -> NonNull<Record> {
        // SAFETY: indices come from this table.
        unsafe { self.base.add(index as usize) }
    }

    #[cold]
    fn refill(
        &self,
        owner: &impl Owner,
        cache: Option<&mut RecordCache>,
    ) -> Result<NonNull<Record>, SchedError> {
        let mut free = self.free.lock();
        if free.is_empty() {
            let mut wanted = if cache.is_some() { self.batch.max(1) } else { 1 };
            // If stacks for so many are not available, perhaps they are for fewer.
            while let Err(error) = self.grow(owner, &mut free, wanted) {
                if wanted == 1 || !matches!(error, SchedError::Memory(_)) {
                    return Err(error);
                }
                wanted /= 2;
            }
        }
        let index = free.pop().expect("grown or not empty");
        if let Some(cache) = cache {
            let take = self.batch.saturating_sub(1).min(free.len());
            let rest = free.len() - take;
            for &index in &free[rest..] {
                cache.push(index);
            }
            free.truncate(rest);
        }
        Ok(self.at(index))
    }

    /// Adds up to `wanted` fresh records to the free list.
    fn grow(&self, owner: &impl Owner, free: &mut Vec<u32>, wanted: usize) -> Result<(), SchedError> {
        let from = self.high_water.load(Relaxed) as usize;
        let to = (from + wanted).min(self.capacity);
        if to == from {
            return Err(SchedError::TooManyThreads { limit: self.limit });
        }
        // The list will hold every record at some time, when memory may be short.
        if free.try_reserve(to - free.len()).is_err() {
            let bytes = to * size_of::<u32>();
            return Err(MemoryError::Reserve {
                what: "the list of free records",
                bytes,
                errno: libc::ENOMEM,
            }
            .into());
        }
        // A thread that ends releases its record first, and its slot after leaving it, so each worker may
        // have one slot in use without a thread.
        owner.reserve(to + owner.workers())?;
        for index in (from..to).rev() {
            let record = self.at(index as u32);
            // SAFETY: inside the array, beyond what was used so far: unreferenced.
            unsafe { record.write(Record::new(GvtId::new(index as u32))) };
            // SAFETY: just initialised.
            let record = unsafe { record.as_ref() };
            record.meta.runtime.store(owner.address(), Relaxed);
            free.push(index as u32);
        }
        // ORDERING O1: Release pairs with the Acquire in `used`.
        self.high_water.store(to as u32, Release);
        Ok(())
    }

    /// Puts back a record without references.
    #[inline]
    pub(crate) fn release(&self, record: &Record, cache: Option<&mut RecordCache>) {
        let index = record.meta.gvthread_id;
        match cache {
            Some(cache) if self.batch > 0 => {
                if cache.is_full() {
                    self.spill(cache);
                }
                cache.push(index);
            }
            _ => self.free.lock().push(index),
        }
    }

    /// [`release`](Self::release) from an OS thread without a worker of this runtime. `orphans` is the count
    /// of records that outlived the runtime, `usize::MAX` while it lives; returns whether this was the last.
    pub(crate) fn release_outside(&self, record: &Record, orphans: &AtomicUsize) -> bool {
        let mut free = self.free.lock();
        free.push(record.meta.gvthread_id);
        // Relaxed: read and written under the lock.
        let left = orphans.load(Relaxed);
        if left == usize::MAX {
            return false;
        }
        orphans.store(left - 1, Relaxed);
        left == 1
    }

    #[cold]
    fn spill(&self, cache: &mut RecordCache) {
        let mut free = self.free.lock();
        free.extend(cache.take_oldest(self.batch));
    }

    /// Returns a whole cache, when its worker ends.
    pub(crate) fn spill_all(&self, cache: &mut RecordCache) {
        let mut free = self.free.lock();
        free.extend(cache.take_oldest(CACHE));
    }

    /// The runtime has ended, with all caches spilled: stores in `orphans` how many records still have
    /// references, and returns it. Under the lock that every later release takes, so that each release is
    /// counted once.
    pub(crate) fn close(&self, orphans: &AtomicUsize) -> usize {
        let free = self.free.lock();
        let outstanding = self.high_water.load(Relaxed) as usize - free.len();
        // Relaxed: under the lock.
        orphans.store(outstanding, Relaxed);
        outstanding
    }
}

impl Drop for RecordTable {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own; the core that owns it drops it only when no record has a
        // reference.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A worker's own free records.
pub(crate) struct RecordCache {
    places: [u32; CACHE],
    len: usize,
}

impl RecordCache {
    pub(crate) const fn new() -> Self {
        RecordCache { places: [0; CACHE], len: 0 }
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        Some(self.places[self.len])
    }

    fn is_full(&self) -> bool {
        self.len == CACHE
    }

    #[inline]
    fn push(&mut self, index: u32) {
        self.places[self.len] = index;
        self.len += 1;
    }

    fn take_oldest(&mut self, count: usize) -> impl Iterator<Item = u32> {
        let count = count.min(self.len);
        let mut oldest = [0; CACHE];
        oldest[..count].copy_from_slice(&self.places[..count]);
        self.places.copy_within(count..self.len, 0);
        self.len -= count;
        oldest.into_iter().take(count)
    }
}
