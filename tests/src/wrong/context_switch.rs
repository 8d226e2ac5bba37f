//! Context switches that are wrong on purpose.
//!
//! All are variations of [`Sound`], a plain out-of-line switch, each with one flaw. They are run by the
//! law that must reject them and by nothing else: under other laws they may crash.

use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::c_void;

use gvt_traits::{ContextSwitch, Entry, Registers, StackBounds};

/// What a fresh stack of these backends looks like.
struct Fresh {
    root: unsafe extern "C" fn(),
    /// How far below the top rsp starts.
    below_top: usize,
    /// What stands where a return address would.
    caller: u64,
    /// MXCSR and the x87 control word.
    control_words: u64,
}

/// The ABI's defaults, as they lie in memory.
const DEFAULTS: u64 = 0x037F_0000_1F80;

impl Fresh {
    const SOUND: Fresh = Fresh { root, below_top: 16, caller: 0, control_words: DEFAULTS };

    /// # Safety
    ///
    /// C1, C2 of [`ContextSwitch::prepare`].
    unsafe fn prepare(self, registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
        // SAFETY: C1, C2.
        unsafe {
            let rsp = stack.top.as_ptr().sub(self.below_top);
            rsp.cast::<u64>().write(self.caller);
            rsp.sub(8).cast::<u64>().write(self.control_words);
            registers.write(Registers {
                rsp: rsp as u64,
                rip: self.root as *const () as u64,
                r12: entry as *const () as u64,
                r13: argument as u64,
                ..Registers::default()
            });
        }
    }
}

macro_rules! roots {
    ($($(#[$doc:meta])* $name:ident: [$($before:literal),*];)*) => {
        $($(#[$doc])*
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(".cfi_startproc", $($before,)* "call r12", "ud2", ".cfi_endproc")
        })*
    };
}

roots! {
    root: [".cfi_undefined rip", "mov rdi, r13"];
    wrong_argument_root: [".cfi_undefined rip", "mov rdi, r12"];
    backwards_root: [".cfi_undefined rip", "mov rdi, r13", "std"];
    endless_root: ["mov rdi, r13"];
}

/// Stands above a root without an end: a frame that never was.
#[unsafe(naked)]
unsafe extern "C" fn elsewhere() {
    naked_asm!(".cfi_startproc", "ud2", "ud2", ".cfi_endproc")
}

// The parts of a switch, so that each flawed one can be told by what it leaves out.
macro_rules! part {
    (save) => {
        "pop rax
         mov [rdi], rsp
         mov [rdi + 0x08], rax
         mov [rdi + 0x10], rbx
         mov [rdi + 0x18], rbp
         mov [rdi + 0x20], r12
         mov [rdi + 0x28], r13
         mov [rdi + 0x30], r14
         mov [rdi + 0x38], r15
         stmxcsr [rsp - 8]
         fnstcw [rsp - 4]"
    };
    (stack) => {
        "mov rsp, [rsi]"
    };
    (rbx) => {
        "mov rbx, [rsi + 0x10]"
    };
    (rest) => {
        "mov rbp, [rsi + 0x18]
         mov r12, [rsi + 0x20]
         mov r13, [rsi + 0x28]
         mov r14, [rsi + 0x30]"
    };
    (r15) => {
        "mov r15, [rsi + 0x38]"
    };
    (mxcsr) => {
        "ldmxcsr [rsp - 8]"
    };
    (x87) => {
        "fldcw [rsp - 4]"
    };
    (go) => {
        "jmp [rsi + 0x08]"
    };
    // Swaps rbx with a word that belongs to the OS thread.
    (swap_rbx) => {
        "push rdi
         push rsi
         sub rsp, 8
         call {slot}
         add rsp, 8
         pop rsi
         pop rdi
         xchg rbx, [rax]"
    };
}

macro_rules! switches {
    ($($(#[$doc:meta])* $type:ident: prepare $fresh:expr, switch $function:ident [$($part:ident)*] $(slot $slot:ident)?;)*) => {
        $($(#[$doc])*
        #[derive(Debug, Default, Clone, Copy)]
        pub struct $type;

        #[unsafe(naked)]
        unsafe extern "C" fn $function(save: *mut Registers, load: *const Registers) {
            naked_asm!($(part!($part),)* $(slot = sym $slot)?)
        }

        // SAFETY: of `Sound`: X1: all of them are stored and loaded. X2: every store of `save` comes before
        // `stack`. X3, X4: `Fresh::SOUND` and `root`. X5: no OS thread's state. X6: an opaque call. The other
        // types break one of these, on purpose; only the law that expects so may use them.
        unsafe impl ContextSwitch for $type {
            unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
                // SAFETY: C1, C2 are the caller's.
                unsafe { $fresh.prepare(registers, stack, entry, argument) }
            }

            unsafe fn switch(save: *mut Registers, load: *const Registers) {
                // SAFETY: C1–C3 are the caller's.
                unsafe { $function(save, load) }
            }

            unsafe fn leave(load: *const Registers) -> ! {
                let mut nowhere = Registers::default();
                // SAFETY: C2, C3 are the caller's; nobody loads `nowhere`.
                unsafe { $function(&raw mut nowhere, load) };
                unreachable!("nobody switches back to a context that has left")
            }
        })*
    };
}

thread_local! {
    static SLOT: Cell<u64> = const { Cell::new(0) };
}

/// Where [`BoundToThread`] keeps rbx.
extern "C" fn slot() -> *mut u64 {
    SLOT.with(Cell::as_ptr)
}

switches! {
    /// Nothing is wrong with this one: the suite must accept what the others are made from.
    Sound: prepare Fresh::SOUND, switch sound [save stack rbx rest r15 mxcsr x87 go];
    /// Does not load rbx: breaks X1.
    LosesRbx: prepare Fresh::SOUND, switch loses_rbx [save stack rest r15 mxcsr x87 go];
    /// Does not load r15: breaks X1.
    LosesR15: prepare Fresh::SOUND, switch loses_r15 [save stack rbx rest mxcsr x87 go];
    /// Lets MXCSR leak from one context into the next: breaks X1.
    LeaksMxcsr: prepare Fresh::SOUND, switch leaks_mxcsr [save stack rbx rest r15 x87 go];
    /// Lets the x87 control word leak: breaks X1.
    LeaksX87: prepare Fresh::SOUND, switch leaks_x87 [save stack rbx rest r15 mxcsr go];
    /// Calls `entry` with rsp 8 off: breaks X3.
    Misaligned: prepare Fresh { below_top: 24, ..Fresh::SOUND }, switch misaligned [save stack rbx rest r15 mxcsr x87 go];
    /// Calls `entry` with another argument: breaks X3.
    WrongArgument: prepare Fresh { root: wrong_argument_root, ..Fresh::SOUND },
        switch wrong_argument [save stack rbx rest r15 mxcsr x87 go];
    /// Starts with the direction flag set: breaks X3.
    Backwards: prepare Fresh { root: backwards_root, ..Fresh::SOUND }, switch backwards [save stack rbx rest r15 mxcsr x87 go];
    /// Starts with flush-to-zero set: breaks X3.
    FlushesToZero: prepare Fresh { control_words: DEFAULTS | 0x8000, ..Fresh::SOUND },
        switch flushes_to_zero [save stack rbx rest r15 mxcsr x87 go];
    /// Does not tell unwinders that the root is the last frame, and has an address above it: breaks X4.
    Endless: prepare Fresh { root: endless_root, below_top: 256, caller: elsewhere as *const () as u64 + 1, ..Fresh::SOUND },
        switch endless [save stack rbx rest r15 mxcsr x87 go];
    /// Keeps rbx in the OS thread's own storage: breaks X5.
    BoundToThread: prepare Fresh::SOUND, switch bound_to_thread [swap_rbx save stack rest r15 mxcsr x87 go] slot slot;
}

/// Says that it has diverted interrupted code, and has only changed r10: breaks X7.
#[derive(Debug, Default, Clone, Copy)]
pub struct DivertsAndLosesR10;

// SAFETY: X1 to X6: `Sound`'s. X7 is broken on purpose, for the law that must notice.
unsafe impl ContextSwitch for DivertsAndLosesR10 {
    unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
        // SAFETY: the caller's promises, handed on.
        unsafe { Sound::prepare(registers, stack, entry, argument) }
    }

    unsafe fn switch(save: *mut Registers, load: *const Registers) {
        // SAFETY: as above.
        unsafe { Sound::switch(save, load) }
    }

    unsafe fn leave(load: *const Registers) -> ! {
        // SAFETY: as above.
        unsafe { Sound::leave(load) }
    }

    unsafe fn divert(context: *mut c_void, _: StackBounds, _: unsafe extern "C" fn()) -> bool {
        // SAFETY: C1 of `divert`.
        unsafe {
            (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_R10 as usize] ^= 1;
        }
        true
    }
}
