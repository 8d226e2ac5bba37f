//! Leaving one stack for another.
//!
//! **Suspended**, as `switch` leaves it; a diagram of a fresh stack is in `fresh`:
//!
//! ```text
//!                 │ frames of the thread     │
//!                 │ frame of switch's caller │   with r12–r15 in it, if they were in use
//!                 ├──────────────────────────┤ ◄ registers.rsp: the caller's own rsp
//!   rsp - 0x04    │ x87 control word         │ ┐ in the red zone: the ABI keeps 128 bytes below
//!   rsp - 0x08    │ MXCSR                    │ ┘ rsp from signal handlers
//!                 └──────────────────────────┘
//!   registers: rip = label 6 in the caller, rbx, rbp; r12–r15 unused
//! ```
//!
//! **Running**: rsp is anywhere below `registers.rsp`, the block and the two words are stale.
//!
//! Since rip and rsp of a suspended thread are those of an ordinary frame, an unwinder started from
//! the block walks a suspended stack without special knowledge. rsp moves once, in one instruction,
//! from one valid frame to another, so a profiler's signal finds a walkable stack at every
//! instruction too.
//!
//! **Protocol.** **W1** all stores for the context being left; **W2** rsp is loaded; **W3** the rest is
//! loaded and jumped to. No store follows W2, which is X2: x86 makes stores visible in program order, so
//! an OS thread that learns of the context by a store made after the switch sees all of W1.
//!
//! **Inline, not a naked function.** A `call` puts an entry on the processor's return stack. If the
//! switch then leaves by `jmp`, each later `ret` of the thread that goes on is predicted from the
//! wrong entry; if it leaves by `ret`, that is right only among threads that called from the same
//! place. Inline there is no call and nothing to balance: `jmp` is predicted by its own history, and
//! callers' returns match whenever the call chains do. The compiler also keeps only those of r12–r15
//! that are in use. Two switches between two call sites cost 2 to 5 ns inline, 7 to 15 as a naked
//! function with either ending; three calls deep in one code path 16 inline, 16 with `ret`, 45
//! with `jmp` (`benches/switch.rs`). Inlining makes one rule of callers sharper: a thread-local's
//! address computed before the switch must not be used after it (C3), so read those through a
//! function that is never inlined.
//!
//! **Control words.** Reading MXCSR is the whole price (2 to 3.5 ns a switch on an AMD Zen: it waits
//! for the instructions before it). Loading it back, even unconditionally, is free beside that, and
//! cheaper than a comparison, which has to wait for the value just stored. `fldcw` is dearer on other
//! processors, so it is behind a comparison. [`X86_64Lean`] leaves both out.
//!
//! **Limits.** No shadow stacks (CET): a process that runs with them cannot jump between stacks so.
//!
//! **Evidence.** Suite `context_switch`: X1, X3–X5; wrong switches in it lose rbx, rbp, MXCSR, the x87
//! control word, the alignment, the argument, the end of the stack.

use core::arch::asm;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gvt_traits::{ContextSwitch, Entry, Registers, StackBounds};

use crate::{divert, fresh};

/// The switch that keeps all that the System V ABI calls callee-saved: the default.
///
/// ```
/// use std::ptr::NonNull;
/// use gvt_arch_x86_64::X86_64;
/// use gvt_traits::{ContextSwitch, Registers, StackBounds};
///
/// struct Pair { main: Registers, other: Registers, count: u32 }
///
/// unsafe extern "C" fn entry(pair: *mut ()) -> ! {
///     let pair = pair.cast::<Pair>();
///     loop {
///         unsafe {
///             (*pair).count += 1;
///             X86_64::switch(&raw mut (*pair).other, &raw const (*pair).main);
///         }
///     }
/// }
///
/// #[repr(align(16))]
/// struct Stack([u8; 65536]);
///
/// let mut stack = Box::new(Stack([0; 65536]));
/// let range = stack.0.as_mut_ptr_range();
/// let bounds = StackBounds {
///     top: NonNull::new(range.end).unwrap(),
///     bottom: NonNull::new(range.start).unwrap(),
/// };
/// let mut pair = Pair { main: Registers::default(), other: Registers::default(), count: 0 };
/// let pair = &raw mut pair;
/// unsafe {
///     X86_64::prepare(&raw mut (*pair).other, bounds, entry, pair.cast());
///     X86_64::switch(&raw mut (*pair).main, &raw const (*pair).other);
///     X86_64::switch(&raw mut (*pair).main, &raw const (*pair).other);
///     assert_eq!((*pair).count, 2);
/// }
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct X86_64;

/// [`X86_64`] for programs in which nobody changes MXCSR or the x87 control word.
///
/// Rust declares it undefined behaviour to run Rust code under other control words than the default
/// (see `core::arch::x86_64::_mm_setcsr`), so X1 holds in every program that keeps to that, and this
/// switch neither saves nor loads them. What it gives up is the protection of programs that do it all
/// the same (flush-to-zero set by hand, C code that leaves a rounding mode behind and calls back):
/// with this switch such a mode leaks from one green thread into the others on its OS thread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct X86_64Lean;

// The two switches differ in what stands in these places only.
macro_rules! switch {
    ($save:expr, $load:expr, [$($keep:literal),*], [$($restore:literal),*]) => {
        asm!(
            // W1: everything of the context being left.
            "lea rcx, [rip + 6f]",
            "mov [rdi + 0x08], rcx",
            "mov [rdi + 0x00], rsp",
            "mov [rdi + 0x10], rbx",
            "mov [rdi + 0x18], rbp",
            $($keep,)*
            // W2 and W3.
            "mov rcx, [rsi + 0x08]",
            "mov rsp, [rsi + 0x00]",
            "mov rbx, [rsi + 0x10]",
            "mov rbp, [rsi + 0x18]",
            $($restore,)*
            "jmp rcx",
            "6:",
            // Named registers, since the compiler could choose rbx for a `reg` operand.
            inout("rdi") $save => _,
            inout("rsi") $load => _,
            // rbx and rbp cannot be named as clobbers, hence they are kept by hand. The rest the
            // compiler keeps, as far as it is in use.
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            out("rax") _,
            out("rcx") _,
            clobber_abi("C"),
        )
    };
}

macro_rules! leave {
    ($load:expr, [$($restore:literal),*]) => {
        asm!(
            "mov rcx, [rsi + 0x08]",
            "mov rsp, [rsi + 0x00]",
            "mov rbx, [rsi + 0x10]",
            "mov rbp, [rsi + 0x18]",
            $($restore,)*
            "jmp rcx",
            in("rsi") $load,
            options(noreturn),
        )
    };
}

// SAFETY: X1: rsp, rbx, rbp and both control words are stored and loaded; r12–r15 are declared
// clobbered, so the compiler keeps those in use in the caller's frame. X2: W1 comes before W2, and no store
// after W2. X3, X4: `fresh`. X5: nothing but the two blocks and the stacks is touched; no segment
// register, no thread-local. X6: the `asm!` blocks have no `nomem` or `readonly`.
unsafe impl ContextSwitch for X86_64 {
    unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
        // SAFETY: C1, C2 are the caller's.
        unsafe { fresh::prepare(registers, stack, entry, argument) }
    }

    #[inline(always)]
    unsafe fn switch(save: *mut Registers, load: *const Registers) {
        // SAFETY: C1: `save` may be written. C2: `load` holds a context suspended at label 6 of this
        // block or a fresh one, whose rsp, with the control words below it, is valid. C3: no
        // thread-bound borrow is confused by the return on another OS thread.
        unsafe {
            switch!(
                save,
                load,
                ["fnstcw [rsp - 0x04]", "stmxcsr [rsp - 0x08]", "movzx eax, word ptr [rsp - 0x04]"],
                ["ldmxcsr [rsp - 0x08]", "cmp ax, [rsp - 0x04]", "je 5f", "fldcw [rsp - 0x04]", "5:"]
            )
        }
    }

    #[inline(always)]
    unsafe fn leave(load: *const Registers) -> ! {
        // SAFETY: C2, C3 as in `switch`.
        unsafe { leave!(load, ["ldmxcsr [rsp - 0x08]", "fldcw [rsp - 0x04]"]) }
    }

    unsafe fn divert(context: *mut c_void, stack: StackBounds, callee: unsafe extern "C" fn()) -> bool {
        // SAFETY: C1 to C3 are the caller's.
        unsafe { divert::divert(context, stack, callee) }
    }

    #[inline(always)]
    unsafe fn prefetch(load: *const Registers) {
        // SAFETY: C1 is the caller's.
        unsafe { prefetch(load) }
    }
}

// SAFETY: as for `X86_64`, except that X1 for the control words rests on Rust's own rule that they
// have their default values wherever Rust code runs.
unsafe impl ContextSwitch for X86_64Lean {
    unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
        // SAFETY: C1, C2 are the caller's.
        unsafe { fresh::prepare(registers, stack, entry, argument) }
    }

    #[inline(always)]
    unsafe fn switch(save: *mut Registers, load: *const Registers) {
        // SAFETY: as in `X86_64::switch`.
        unsafe { switch!(save, load, [], []) }
    }

    #[inline(always)]
    unsafe fn leave(load: *const Registers) -> ! {
        // SAFETY: C2, C3 as in `switch`.
        unsafe { leave!(load, []) }
    }

    unsafe fn divert(context: *mut c_void, stack: StackBounds, callee: unsafe extern "C" fn()) -> bool {
        // SAFETY: C1 to C3 are the caller's.
        unsafe { divert::divert(context, stack, callee) }
    }

    #[inline(always)]
    unsafe fn prefetch(load: *const Registers) {
        // SAFETY: C1 is the caller's.
        unsafe { prefetch(load) }
    }
}

/// Fetches the line with the control words and the two lines above it, as far as they differ: what the
/// resumed frame reads first. The block itself is the caller's business.
///
/// # Safety
///
/// C1 of [`ContextSwitch::prefetch`].
#[inline(always)]
unsafe fn prefetch(load: *const Registers) {
    // SAFETY: C1: valid for reads. The field is 8-aligned; its writers are the stores of `switch!`,
    // single aligned machine words, which are atomic.
    let rsp = unsafe { AtomicU64::from_ptr((&raw const (*load).rsp).cast_mut()) };
    // Relaxed: a hint; any value will do, old ones included.
    let rsp = rsp.load(Relaxed) as usize;
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(rsp.wrapping_sub(8)));
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(rsp.wrapping_add(56)));
    }
}
