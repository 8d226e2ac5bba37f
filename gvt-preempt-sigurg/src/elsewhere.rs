//! Calling a handler on the stack that a signal has interrupted.
//!
//! **Hazard.** Our handler runs on the OS thread's alternate stack. On OS threads that are not a runtime's
//! that is std's, of 8 KiB, of which the kernel has taken up to half. A handler that was installed without
//! `SA_ONSTACK` expects the whole of the interrupted stack.
//!
//! **Protocol.** With all signals blocked: go over to the interrupted stack, below its red zone, and disarm
//! the alternate stack, or the next signal that asks for it would be put on top of our frames there. Then the
//! handler, under its own mask. Back in the opposite order.
//!
//! **Limits.** Not where the signal has interrupted code on the alternate stack itself, nor where that has
//! room enough, as in a runtime's OS threads: green threads' stacks may be small.

use std::arch::asm;
use std::ptr;

use libc::{c_int, c_void, sigaction, siginfo_t};

/// An alternate stack of so many bytes has room for any handler.
const ROOMY: usize = 60 << 10;
/// Below the stack pointer, where code may keep values.
const RED_ZONE: usize = 128;

/// A call of another's handler.
pub(crate) struct Call<'a> {
    pub(crate) action: &'a sigaction,
    pub(crate) signal: c_int,
    pub(crate) info: *mut siginfo_t,
    pub(crate) context: *mut c_void,
    /// The signals that are blocked meanwhile.
    pub(crate) mask: u64,
}

impl Call<'_> {
    /// # Safety
    ///
    /// The handler was given to the kernel to be called with such arguments.
    pub(crate) unsafe fn make(&self) {
        set_mask(self.mask);
        // SAFETY: the caller's, and `SA_SIGINFO` tells which type the handler has.
        unsafe {
            if self.action.sa_flags & libc::SA_SIGINFO != 0 {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(self.action.sa_sigaction);
                handler(self.signal, self.info, self.context);
            } else {
                let handler: extern "C" fn(c_int) = std::mem::transmute(self.action.sa_sigaction);
                handler(self.signal);
            }
        }
    }
}

/// Blocks these signals, as the kernel numbers them from bit 0 on; those that were blocked before. The C
/// library's sets are sixteen times as large, and its call leaves out signals of its own.
pub(crate) fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: two sets of the size that is said.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8_usize)
    };
    before
}

struct Visit<'a> {
    call: &'a Call<'a>,
    alternate: libc::stack_t,
    made: bool,
}

/// Makes `call` on the interrupted stack; `false`: it is to be made here.
///
/// # Safety
///
/// In a signal handler that has been given `call.context`, with all signals blocked; as [`Call::make`].
pub(crate) unsafe fn call(call: &Call<'_>) -> bool {
    if call.action.sa_flags & libc::SA_ONSTACK != 0 {
        return false;
    }
    let context = call.context.cast::<libc::ucontext_t>();
    // SAFETY: the caller's: the kernel's own record.
    let (alternate, interrupted) =
        unsafe { ((*context).uc_stack, (*context).uc_mcontext.gregs[libc::REG_RSP as usize] as usize) };
    let lowest = alternate.ss_sp.addr();
    let is_on = |address: usize| (lowest..lowest + alternate.ss_size).contains(&address);
    let mut visit = Visit { call, alternate, made: false };
    let here = (&raw mut visit).addr();
    if alternate.ss_size >= ROOMY || !is_on(here) || is_on(interrupted) {
        return false;
    }
    let top = (interrupted - RED_ZONE) & !15;
    // SAFETY: `top` is the free end of the interrupted stack, aligned as the calling convention asks. Nothing
    // is read from this frame before the stack pointer is back; `visit` does not unwind.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {visit}",
            "mov rsp, r12",
            top = in(reg) top,
            visit = sym there,
            in("rdi") &raw mut visit,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    visit.made
}

/// On the interrupted stack.
unsafe extern "C" fn there(visit: *mut Visit<'_>) {
    // SAFETY: `call`'s frame is alive, on the other stack; valid structures.
    unsafe {
        let disarmed = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        if libc::sigaltstack(&disarmed, ptr::null_mut()) != 0 {
            return;
        }
        (*visit).call.make();
        set_mask(u64::MAX);
        libc::sigaltstack(&(*visit).alternate, ptr::null_mut());
        (*visit).made = true;
    }
}
