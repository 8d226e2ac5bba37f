//! The system calls, and what they fall back to.
//!
//! **Guards.** `MADV_GUARD_INSTALL` (Linux 6.13) marks page-table entries: it splits no mapping, and
//! `process_madvise` on the caller itself (Linux 6.14) sets many at once. Older kernels get
//! `mprotect(PROT_NONE)`: two mappings a slot, of which `vm.max_map_count` allows 65,530. Which of the three
//! works is found out once a pool, on pages that nobody uses; a sandbox that forbids one leads to the next.
//!
//! **Errors** are the kernel's numbers. Advice that only saves time or memory may fail silently.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;
/// `process_madvise` on the caller's own address space (Linux 6.14).
const PIDFD_SELF: i32 = -10000;
/// Ranges in one `process_madvise`.
pub(crate) const BATCH: usize = 64;

pub(crate) const PAGE: usize = 4096;

/// How guards are set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guarding {
    /// `process_madvise`, many at once.
    MarkMany,
    /// `madvise`, one by one.
    MarkOne,
    /// `mprotect`, one by one, when a slot is reserved; see `protect`.
    Protect,
}

pub(crate) fn errno() -> i32 {
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
    /// Reserves `bytes`, readable and writable but for the last page, without huge pages and without
    /// commitment.
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
        // The last page is nobody's. Closed, it keeps the kernel from joining the mapping with the next, so
        // that `resident_in` can tell them apart.
        if bytes > PAGE {
            // SAFETY: the page belongs to the mapping made above.
            unsafe { libc::mprotect(start.as_ptr().add(bytes - PAGE).cast(), PAGE, libc::PROT_NONE) };
        }
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

    pub(crate) fn range(&self) -> Range {
        Range { start: self.address(), bytes: self.bytes }
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
    pub(crate) fn pointer(&self) -> *mut c_void {
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
        let Ok(mapping) = Mapping::new(4 * PAGE) else {
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
        // SAFETY: the caller's promise: no stack loses a page.
        unsafe { advise(self, guards, MADV_GUARD_INSTALL) }
    }

    /// Removes the marks at `guards`, and gives back the physical memory of `runs`, which the guards lie in,
    /// and their page tables where the kernel can. A mark that cannot be removed stays, and so do guards by
    /// `mprotect`.
    ///
    /// # Safety
    ///
    /// Nobody needs what the runs hold, or the guards.
    pub(crate) unsafe fn strip(self, guards: &[Range], runs: &[Range]) {
        // SAFETY: the caller's promise.
        unsafe {
            // Alone they would keep the page tables.
            if self != Guarding::Protect {
                advise(self, guards, MADV_GUARD_REMOVE);
            }
            advise(self, runs, libc::MADV_DONTNEED);
        }
    }
}

/// How many bytes of `range` are resident; looks at the highest pages only, where a stack begins.
pub(crate) fn resident(range: Range) -> usize {
    const MOST: usize = 16;
    let bytes = range.bytes.min(MOST * PAGE);
    let start: *mut c_void = ptr::with_exposed_provenance_mut(range.start + range.bytes - bytes);
    let mut pages = [0u8; MOST];
    // SAFETY: `pages` has a byte for each page of the range; the memory itself is not accessed.
    if unsafe { libc::mincore(start, bytes, pages.as_mut_ptr()) } != 0 {
        return 0;
    }
    pages.iter().filter(|&&page| page & 1 == 1).count() * PAGE
}

/// How many bytes of `ranges`, mappings of ours, are resident, by the kernel's report on the process's
/// mappings; `None` if that cannot be read. The kernel may have joined neighbouring mappings: then each gets
/// its share.
pub(crate) fn resident_in(ranges: &[Range]) -> Option<usize> {
    if ranges.is_empty() {
        return Some(0);
    }
    let report = std::io::BufReader::new(std::fs::File::open("/proc/self/smaps").ok()?);
    let mut sum = 0;
    let mut share = 0.0;
    for line in std::io::BufRead::lines(report) {
        let line = line.ok()?;
        if let Some(rest) = line.strip_prefix("Rss:") {
            if share > 0.0 {
                let kib: usize = rest.split_whitespace().next()?.parse().ok()?;
                sum += (share * (kib * 1024) as f64) as usize;
            }
        } else if let Some((start, end)) = addresses(&line) {
            let ours: usize = ranges
                .iter()
                .map(|range| (range.start + range.bytes).min(end).saturating_sub(range.start.max(start)))
                .sum();
            share = ours as f64 / (end - start) as f64;
        }
    }
    Some(sum)
}

/// The addresses that a line of `smaps` begins with, if it is one that does.
fn addresses(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?)).filter(|(start, end)| end > start)
}

#[cfg(test)]
mod tests {
    use gvt_traits::GUARD_SIZE;

    use super::*;

    /// Whether the kernel can read the byte at `address`.
    fn readable(address: usize) -> bool {
        let mut byte = 0u8;
        let to = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let from = Range { start: address, bytes: 1 }.iovec();
        // SAFETY: `byte` is one byte; an address that cannot be read is an error.
        unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) == 1 }
    }

    #[test]
    fn each_way_of_guarding_guards_and_strips() {
        let best = Guarding::probe();
        for guarding in [Guarding::MarkMany, Guarding::MarkOne, Guarding::Protect] {
            if best == Guarding::Protect && guarding != best {
                continue; // an older kernel, or a sandbox
            }
            const SLOTS: usize = 200;
            let mapping = Mapping::new(SLOTS * 4 * PAGE + PAGE).unwrap();
            let slot = |n: usize| Range { start: mapping.address() + 4 * n * PAGE, bytes: 4 * PAGE };
            let guards: Vec<_> = (0..SLOTS).map(|n| Range { bytes: GUARD_SIZE, ..slot(n) }).collect();
            for _ in 0..2 {
                if guarding == Guarding::Protect {
                    guards.iter().for_each(|&guard| crate::protect::install(guard).unwrap());
                } else {
                    // SAFETY: nothing uses the mapping.
                    assert_eq!(unsafe { guarding.install(&guards) }, (SLOTS, None), "{guarding:?}");
                }
                for n in 0..SLOTS {
                    let start = slot(n).start;
                    assert!(!readable(start) && !readable(start + PAGE - 1), "{guarding:?}: guard {n}");
                    assert!(
                        readable(start + PAGE) && readable(start + 4 * PAGE - 1),
                        "{guarding:?}: stack {n}"
                    );
                    // SAFETY: within the mapping, above the guard.
                    unsafe { slot(n).pointer().byte_add(3 * PAGE).cast::<u8>().write(1) };
                }
                assert!(resident(slot(0)) >= PAGE, "{guarding:?}");
                let runs = [Range { bytes: SLOTS * 4 * PAGE, ..slot(0) }];
                // SAFETY: nothing uses the mapping.
                unsafe { guarding.strip(&guards, &runs) };
                assert_eq!(resident(slot(0)), 0, "{guarding:?}");
                let kept = guarding == Guarding::Protect;
                assert!((0..SLOTS).all(|n| readable(slot(n).start) != kept), "{guarding:?}");
            }
            // SAFETY: nothing uses the mapping.
            unsafe { mapping.unmap() };
        }
    }
}
