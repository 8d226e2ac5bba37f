//! Parts that break their contract: the process ends, naming the clause.
//!
//! **Hazard.** Queues and timers are safe traits: safe code that implements them must not be able to corrupt
//! memory. Types exclude most of it: a [`Runnable`](gvt_traits::Runnable) cannot be forged or copied. What
//! types leave open is checked where the runtime takes an answer:
//!
//! - a `Runnable` of another runtime (Q9): `pick::pick`, `pick_bound::pick`;
//! - an address to prefetch that is no record's (Q7): `RecordTable::lies_within`;
//! - a timer entry that names no thread, or a wait without a deadline (T1): `timers::fire_timers`;
//! - a call back into the runtime (B2): `section::enter_from_outside`, `enqueue::push`;
//! - a panic (B3): `no_unwind::NoUnwind` around every call.
//!
//! **Rejected.** *Panicking*: the caller is between two threads and cannot continue. *A flag while a part is
//! called*, against calls back: four instructions a call, where the preempt count that every entry keeps
//! anyway tells it with two.
//!
//! **Not covered.** A part that never returns.
//! **Evidence.** `misbehaving` in `tests`.

use std::fmt::Arguments;
use std::io::Write;

/// Ends the process.
#[cold]
#[inline(never)]
pub(crate) fn broken(clause: &str, what: Arguments<'_>) -> ! {
    // Stderr may be closed; there is no other channel.
    let _ = writeln!(std::io::stderr(), "gvt: {what} (clause {clause}); aborting");
    std::process::abort();
}

/// A queue handed out a `Runnable` of another runtime.
#[cold]
#[inline(never)]
pub(crate) fn foreign_token() -> ! {
    broken("Q9", format_args!("a ready queue handed out a thread of another runtime"));
}

/// A part that the runtime called has called the runtime.
#[cold]
#[inline(never)]
pub(crate) fn called_back() -> ! {
    broken("B2", format_args!("a part of a runtime called back into it, while threads were being scheduled"));
}
