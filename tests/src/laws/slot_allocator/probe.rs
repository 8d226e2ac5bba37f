//! Looking at memory that may not be there.

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::StackBounds;

use crate::{Verdict, Violation};

/// Touches memory through a pipe: where user code would get a signal, the kernel answers `EFAULT`.
pub(super) struct Probe {
    reader: i32,
    writer: i32,
}

impl Probe {
    pub(super) fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: the array has room for two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        assert_eq!(made, 0, "the suite needs a pipe: {}", std::io::Error::last_os_error());
        Probe { reader: ends[0], writer: ends[1] }
    }

    /// Whether the byte at `address` can be read.
    pub(super) fn can_read(&self, address: *const u8) -> bool {
        // SAFETY: the kernel reads the byte, or reports that it cannot.
        let written = unsafe { libc::write(self.writer, address.cast(), 1) };
        self.drain();
        written == 1
    }

    /// Whether the byte at `address` can be written; if so, it is.
    pub(super) fn can_write(&self, address: *mut u8) -> bool {
        let byte = 0x5Au8;
        // SAFETY: `byte` is one byte.
        let fed = unsafe { libc::write(self.writer, (&raw const byte).cast(), 1) };
        assert_eq!(fed, 1, "the pipe was empty: {}", std::io::Error::last_os_error());
        // SAFETY: the address is within a slot in use, whose contents nobody else needs, or below it,
        // where the kernel reports that it cannot write.
        let read = unsafe { libc::read(self.reader, address.cast::<c_void>(), 1) };
        self.drain();
        read == 1
    }

    fn drain(&self) {
        let mut rest = [0u8; 16];
        // SAFETY: the buffer has the length given.
        while unsafe { libc::read(self.reader, rest.as_mut_ptr().cast(), rest.len()) } > 0 {}
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: both descriptors are this probe's own.
        unsafe {
            libc::close(self.reader);
            libc::close(self.writer);
        }
    }
}

/// A mark at both ends and in the middle of a stack, like no other.
pub(super) struct Tag {
    words: [*const AtomicU64; 3],
    value: u64,
}

// SAFETY: the words are atomics within a slot in use.
unsafe impl Send for Tag {}

impl Tag {
    /// Marks the stack of a slot in use. Fails (S3) where it cannot be written.
    pub(super) fn write(bounds: StackBounds) -> Result<Self, Violation> {
        // Relaxed: all that counts is that no two are the same.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (top, bottom) = (bounds.top.as_ptr(), bounds.bottom.as_ptr());
        let middle = bottom.wrapping_add((top as usize - bottom as usize) / 2);
        let word = |address: *mut u8| address.map_addr(|a| a & !7).cast::<AtomicU64>().cast_const();
        let words = [word(top.wrapping_sub(8)), word(middle), word(bottom.wrapping_add(8))];
        let tag = Tag { words, value: NEXT.fetch_add(1, Relaxed) };

        // Written by the kernel, which answers with an error where a store would raise a signal.
        let from = libc::iovec { iov_base: (&raw const tag.value).cast_mut().cast(), iov_len: 8 };
        let to = words.map(|word| libc::iovec { iov_base: word.cast_mut().cast(), iov_len: 8 });
        for to in &to {
            // SAFETY: source and destination have 8 bytes; the destination is in a slot in use, whose
            // contents nobody else needs.
            let written = unsafe { libc::process_vm_writev(libc::getpid(), &from, 1, to, 1, 0) };
            if written != 8 {
                let error = std::io::Error::last_os_error();
                let what = format!("the stack {bounds:?} cannot be written at {:?}: {error}", to.iov_base);
                return Err(Violation::new("S3", what));
            }
        }
        Ok(tag)
    }

    fn words(&self) -> [&AtomicU64; 3] {
        // SAFETY: aligned words within a slot in use (S2, S3: mapped and writable). Atomics, so that a pool
        // that hands a slot out twice is found out without a data race.
        self.words.map(|word| unsafe { &*word })
    }

    /// That the marks are still there. The slot is still in use. Another mark in their place is another
    /// slot's (S1), anything else a loss of contents (S2).
    pub(super) fn check(&self, after: &str) -> Verdict {
        for (word, place) in self.words().into_iter().zip(["top", "middle", "bottom"]) {
            let found = word.load(Relaxed);
            if found != self.value {
                let clause = if found == 0 { "S2" } else { "S1" };
                let what = format!("mark {} at a stack's {place} became {found} after {after}", self.value);
                return Err(Violation::new(clause, what));
            }
        }
        Ok(())
    }
}
