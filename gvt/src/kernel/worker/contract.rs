//! What becomes of a part that breaks its contract: the process ends, and says which clause it was.
//!
//! **Hazard.** Queues and timers are safe traits: whatever safe code implements them, no memory may be corrupted. Types exclude most of
//! it: a [`Runnable`](gvt_traits::Runnable) cannot be made up or copied. What types leave open is checked where the runtime takes an
//! answer:
//!
//! - a token that another runtime made (Q9): `pick::pick`, `pick_bound::pick`;
//! - an address to prefetch that is no record's (Q7): `RecordTable::lies_within`;
//! - an entry of a timer that names no thread, or a wait without a deadline (T1): `timers::fire_timers`;
//! - a call back into the runtime (B2): `section::enter_from_outside`, `enqueue::push`;
//! - a panic (B3): `schedule::NoUnwind` around every call.
//!
//! **Rejected.** *Panicking*: the caller is between two threads, and could not go on. *A flag while a part is called*, against calls
//! back: four instructions a call, where the depth that every entry counts anyway tells it with two.
//!
//! **Not covered.** A part that never returns.
//! **Evidence.** `misbehaving` in `tests`.

use std::fmt::Arguments;
use std::io::Write;

/// Ends the process.
#[cold]
#[inline(never)]
pub(crate) fn broken(clause: &str, what: Arguments<'_>) -> ! {
    // Closed perhaps; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "gvt: {what} (clause {clause}); aborting");
    std::process::abort();
}

/// A queue handed out a token of another runtime.
#[cold]
#[inline(never)]
pub(crate) fn foreign_token() -> ! {
    broken("Q9", format_args!("a ready queue handed out a thread of another runtime"));
}

/// What the runtime has called has called the runtime.
#[cold]
#[inline(never)]
pub(crate) fn called_back() -> ! {
    broken("B2", format_args!("a part of a runtime called back into it, while threads were being scheduled"));
}
