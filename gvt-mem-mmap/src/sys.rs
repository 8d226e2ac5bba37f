//! The system calls, and what they fall back to.
//!
//! **Guards.** `MADV_GUARD_INSTALL` (Linux 6.13) marks page-table entries: it splits no mapping,
//! survives `MADV_DONTNEED`, and `process_madvise` on the caller itself sets many at once. Older kernels
//! get `mprotect(PROT_NONE)`: two mappings a slot, of which `vm.max_map_count` allows 65,530. Which of the
//! three works is found out once per pool, on a page that nobody uses; a sandbox that
//! forbids one of them leads to the next.
//!
//! **Errors** are the kernel's numbers. Advice that only saves time or memory may fail silently.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use gvt_traits::GUARD_SIZE;

const MADV_POPULATE_WRITE: i32 = 23;
const MADV_GUARD_INSTALL: i32 = 102;
/// `process_madvise` on the caller's own address space (Linux 6.14).
const PIDFD_SELF: i32 = -10000;
/// Ranges in one `process_madvise`.
pub(crate) const BATCH: usize = 64;

const PAGE: usize = 4096;

/// How guards are set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guarding {
    /// `process_madvise`, many at once.
    MarkMany,
    /// `madvise`, one by one.
    MarkOne,
    /// `mprotect`, one by one.
    Protect,
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Address space obtained from `mmap` and given back by [`unmap`](Self::unmap).
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to an OS thread; the type offers no access to its
// contents.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Reserves `bytes`, readable and writable, without huge pages and without commitment.
    pub(crate) fn new(bytes: usize) -> Result<Self, i32> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nobody's memory.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(errno());
        }
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(libc::ENOMEM)?;
        // A kernel without huge pages refuses; then there is nothing to advise against.
        // SAFETY: the range is the mapping made above.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_NOHUGEPAGE) };
        Ok(Mapping { start, bytes })
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The lowest address; exposed, for [`Range`]s.
    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr().expose_provenance()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the address space back.
    ///
    /// # Safety
    ///
    /// Nobody uses the memory any more.
    pub(crate) unsafe fn unmap(self) {
        // SAFETY: the mapping is ours, and by the caller's promise unused.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A range of a mapping of the pool, for advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl Range {
    fn pointer(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.start)
    }

    fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.pointer(), iov_len: self.bytes }
    }
}

/// One `process_madvise` over `ranges`; returns how many of them were dealt with, from the first on.
///
/// # Safety
///
/// As `madvise` on each of the ranges.
unsafe fn advise_many(ranges: &[Range], advice: i32) -> Result<usize, i32> {
    let mut vector = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let ranges = &ranges[..ranges.len().min(BATCH)];
    for (entry, range) in vector.iter_mut().zip(ranges) {
        *entry = range.iovec();
    }
    // SAFETY: the vector outlives the call; the rest is the caller's promise.
    let advised = unsafe {
        libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, vector.as_ptr(), ranges.len(), advice, 0)
    };
    if advised < 0 {
        return Err(errno());
    }
    let mut left = advised as usize;
    let whole = |range: &&Range| {
        let whole = left >= range.bytes;
        left = left.saturating_sub(range.bytes);
        whole
    };
    Ok(ranges.iter().take_while(whole).count())
}

/// Advises on each of `ranges`; what cannot be done at once is done one by one. Returns how many
/// succeeded, from the first on, and the error that stopped it.
///
/// # Safety
///
/// As `madvise` on each of the ranges.
unsafe fn advise(guarding: Guarding, ranges: &[Range], advice: i32) -> (usize, Option<i32>) {
    let mut done = 0;
    while done < ranges.len() {
        if guarding == Guarding::MarkMany && ranges.len() - done > 1 {
            // SAFETY: the caller's promise.
            match unsafe { advise_many(&ranges[done..], advice) } {
                Ok(0) | Err(_) => {}
                Ok(some) => {
                    done += some;
                    continue;
                }
            }
        }
        let range = ranges[done];
        // SAFETY: the caller's promise.
        if unsafe { libc::madvise(range.pointer(), range.bytes, advice) } != 0 {
            return (done, Some(errno()));
        }
        done += 1;
    }
    (done, None)
}

impl Guarding {
    /// The best that this kernel offers.
    pub(crate) fn probe() -> Guarding {
        let Ok(mapping) = Mapping::new(3 * PAGE) else {
            return Guarding::Protect;
        };
        let page = |n: usize| Range { start: mapping.address() + n * PAGE, bytes: PAGE };
        // SAFETY: the pages belong to the mapping made above, which nothing else uses.
        let found = unsafe {
            if advise_many(&[page(0), page(2)], MADV_GUARD_INSTALL) == Ok(2) {
                Guarding::MarkMany
            } else if libc::madvise(page(0).pointer(), PAGE, MADV_GUARD_INSTALL) == 0 {
                Guarding::MarkOne
            } else {
                Guarding::Protect
            }
        };
        // SAFETY: nothing refers to the mapping.
        unsafe { mapping.unmap() };
        found
    }

    /// Makes the page at each of `guards` fault. Returns how many, from the first on, and the error
    /// that stopped it.
    ///
    /// # Safety
    ///
    /// Each is the lowest page of a slot of the pool, and no slot's stack includes it.
    pub(crate) unsafe fn install(self, guards: &[Range]) -> (usize, Option<i32>) {
        if self != Guarding::Protect {
            // SAFETY: the caller's promise: no stack loses a page.
            return unsafe { advise(self, guards, MADV_GUARD_INSTALL) };
        }
        for (done, guard) in guards.iter().enumerate() {
            // SAFETY: the caller's promise: no stack loses a page.
            if unsafe { libc::mprotect(guard.pointer(), GUARD_SIZE, libc::PROT_NONE) } != 0 {
                return (done, Some(errno()));
            }
        }
        (guards.len(), None)
    }

    /// Gives physical pages to `pages` before they are touched. Contents stay.
    pub(crate) fn populate(self, pages: &[Range]) {
        // SAFETY: populating changes no contents, in whichever mapping; failure leaves the page to be
        // faulted in when it is touched.
        unsafe { advise(self, pages, MADV_POPULATE_WRITE) };
    }

    /// Gives the physical memory of `ranges` back. Guards in them stay.
    ///
    /// # Safety
    ///
    /// Nobody needs what the ranges hold.
    pub(crate) unsafe fn discard(self, ranges: &[Range]) {
        // SAFETY: the caller's promise. Failure leaves the memory where it is.
        unsafe { advise(self, ranges, libc::MADV_DONTNEED) };
    }
}

/// How many bytes of `range` are resident; looks at the highest MiB only.
pub(crate) fn resident(range: Range) -> usize {
    const MOST: usize = 256;
    let bytes = range.bytes.min(MOST * PAGE);
    let start: *mut c_void = ptr::with_exposed_provenance_mut(range.start + range.bytes - bytes);
    let mut pages = [0u8; MOST];
    // SAFETY: `pages` has a byte for each page of the range; the memory itself is not accessed.
    if unsafe { libc::mincore(start, bytes, pages.as_mut_ptr()) } != 0 {
        return 0;
    }
    pages.iter().filter(|&&page| page & 1 == 1).count() * PAGE
}
