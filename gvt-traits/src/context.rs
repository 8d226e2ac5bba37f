//! How one stack is left for another.

use core::ffi::c_void;
use core::ptr::NonNull;

use crate::Registers;

/// The first function on a fresh stack. It never returns and never unwinds.
pub type Entry = unsafe extern "C" fn(argument: *mut ()) -> !;

/// A stack that grows down from `top` to `bottom`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackBounds {
    /// One past the highest byte; a multiple of 16.
    pub top: NonNull<u8>,
    /// The lowest byte that may be touched.
    pub bottom: NonNull<u8>,
}

/// Leaves one stack for another.
///
/// # Implementer's contract
///
/// - **X1 kept**: what the platform's ABI calls callee-saved (on x86_64: rbx, rbp, r12–r15, rsp, the
///   control bits of MXCSR, the x87 control word) is the same after `switch` returned as before.
/// - **X2 all stores first**: everything that `switch` writes for the context it leaves, on its stack
///   or in `save`, is written before the first instruction that runs on the other stack. Once
///   there, `save` may be loaded by any OS thread that is ordered after.
/// - **X3 fresh**: the first switch to a prepared context calls `entry(argument)` with a stack
///   aligned as the ABI wants it at a function's entry, inside `stack`, the thread's floating-point
///   control words at the ABI's defaults, the direction flag clear.
/// - **X4 walkable**: a backtrace from a fresh stack shows the frames from `entry` on and ends there;
///   unwinding does not go past it.
/// - **X5 no thread identity**: nothing depends on the OS thread; `switch` may return on another.
/// - **X6 opaque**: to the compiler `switch` is a call that may read and write all memory.
///
/// - **X7 diverted**: after `divert` returned `true` in a signal handler and that has returned, the
///   interrupted OS thread calls `callee` on the interrupted stack as the ABI wants it. When `callee` has
///   returned, after any number of switches, the interrupted code goes on as if nothing had happened:
///   general, x87, vector and mask registers, control words, flags, and the red zone below rsp are the same.
///   If it returned `false` nothing was changed.
///
/// Tested: X1, X3, X4, X5, X7 (`context_switch` suite; X7 in `gvt-arch-x86_64`). Argued by hand: X2, X6.
///
/// # Safety
///
/// Breaking any clause is undefined behaviour in safe callers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot switch stacks",
    label = "this type does not implement `ContextSwitch`",
    note = "pass `X86_64` to `.context(…)`, or leave it out"
)]
pub unsafe trait ContextSwitch: Send + Sync + 'static {
    /// Lays out `stack` so that the first switch to `registers` calls `entry(argument)` (X3).
    ///
    /// Context: worker, preemption off.
    ///
    /// # Safety
    ///
    /// - **C1**: `registers` is valid for writes and nobody else uses it during the call.
    /// - **C2**: `stack` is writable, at least 4 KiB, unused, and outlives the context.
    unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ());

    /// Saves the present context in `save`, goes on with the one in `load`. Returns when somebody
    /// switches to `save`.
    ///
    /// Context: worker, preemption off, any stack.
    ///
    /// # Safety
    ///
    /// - **C1**: `save` is valid for writes and unused until somebody switches to it.
    /// - **C2**: `load` holds a context that was prepared or saved, was not loaded since, and whose
    ///   saving happened before this call.
    /// - **C3**: no borrow that is bound to the OS thread is live across the call.
    unsafe fn switch(save: *mut Registers, load: *const Registers);

    /// Goes on with `load` for good.
    ///
    /// Context: as `switch`; the stack being left is never used again.
    ///
    /// # Safety
    ///
    /// C2 and C3 of [`switch`](Self::switch).
    unsafe fn leave(load: *const Registers) -> !;

    /// Makes interrupted code call `callee`, as if it had done so itself, and go on afterwards (X7). `false`
    /// if it does not run on `stack`, if too little of that is left, or if this cannot be done at all.
    ///
    /// Context: a signal handler that interrupted the code, on an alternate stack.
    ///
    /// # Safety
    ///
    /// - **C1**: `context` is the `ucontext_t` of the handler; whatever the handler returns to is given it
    ///   back.
    /// - **C2**: `stack` is a live stack of the interrupted OS thread's.
    /// - **C3**: whatever `callee` does may be done at the interrupted instruction.
    unsafe fn divert(context: *mut c_void, stack: StackBounds, callee: unsafe extern "C" fn()) -> bool {
        let _ = (context, stack, callee);
        false
    }

    /// Asks the processor to fetch the lines that a switch to `load` will touch first. `load` may
    /// be stale; nothing may depend on it.
    ///
    /// Context: as `switch`.
    ///
    /// # Safety
    ///
    /// **C1**: `load` is valid for reads (its contents may change at any time).
    unsafe fn prefetch(load: *const Registers) {
        let _ = load;
    }
}
