//! The clock of deadlines.
//!
//! **One clock.** Every deadline is in nanoseconds of the waiter's clock. In a runtime that is the timer
//! backend's clock if it keeps one (virtual time), else `CLOCK_MONOTONIC`; outside a runtime it is
//! `CLOCK_MONOTONIC`. The interface uses [`Instant`]s, as std and crossbeam do; a [`Scale`] maps a clock's
//! reading to an instant. The mapping is one addition, so an instant that comes from a clock maps back to the
//! same nanosecond.
//!
//! A backend's own clock begins at the instant at which its runtime was built, and runs independently: what
//! [`now`] returns on a green thread may be far from `Instant::now()`.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use crate::kernel::worker::scale::Scale;
use crate::kernel::worker::section::give_way;
use crate::os;
use crate::wait::park;

/// The time of the timers, in nanoseconds: `CLOCK_MONOTONIC`, or the timer backend's own clock when called on
/// a green thread of a runtime that has one.
///
/// Context: anywhere.
pub fn now_ns() -> u64 {
    give_way();
    match park::current() {
        Some(record) => record.core().now_ns(),
        None => os::monotonic_ns(),
    }
}

/// The time of the timers, as an [`Instant`]: [`now_ns`] on the scale of all instants that this crate takes
/// and returns.
///
/// It is `Instant::now()`, except on a green thread of a runtime whose timer backend keeps a clock of its own
/// (virtual time). Deadlines there must be computed from this time: `Instant::now()` is the time of another
/// clock.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::Duration;
/// let begin = gvt::now();
/// gvt::sleep_until(begin + Duration::from_millis(1));
/// assert!(gvt::now() - begin >= Duration::from_millis(1));
/// # });
/// ```
///
/// Context: anywhere.
pub fn now() -> Instant {
    give_way();
    match park::current().and_then(|record| Some((record.core(), record.core().scale?))) {
        Some((core, scale)) => scale.instant(core.now_ns()),
        None => Instant::now(),
    }
}

/// `CLOCK_MONOTONIC` at the kernel's last tick, in nanoseconds: some milliseconds old, and several
/// times cheaper than [`now_ns`].
///
/// Context: anywhere.
pub fn coarse_now_ns() -> u64 {
    give_way();
    os::monotonic_coarse_ns()
}

/// A deadline in the clock of the caller's timed waits.
pub(crate) fn deadline_ns(deadline: Instant) -> u64 {
    match park::current().and_then(|record| record.core().scale) {
        Some(scale) => scale.ns(deadline),
        None => Scale::monotonic().ns(deadline),
    }
}

/// Whether the deadline has passed, by the caller's clock.
pub(crate) fn has_passed(deadline: Instant) -> bool {
    now() >= deadline
}

/// The caller's clock, or the kernel's last tick if that clock is `CLOCK_MONOTONIC`: for inexact uses.
pub(crate) fn coarse_ns() -> u64 {
    match park::current() {
        Some(record) if record.core().scale.is_some() => record.core().now_ns(),
        _ => os::monotonic_coarse_ns(),
    }
}

/// An operation took longer than its time limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("it took longer than it was given")
    }
}

impl Error for TimedOut {}
