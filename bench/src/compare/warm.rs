//! Warm memory, so that every peer meets the same.
//!
//! On a virtual machine the first touch of a page may cost the host as well: it has taken back what was free
//! for some seconds, and gives it again at 4 to 10 µs a page. Whoever were measured first after that would
//! pay for those who follow. So before each measurement of a case that takes much memory, as much is touched
//! and freed.

use std::ptr;

use super::machine;
use crate::cases::{Alive, Case};
use crate::params::Params;

/// What a thread may take: a page of stack, one of page table, its record.
const THREAD: u64 = 8_900;
/// Of many threads that end before the next ones begin, and of a tree, some part lives at once.
const PASSING: u64 = 1 << 30;

/// Touches and frees what `case` may take, or half of what it may.
pub fn memory_for(case: &Case, params: &Params) {
    let bytes = match case.alive {
        Alive::Few => return,
        Alive::Tree => PASSING,
        Alive::Many(size) if case.work == "spawn-many" => (params.get(size) * THREAD).min(PASSING),
        Alive::Many(size) | Alive::Shrinkable(size) => params.get(size) * THREAD,
    };
    touch(bytes.min(machine::memory_limit() / 2) as usize);
}

fn touch(bytes: usize) {
    const PAGE: usize = 4096;
    // SAFETY: a mapping of its own, written within its bounds, and unmapped.
    unsafe {
        let place = libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        if place == libc::MAP_FAILED {
            return;
        }
        libc::madvise(place, bytes, libc::MADV_HUGEPAGE);
        for offset in (0..bytes).step_by(PAGE) {
            place.cast::<u8>().add(offset).write_volatile(1);
        }
        libc::munmap(place, bytes);
    }
}
