//! How many bytes a thread has allocated: a gauge for laws about memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a count a thread of the bytes that it has out.
///
/// Counting by thread keeps tests that run side by side apart. Memory that one thread allocates
/// and another frees makes the one count too high and the other too low.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: gvt_conformance::counting::Counting = gvt_conformance::counting::Counting;
///
/// let before = gvt_conformance::counting::live_bytes();
/// let page = vec![1_u8; 4096];
/// assert!(gvt_conformance::counting::live_bytes() >= before + 4096);
/// drop(page);
/// ```
#[derive(Debug)]
pub struct Counting;

/// Bytes that this thread has allocated and not freed; 0 unless [`Counting`] is the global
/// allocator.
pub fn live_bytes() -> isize {
    LIVE.with(Cell::get)
}

fn count(bytes: isize) {
    // A thread whose locals are gone is at its end, and nobody asks for its count.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: each method does what `System`'s does; counting allocates nothing, since the local is
// initialised at compile time and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
