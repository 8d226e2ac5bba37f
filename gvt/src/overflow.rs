//! What happens when a green thread overflows its stack.
//!
//! A touch of the guard page below a green thread's stack raises SIGSEGV. The handler, on an alternate
//! stack, recognises it by the running thread's own bounds, says which thread it was and what its limit
//! is, and ends the process as std does for OS threads. Every other fault goes to whoever handled
//! SIGSEGV before.
//!
//! **Signal safety.** The handler reads plain memory of this OS thread (the worker, the running thread's
//! record), formats into a buffer on its stack, calls `write` and `abort`.

use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::*;

use crate::sched::local;

static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handler, once a process.
pub(crate) fn install() {
    PREVIOUS.get_or_init(|| {
        SIGNALS.map(|signal| {
            // SAFETY: zero is a valid `sigaction`.
            let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
            ours.sa_sigaction =
                handler as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: both point to valid structures; the handler is signal-safe (module head).
            unsafe { libc::sigaction(signal, &ours, &mut previous) };
            previous
        })
    });
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure; SIGSEGV and SIGBUS have an address.
    let address = unsafe { (*info).si_addr() } as usize;
    report_if_overflow(address);
    pass_on(signal, info, context);
}

fn report_if_overflow(address: usize) {
    // SAFETY: the running thread's record is mapped.
    let Some(record) = (unsafe { local::current().as_ref() }) else {
        return;
    };
    let slot = record.meta.slot.load(Relaxed);
    if slot == u32::MAX {
        return;
    }
    // SAFETY: the slot is in use: by this thread.
    let (bottom, top) = unsafe { (record.core().vtable.stack_bounds)(record.core(), slot) };
    if !(bottom.saturating_sub(gvt_traits::GUARD_SIZE)..bottom).contains(&address) {
        return;
    }
    let mut text = Buffer { bytes: [0; 640], len: 0 };
    let id = record.meta.unique_id.load(Relaxed);
    let name = record.name().unwrap_or("unnamed");
    let kib = (top - bottom) / 1024;
    let _ = write!(
        text,
        "\ngreen thread {id} '{name:.100}' has overflowed its stack of {kib} KiB; use less stack, or ask for more \
         (`Builder::stack_size`, `MmapSlots::slot_size`)\nfatal runtime error: stack overflow, aborting\n"
    );
    // SAFETY: the buffer's bytes are initialised.
    unsafe {
        libc::write(2, text.bytes.as_ptr().cast(), text.len);
        libc::abort();
    }
}

/// Hands a fault to whoever handled it before.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = usize::from(signal == libc::SIGBUS);
    let Some(previous) = PREVIOUS.get().map(|all| all[index]) else {
        return;
    };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The fault comes again when the handler returns, and now ends the process.
            // SAFETY: a valid structure.
            unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
        function if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: it was installed with this signature.
            let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(function) };
            function(signal, info, context);
        }
        function => {
            // SAFETY: it was installed with this signature.
            let function: extern "C" fn(i32) = unsafe { std::mem::transmute(function) };
            function(signal);
        }
    }
}

struct Buffer {
    bytes: [u8; 640],
    len: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}

/// An alternate signal stack for this OS thread, in place of the one that std may have set up: that has 8 KiB, of which a
/// handler that keeps its OS thread asleep (`sched::held`) uses half, and one nested in it the other.
pub(crate) struct AlternateStack {
    ours: *mut libc::c_void,
    before: libc::stack_t,
}

const ALTERNATE_BYTES: usize = 64 << 10;

impl AlternateStack {
    pub(crate) fn install() -> Self {
        // SAFETY: valid structures; a fresh mapping that lives as long as the value.
        unsafe {
            let mut before: libc::stack_t = std::mem::zeroed();
            let ours = libc::mmap(
                std::ptr::null_mut(),
                ALTERNATE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if ours == libc::MAP_FAILED {
                // What std has set up must do.
                return AlternateStack { ours: std::ptr::null_mut(), before };
            }
            let stack = libc::stack_t { ss_sp: ours, ss_flags: 0, ss_size: ALTERNATE_BYTES };
            libc::sigaltstack(&stack, &mut before);
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
            libc::munmap(self.ours, ALTERNATE_BYTES);
        }
    }
}
