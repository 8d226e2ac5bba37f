//! Stacks for suites that need some and test no allocator.

use std::ptr::{self, NonNull};

use gvt_traits::StackBounds;

const PAGE: usize = 4096;

/// One stack with a page below it that faults.
#[derive(Debug)]
pub struct Stack {
    mapping: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is an address range; nothing in it belongs to an OS thread.
unsafe impl Send for Stack {}

impl Stack {
    /// A stack of at least `bytes`.
    ///
    /// # Panics
    ///
    /// If the system has no memory for it.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(PAGE) + PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapping =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_ne!(mapping, libc::MAP_FAILED, "no memory for a stack: {}", std::io::Error::last_os_error());
        // SAFETY: the first page of the mapping just made.
        let guarded = unsafe { libc::mprotect(mapping, PAGE, libc::PROT_NONE) };
        assert_eq!(guarded, 0, "no guard for a stack: {}", std::io::Error::last_os_error());
        Stack { mapping: NonNull::new(mapping.cast()).expect("the kernel maps nothing at 0"), bytes }
    }

    /// Its bounds, the guard left out.
    pub fn bounds(&self) -> StackBounds {
        // SAFETY: both lie in the mapping, or one past its end.
        unsafe { StackBounds { top: self.mapping.add(self.bytes), bottom: self.mapping.add(PAGE) } }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; whoever dropped the stack lets nothing run on it again.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.bytes) };
    }
}
