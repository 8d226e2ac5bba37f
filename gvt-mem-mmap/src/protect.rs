//! Guards by `mprotect`, for kernels that have nothing better.
//!
//! Each costs the process two of its mappings, of which `vm.max_map_count` (65,530) are allowed. Past that,
//! not only guards fail but whatever else maps memory: OS threads, large allocations. So some are left for
//! the rest of the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gvt_traits::GUARD_SIZE;

use crate::sys::{Range, errno};

/// Mappings left for other uses.
const LEFT: usize = 4096;

/// Guards of all pools. Relaxed: a count, by which nothing else is ordered.
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// Guards that the process may have.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        let mappings = text.trim().parse().unwrap_or(65_530_usize);
        (mappings.saturating_sub(LEFT) / 2).max(mappings / 4)
    })
}

/// Makes a page fault.
pub(crate) fn install(guard: Range) -> Result<(), i32> {
    if GUARDS.fetch_add(1, Relaxed) >= most() {
        GUARDS.fetch_sub(1, Relaxed);
        return Err(libc::ENOMEM);
    }
    // SAFETY: the lowest page of a slot of the pool that has never been used; no stack includes it.
    if unsafe { libc::mprotect(guard.pointer(), GUARD_SIZE, libc::PROT_NONE) } != 0 {
        let errno = errno();
        GUARDS.fetch_sub(1, Relaxed);
        return Err(errno);
    }
    Ok(())
}

/// So many guards are about to be unmapped.
pub(crate) fn forget(count: usize) {
    GUARDS.fetch_sub(count, Relaxed);
}
