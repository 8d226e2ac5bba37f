//! The stack of a thread that has not run yet, and the frame at its root.
//!
//! **Hazard.** A fresh stack has no caller. An unwinder, a debugger or a frame-pointer walker that
//! takes the garbage above the first frame for a return address prints nonsense, reads past the
//! stack, or lets a panic run on into nowhere.
//!
//! **Fresh**, as [`prepare`] leaves it (addresses fall down the page; nothing has run):
//!
//! ```text
//!                 ┌──────────────────────────┐ ◄ top, a multiple of 16
//!   top - 0x08    │ 0                        │   "return address" of the root: none
//!   top - 0x10    │ argument                 │ ◄ registers.rsp, a multiple of 16
//!   top - 0x14    │ x87 control word  0x037F │ ┐ below rsp, where a suspended thread
//!   top - 0x18    │ MXCSR             0x1F80 │ ┘ keeps them too
//!                 └──────────────────────────┘
//!   registers: rip = root, rbx = entry, rbp = 0, the rest 0
//! ```
//!
//! **Running**, once [`root`] has called `entry`:
//!
//! ```text
//!   top - 0x10    │ argument                 │
//!   top - 0x18    │ address of `ud2` in root │ ◄ rsp at the first instruction of `entry`:
//!                 │ frames of entry …        │   16 n + 8, as the ABI has it after a call
//! ```
//!
//! How each kind of walker ends (X4): DWARF unwinders find `rip` undefined in the root's frame, which
//! means "outermost" to libgcc, LLVM's libunwind and gdb; a frame-pointer walker finds the rbp of 0
//! that `entry` saved. An exception that reaches the root finds the end of the stack in its search
//! phase, before any frame is unwound, so the panic runtime aborts with everything still in place.
//!
//! **Not written.** DF is clear already: the ABI wants it clear at every call, so also at the
//! `switch` that comes here.
//!
//! **Evidence.** Suite `context_switch`: X3, X4.

use core::arch::naked_asm;

use gvt_traits::{Entry, Registers, StackBounds};

/// All exceptions masked, round to nearest, no flush to zero: the ABI's MXCSR at process entry.
const MXCSR_DEFAULT: u32 = 0x1F80;
/// All exceptions masked, extended precision, round to nearest: the ABI's x87 control word.
const X87_DEFAULT: u16 = 0x037F;

/// Lays out a fresh stack as the module's first diagram shows.
///
/// # Safety
///
/// C1 and C2 of [`gvt_traits::ContextSwitch::prepare`].
pub(crate) unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
    let top = stack.top.as_ptr();
    debug_assert!(top.addr().is_multiple_of(16), "C2: the top of a stack is a multiple of 16");
    // SAFETY: C2: the 24 bytes below `top` are writable, unused stack; `top` is a multiple of 16,
    // so each word is aligned.
    let rsp = unsafe {
        top.sub(0x08).cast::<u64>().write(0);
        top.sub(0x10).cast::<*mut ()>().write(argument);
        top.sub(0x14).cast::<u16>().write(X87_DEFAULT);
        top.sub(0x18).cast::<u32>().write(MXCSR_DEFAULT);
        top.sub(0x10)
    };
    let fresh = Registers {
        rsp: rsp.expose_provenance() as u64,
        rip: (root as *const ()).addr() as u64,
        rbx: (entry as *const ()).addr() as u64,
        ..Registers::default()
    };
    // SAFETY: C1: `registers` is ours to write.
    unsafe { registers.write(fresh) };
}

/// The root frame of every fresh stack: calls `entry(argument)`, which never returns.
///
/// Reached only by a switch to prepared registers: rsp at the argument, rbx = entry, rbp = 0.
#[unsafe(naked)]
unsafe extern "C" fn root() {
    naked_asm!(
        ".cfi_startproc",
        // The outermost frame: there is no caller to unwind to.
        ".cfi_undefined rip",
        "mov rdi, [rsp]",
        "call rbx",
        // Holds the return address, so that unwinders, which look up the address before it, and
        // debuggers, which may look up this one, both find this function.
        "ud2",
        ".cfi_endproc",
    )
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use super::*;

    unsafe extern "C" fn entry(_: *mut ()) -> ! {
        unreachable!("never run here")
    }

    /// The first diagram of the module; rbp of 0 is what ends a walk by frame pointers, which no
    /// clause of the contract asks for.
    #[test]
    fn layout_is_as_drawn() {
        #[repr(align(16))]
        struct Memory([u64; 512]);
        let mut memory = Memory([!0; 512]);
        let range = memory.0.as_mut_ptr_range();
        let (bottom, top) = (range.start.cast::<u8>(), range.end.cast::<u8>());
        let stack = StackBounds { top: NonNull::new(top).unwrap(), bottom: NonNull::new(bottom).unwrap() };
        let mut registers = Registers { rbp: 1, r12: 1, ..Registers::default() };
        // SAFETY: C1, C2: both are ours; the context is never switched to.
        unsafe { prepare(&raw mut registers, stack, entry, core::ptr::without_provenance_mut(42)) };
        assert_eq!(registers.rsp, top as u64 - 0x10);
        assert_eq!(registers.rip, root as *const () as u64);
        assert_eq!(registers.rbx, entry as *const () as u64);
        assert_eq!((registers.rbp, registers.r12), (0, 0));
        assert_eq!(memory.0[511], 0);
        assert_eq!(memory.0[510], 42);
        let words = memory.0[509];
        assert_eq!((words as u32, (words >> 32) as u16), (MXCSR_DEFAULT, X87_DEFAULT));
        assert!(memory.0[..509].iter().all(|&word| word == !0), "nothing below is touched");
    }
}
