//! An OS thread's alternate stack for signal handlers.

/// An alternate signal stack for this OS thread, instead of std's: that has 8 KiB, of which a handler that
/// keeps its OS thread asleep (`detach`) uses half, and a handler nested in it the other half.
pub(crate) struct AlternateStack {
    ours: *mut libc::c_void,
    before: libc::stack_t,
}

/// Usable bytes. A guard page lies below, so that a handler that needs more faults instead of overwriting
/// other memory.
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
                // Falls back to std's.
                return AlternateStack { ours: std::ptr::null_mut(), before };
            }
            // Where protection is forbidden, there is no guard.
            libc::mprotect(ours, GUARD_BYTES, libc::PROT_NONE);
            let lowest = ours.byte_add(GUARD_BYTES);
            let stack = libc::stack_t { ss_sp: lowest, ss_flags: 0, ss_size: ALTERNATE_BYTES };
            if libc::sigaltstack(&stack, &mut before) != 0 {
                // Forbidden: signals are handled on the stacks that they interrupt, and an overflow is a
                // plain SIGSEGV.
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
