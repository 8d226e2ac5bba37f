//! Walks up a fresh stack with the platform's unwinder, frame by frame, without std in between.

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::hint::black_box;

use gvt_traits::{ContextSwitch, Registers};

use crate::stacks::Stack;
use crate::{Verdict, Violation};

const URC_NO_REASON: c_int = 0;
const URC_END_OF_STACK: c_int = 5;
/// No stack of the laws is deeper; a walk that gets here has lost its way.
const TOO_MANY: usize = 200;

/// `_Unwind_Exception`, with room for the unwinder's private part.
#[repr(C, align(16))]
struct Exception {
    class: u64,
    cleanup: Option<unsafe extern "C" fn(c_int, *mut Exception)>,
    private: [usize; 6],
}

// The unwinder that std itself links.
unsafe extern "C-unwind" {
    fn _Unwind_Backtrace(
        each: unsafe extern "C" fn(context: *mut c_void, walk: *mut c_void) -> c_int,
        walk: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_FindEnclosingFunction(ip: *mut c_void) -> *mut c_void;
    fn _Unwind_RaiseException(exception: *mut Exception) -> c_int;
}

struct Walk {
    here: Registers,
    there: Registers,
    functions: Vec<usize>,
    outcome: c_int,
}

unsafe extern "C" fn each(context: *mut c_void, functions: *mut c_void) -> c_int {
    // SAFETY: `functions` is the vector that `record` passes; `context` is the unwinder's.
    let (functions, ip) = unsafe { (&mut *functions.cast::<Vec<usize>>(), _Unwind_GetIP(context)) };
    if ip == 0 {
        // libgcc reports the end of the stack as a frame of its own.
        return URC_NO_REASON;
    }
    // SAFETY: any address may be asked for.
    let function = unsafe { _Unwind_FindEnclosingFunction((ip - 1) as *mut c_void) };
    functions.push(function.addr());
    if functions.len() < TOO_MANY { URC_NO_REASON } else { URC_END_OF_STACK }
}

#[inline(never)]
fn record(walk: *mut Walk) {
    // SAFETY: the walk is ours while this context runs.
    unsafe {
        let functions = &raw mut (*walk).functions;
        (*walk).outcome = _Unwind_Backtrace(each, functions.cast());
    }
    black_box(walk);
}

unsafe extern "C" fn walker<X: ContextSwitch>(walk: *mut ()) -> ! {
    let walk = walk.cast::<Walk>();
    record(walk);
    // SAFETY: C2: `here` was saved by the switch that came here.
    unsafe { X::leave(&raw const (*walk).here) }
}

fn run<X: ContextSwitch>(entry: gvt_traits::Entry) -> Walk {
    let stack = Stack::new(256 << 10);
    let mut walk =
        Walk { here: Registers::default(), there: Registers::default(), functions: Vec::new(), outcome: 0 };
    let pointer = &raw mut walk;
    // SAFETY: `prepare` C1, C2: unused block and stack. `switch` C1, C2: entered once, leaves once.
    unsafe {
        X::prepare(&raw mut (*pointer).there, stack.bounds(), entry, pointer.cast());
        X::switch(&raw mut (*pointer).here, &raw const (*pointer).there);
    }
    walk
}

/// The frames of a fresh stack are those from `entry` down, then at most the backend's own root.
pub(super) fn ends_at_root<X: ContextSwitch>() -> Verdict {
    // One pointer for both uses: a function may have several addresses.
    let entry: gvt_traits::Entry = walker::<X>;
    let walk = run::<X>(entry);
    let entry = (entry as *const ()).addr();
    let violation = |what: String| Err(Violation::new("X4", what));
    if walk.functions.len() >= TOO_MANY {
        return violation(format!(
            "a backtrace from a fresh stack was still going on after {TOO_MANY} frames"
        ));
    }
    if walk.outcome != URC_END_OF_STACK {
        return violation(format!(
            "a backtrace from a fresh stack ended with the unwinder's error {}",
            walk.outcome
        ));
    }
    let Some(place) = walk.functions.iter().position(|&function| function == entry) else {
        return violation(format!("a backtrace from a fresh stack lacks `entry`: {:x?}", walk.functions));
    };
    match walk.functions.len() - place - 1 {
        0 | 1 => Ok(()),
        more => violation(format!("a backtrace from a fresh stack goes {more} frames past `entry`")),
    }
}

/// Raises an exception that no frame here wants, since this one, the outermost, has no handler.
///
/// Not in Rust: a Rust function that must not unwind has a handler, which aborts.
#[unsafe(naked)]
unsafe extern "C" fn raiser<X: ContextSwitch>(walk: *mut ()) -> ! {
    naked_asm!(
        ".cfi_startproc",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "call {raise}",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "mov rsi, rax",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "call {end}",
        "ud2",
        ".cfi_endproc",
        raise = sym raise,
        end = sym end::<X>,
    )
}

/// In a function that may unwind, so that it too has no handler.
extern "C-unwind" fn raise() -> c_int {
    let mut exception = Exception { class: 0, cleanup: None, private: [0; 6] };
    // SAFETY: if nobody catches it, which is what is being tested, no frame is unwound and the call returns.
    unsafe { _Unwind_RaiseException(&raw mut exception) }
}

unsafe extern "C" fn end<X: ContextSwitch>(walk: *mut (), outcome: c_int) -> ! {
    let walk = walk.cast::<Walk>();
    // SAFETY: as in `walker`.
    unsafe {
        (*walk).outcome = outcome;
        X::leave(&raw const (*walk).here)
    }
}

/// The search for a handler stops at the root.
pub(super) fn exception_ends_at_root<X: ContextSwitch>() -> Verdict {
    let walk = run::<X>(raiser::<X>);
    if walk.outcome != URC_END_OF_STACK {
        let what =
            format!("an uncaught exception ended with {} instead of the end of the stack", walk.outcome);
        return Err(Violation::new("X4", what));
    }
    Ok(())
}
