//! An OS thread's stack for signal handlers.

/// An alternate signal stack for this OS thread, in place of the one that std may have set up: that has 8 KiB, of which a
/// handler that keeps its OS thread asleep (`detach`) uses half, and one nested in it the other.
pub(crate) struct AlternateStack {
    ours: *mut libc::c_void,
    before: libc::stack_t,
}

/// Usable. Below lies a page that is not, so that a handler which needs more faults and does not write to others' memory.
const ALTERNATE_BYTES: usize = 64 << 10;
const GUARD_BYTES: usize = 4096;

impl AlternateStack {
    pub(crate) fn install() -> Self {
        // SAFETY: valid structures; a fresh mapping that lives as long as the value.
        unsafe {
            let mut before: libc::stack_t = std::mem::zeroed();
            let ours = libc::mmap(
                std::ptr::null_mut(),
                GUARD_BYTES + ALTERNATE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if ours == libc::MAP_FAILED {
                // What std has set up must do.
                return AlternateStack { ours: std::ptr::null_mut(), before };
            }
            // Where that is forbidden, there is no guard.
            libc::mprotect(ours, GUARD_BYTES, libc::PROT_NONE);
            let lowest = ours.byte_add(GUARD_BYTES);
            let stack = libc::stack_t { ss_sp: lowest, ss_flags: 0, ss_size: ALTERNATE_BYTES };
            if libc::sigaltstack(&stack, &mut before) != 0 {
                // Forbidden: signals are handled on the stacks that they meet, and an overflow is a plain SIGSEGV.
                libc::munmap(ours, GUARD_BYTES + ALTERNATE_BYTES);
                return AlternateStack { ours: std::ptr::null_mut(), before };
            }
            AlternateStack { ours, before }
        }
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        if self.ours.is_null() {
            return;
        }
        // SAFETY: the mapping is this value's, and this OS thread stops using it first.
        unsafe {
            libc::sigaltstack(&self.before, std::ptr::null_mut());
            libc::munmap(self.ours, GUARD_BYTES + ALTERNATE_BYTES);
        }
    }
}
