//! Waits that end because a token of their thread was cancelled: U3, U4 and U6 of `cancel::run`.

use std::panic::resume_unwind;

use crate::kernel::thread::record::{Record, SCOPED};
use crate::protocol::pending;

/// The payload that unwinds a thread whose wait was cancelled. Not a panic: no hook runs and nothing is
/// printed.
pub(crate) struct CancelUnwind;

/// U4: whether the running thread's waits must end.
#[cold]
pub(crate) fn is_pending(record: &Record) -> bool {
    // SAFETY: the table's own.
    let ends = || record.with_above(|above, cold| unsafe { (above.ends_waits)(cold) });
    pending::is_pending(|| !std::thread::panicking() && ends() == Some(true))
}

/// The latest time at which they must.
#[cold]
pub(crate) fn earliest_deadline_ns(record: &Record) -> Option<u64> {
    if std::thread::panicking() {
        return None;
    }
    // SAFETY: the table's own.
    record.with_above(|above, cold| unsafe { (above.earliest_deadline_ns)(cold) }).flatten()
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
