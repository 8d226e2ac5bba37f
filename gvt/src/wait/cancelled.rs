//! Waits that end since a token of their thread was cancelled: U3, U4 and U6 of `cancel::run`.

use std::panic::resume_unwind;

use crate::kernel::thread::record::{Cold, Record, SCOPED};
use crate::kernel::worker::section;
use crate::wait::host::Parked;
use crate::wait::reach;

/// What unwinds a thread whose wait was cancelled. Not a panic: no hook runs and nothing is printed.
pub(crate) struct CancelUnwind;

/// U4: whether the running thread's waits are to end now.
#[cold]
pub(crate) fn is_pending(record: &Record) -> bool {
    reach::is_pending(|| !std::thread::panicking() && record.cold_if_any().is_some_and(Cold::ends_waits))
}

/// When they will at the latest.
#[cold]
pub(crate) fn earliest_deadline_ns(record: &Record) -> Option<u64> {
    if std::thread::panicking() {
        return None;
    }
    record.cold_if_any().and_then(Cold::earliest_deadline_ns)
}

/// U6: the running thread's wait has not come true: unwinds if one of its tokens is cancelled.
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

impl Parked {
    /// Unwinds, without the guard, if the thread's waits are to end since a token was cancelled (`token::run`).
    pub(crate) fn unless_cancelled<G>(&self, guard: G) -> G {
        // SAFETY: the running thread's record stays mapped.
        let thread = unsafe { section::current().as_ref() };
        if thread.is_some_and(|thread| thread.has_flag(SCOPED) && is_pending(thread)) {
            drop(guard);
            unwind_cancelled();
        }
        guard
    }
}
