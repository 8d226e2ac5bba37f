//! How a running thread is interrupted.
//!
//! The runtime's monitor decides *whether* a worker has run one thread for too long, sets that
//! thread's flag, and decides what happens to a thread that was interrupted. A `Preemptor` supplies
//! the interruption alone.

use core::ffi::c_void;

use crate::WorkerError;

/// The strongest thing that a preemptor can do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Strength {
    /// Nothing: threads run until they block. The monitor does not watch slices.
    Never,
    /// The flag: threads yield at their next safepoint or runtime call.
    AtSafepoints,
    /// The flag, then an interrupt at an arbitrary instruction.
    Anywhere,
}

/// An OS thread, by the kernel's number (`gettid`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct OsThreadId(pub i32);

/// Whether an interrupt was meant for this runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub enum Interrupted {
    /// It was meant for this runtime.
    Taken = 0,
    /// It was not: pass it on to the handler that was installed before.
    NotOurs = 1,
}

/// The runtime's part of the handler. It may keep its OS thread for long (until the interrupted
/// thread is resumed) and keeps `errno`.
///
/// The argument is the handler's `ucontext_t` (P7).
pub type InterruptHook = unsafe extern "C" fn(context: *mut c_void) -> Interrupted;

/// Interrupts OS threads on the monitor's behalf.
///
/// # Implementer's contract
///
/// - **P1 strength**: [`strength`](Self::strength) is constant and true.
/// - **P2 target**: after `interrupt(thread)` returned `true`, the hook runs on that OS thread
///   within a bounded time, unless it ends first or has the means of interruption blocked. It runs on no
///   other, and at most once for each call. Several calls may merge into one.
/// - **P3 transparent**: if the hook returns, the interrupted code goes on as if nothing had
///   happened: registers, vector state, flags, red zone, `errno`, interrupted system calls
///   (restarted where the kernel can).
/// - **P4 signal-safe**: between interrupt and hook only async-signal-safe work is done.
/// - **P5 chaining**: an interrupt that the hook calls [`Interrupted::NotOurs`] reaches the handler
///   that was installed before, as if this one did not exist.
/// - **P6 shared**: any number of runtimes may attach and detach in any order. After the last
///   `detach` no hook of ours runs.
/// - **P7 context**: the hook is given the interrupted context itself: what it writes to its general
///   registers, `rip` and `rsp` among them, is what the OS thread goes on with.
/// - **P8 ready**: after `enter_thread` on an OS thread, nothing that it inherited from its creator (a
///   signal mask) blocks interrupts.
///
/// Also B1–B6 of the crate. Tested: P1–P3, P5–P8 (`preemptor` suite). Argued by hand: P4.
///
/// # Safety
///
/// A hook that runs elsewhere or changes what it interrupts corrupts safe code: P2–P4, P7.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a preemptor",
    label = "this backend does not implement `Preemptor`",
    note = "pass `Sigurg`, `Cooperative` or `NoPreempt` to `.preemptor(…)`"
)]
pub unsafe trait Preemptor: Send + Sync + 'static {
    /// What it can do.
    ///
    /// Context: any.
    fn strength(&self) -> Strength;

    /// Prepares to interrupt, and to call `hook`. Called once, before the first `interrupt`.
    ///
    /// Context: the thread that builds the runtime; may block and allocate.
    ///
    /// # Safety
    ///
    /// **C1**: `hook` is async-signal-safe and can be called on any OS thread until `detach`
    /// returned.
    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError>;

    /// Makes the calling OS thread one that can be interrupted (P8).
    ///
    /// Context: each OS thread of the runtime, once, before it runs green threads.
    fn enter_thread(&self);

    /// Undoes `attach`. Waits until no OS thread is inside the hook; the caller has let every thread that the
    /// hook holds go on.
    ///
    /// Context: the thread that ends the runtime.
    fn detach(&self);

    /// Interrupts `thread`; `false` if that cannot be done (it is gone, or `strength` is less than
    /// [`Strength::Anywhere`]).
    ///
    /// Context: **monitor** (B6); one call at a time.
    fn interrupt(&self, thread: OsThreadId) -> bool;
}
