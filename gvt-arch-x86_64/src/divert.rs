//! Making interrupted code call a function, and go on as if it had not.
//!
//! **Hazard.** At an arbitrary instruction everything is in use: all registers, vector and mask registers as
//! wide as the processor has them, control words, flags, and the 128 bytes below rsp (the red zone), which
//! the ABI gives to leaf functions.
//!
//! **Protocol.** **V1** The handler writes two words below the red zone of the interrupted stack: `callee`,
//! and the interrupted rip. **V2** It changes rsp and rip in its context, to that place and to
//! [`trampoline`]. **V3** When the handler returns the kernel gives back every other register, and the signal
//! mask. **V4** The trampoline saves flags before any instruction that changes them, then the registers that
//! a call may change, then everything that the processor can save (XSAVE, of the components that the kernel
//! has switched on), empties the x87 stack, as at any call, calls `callee`, and undoes it in reverse. **V5**
//! `ret 128` loads rip and moves rsp back over the red zone, and changes no flag.
//!
//! ```text
//!                │ the interrupted frame          │
//!                ├────────────────────────────────┤ ◄ rsp when interrupted
//!                │ red zone, 128 bytes            │   not touched
//!                ├────────────────────────────────┤
//!                │ rip                            │ ┐ V1
//!                │ callee                         │ ┘ ◄ rsp at the trampoline
//!                │ flags, rax … r11, rbp          │   ◄ rbp
//!                │ (to a multiple of 64)          │
//!                │ XSAVE area, as large as CPUID says │ ◄ rsp at the call
//!                └────────────────────────────────┘
//! ```
//!
//! rbx and r12 to r15 are `callee`'s to keep.
//!
//! **Why not inside the handler.** Switching stacks there leaves the kernel's frame behind on the alternate
//! stack, which the next signal on that OS thread overwrites, and leaves the signal blocked. Here the handler
//! is over before anything else happens, so that a stack switch in `callee` is one like any other.
//!
//! **Compaction.** XSAVEC where there is one: it writes only what is in use, so that code without vectors
//! pays for none.
//!
//! **Rejected.** Keeping the kernel's frame instead of saving anew: it is as large, must be copied off the
//! alternate stack, and only `sigreturn` can load it.
//!
//! **Limits.** No shadow stacks (CET), as for `switch`: the trampoline returns to a place that made no call.
//! Without XSAVE (before 2008) it cannot be done. Debuggers do not see through the trampoline.
//!
//! **Evidence.** `tests/divert.rs`: all registers, flags, red zone, in a callee that wipes them.

use core::arch::naked_asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use gvt_traits::StackBounds;

/// What must be left of a stack for `callee`, beside the trampoline's own.
const ROOM: usize = 24 << 10;
const RED_ZONE: usize = 128;
/// Pushed by the trampoline, with room for alignment.
const FRAME: usize = 256;

/// Bytes of an XSAVE area, a multiple of 64; 0: not asked yet.
static AREA: AtomicU32 = AtomicU32::new(0);
/// Whether there is XSAVEC.
static COMPACT: AtomicU32 = AtomicU32::new(0);
/// [`AREA`] where there is no XSAVE.
const NONE: u32 = u32::MAX;

/// The head of the kernel's `ucontext_t`.
#[repr(C)]
struct Context {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx.
    general: [u64; 15],
    rsp: u64,
    rip: u64,
}

#[allow(unused_unsafe, reason = "compilers before 1.94 call the intrinsic unsafe")]
fn cpuid(leaf: u32, part: u32) -> CpuidResult {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { __cpuid_count(leaf, part) }
}

/// Async-signal-safe: asks the processor, which takes some microseconds in a virtual machine, and only once.
#[cold]
fn ask() -> u32 {
    const OSXSAVE: u32 = 1 << 27;
    let area = if cpuid(1, 0).ecx & OSXSAVE == 0 {
        NONE
    } else {
        let (plain, more) = (cpuid(0xD, 0), cpuid(0xD, 1));
        let has_xsavec = more.eax & 2 != 0;
        COMPACT.store(u32::from(has_xsavec), Relaxed);
        plain.ebx.max(if has_xsavec { more.ebx } else { 0 }).next_multiple_of(64)
    };
    AREA.store(area, Relaxed);
    area
}

/// # Safety
///
/// C1 to C3 of `ContextSwitch::divert`.
pub(crate) unsafe fn divert(
    context: *mut c_void,
    stack: StackBounds,
    callee: unsafe extern "C" fn(),
) -> bool {
    // Relaxed: all callers that ask write the same; this OS thread's trampoline runs after.
    let area = match AREA.load(Relaxed) {
        0 => ask(),
        area => area,
    };
    let context = context.cast::<Context>();
    // SAFETY: C1.
    let (rsp, rip) = unsafe { ((*context).rsp, (*context).rip) };
    let (bottom, top) = (stack.bottom.addr().get(), stack.top.addr().get());
    let needed = RED_ZONE + FRAME + area as usize + ROOM;
    if area == NONE || rsp as usize > top || (rsp as usize) < bottom.saturating_add(needed) {
        return false;
    }
    let place = rsp as usize - RED_ZONE - 16;
    let words = stack.bottom.as_ptr().with_addr(place).cast::<u64>();
    // SAFETY: C2 and the comparison: on the stack, below what is in use; maybe not aligned. C1 for the
    // context.
    unsafe {
        words.write_unaligned(callee as usize as u64);
        words.add(1).write_unaligned(rip);
        (*context).rsp = place as u64;
        (*context).rip = trampoline as *const () as u64;
    }
    true
}

/// V4 and V5. Entered by the return of a signal handler, not by a call.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() {
    naked_asm!(
        "pushfq",
        "cld",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbp",
        "mov rbp, rsp",
        "mov eax, dword ptr [rip + {area}]",
        "sub rsp, rax",
        "and rsp, -64",
        // The area's header must be zero but for what XSAVE writes.
        "xor eax, eax",
        ".irp offset,512,520,528,536,544,552,560,568",
        "mov qword ptr [rsp + \\offset], rax",
        ".endr",
        "mov eax, -1",
        "mov edx, -1",
        "cmp dword ptr [rip + {compact}], 0",
        "je 2f",
        "xsavec64 [rsp]",
        "jmp 3f",
        "2:",
        "xsave64 [rsp]",
        "3:",
        // A function, and a thread that begins, may count on an empty x87 stack.
        "emms",
        "call qword ptr [rbp + 88]",
        "mov eax, -1",
        "mov edx, -1",
        "xrstor64 [rsp]",
        "mov rsp, rbp",
        "pop rbp",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "popfq",
        "lea rsp, [rsp + 8]",
        "ret 128",
        area = sym AREA,
        compact = sym COMPACT,
    )
}
