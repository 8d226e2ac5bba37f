//! Waits that end because a token of their thread was cancelled: U3, U4 and U6 of `cancel::run`.

use std::panic::resume_unwind;

use crate::kernel::thread::record::{Cold, Record, SCOPED};
use crate::protocol::pending;

/// The payload that unwinds a thread whose wait was cancelled. Not a panic: no hook runs and nothing is
/// printed.
pub(crate) struct CancelUnwind;

/// U4: whether the running thread's waits must end.
#[cold]
pub(crate) fn is_pending(record: &Record) -> bool {
    pending::is_pending(|| !std::thread::panicking() && record.cold_if_any().is_some_and(Cold::ends_waits))
}

/// The latest time at which they must.
#[cold]
pub(crate) fn earliest_deadline_ns(record: &Record) -> Option<u64> {
    if std::thread::panicking() {
        return None;
    }
    record.cold_if_any().and_then(Cold::earliest_deadline_ns)
}

/// U6: the running thread's wait has not come true: unwinds if one of the thread's tokens is cancelled.
#[inline]
pub(crate) fn unwind_if_cancelled(record: &Record) {
    if record.has_flag(SCOPED) && is_pending(record) {
        unwind_cancelled();
    }
}

#[cold]
pub(crate) fn unwind_cancelled() -> ! {
    resume_unwind(Box::new(CancelUnwind))
}
