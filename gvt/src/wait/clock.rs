//! The clock that deadlines go by.
//!
//! **One clock.** Every deadline is nanoseconds of the clock of whoever waits: of its runtime's, which is the timer backend's
//! if that keeps one (virtual time), and else `CLOCK_MONOTONIC`; outside a runtime `CLOCK_MONOTONIC`. The interface speaks of
//! [`Instant`]s, as std and crossbeam have it; a [`Scale`] says which instant a reading of a clock is. The mapping is one
//! addition, so an instant that comes from a clock goes back to the same nanosecond.
//!
//! A clock of a backend's own begins at the instant at which its runtime was built, and then goes its own way: what
//! [`now`] returns on a green thread may be far from `Instant::now()`.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use crate::kernel::worker::scale::Scale;
use crate::kernel::worker::section::give_way;
use crate::os;
use crate::wait::park;

/// The time that timers go by, in nanoseconds: `CLOCK_MONOTONIC`, or the timer backend's own clock
/// when called on a green thread of a runtime that has one.
///
/// Context: anywhere.
pub fn now_ns() -> u64 {
    give_way();
    match park::current() {
        Some(record) => record.core().now_ns(),
        None => os::monotonic_ns(),
    }
}

/// The time that timers go by, as an [`Instant`]: [`now_ns`] on the scale on which this crate reads the instants that it is
/// given, and on which those are that it gives out.
///
/// It is `Instant::now()`, except on a green thread of a runtime whose timer backend keeps a clock of its own (virtual
/// time). There deadlines are to be counted from this one: `Instant::now()` is a time of another clock.
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

/// A deadline in the clock that the caller's timed waits go by.
pub(crate) fn deadline_ns(deadline: Instant) -> u64 {
    match park::current().and_then(|record| record.core().scale) {
        Some(scale) => scale.ns(deadline),
        None => Scale::monotonic().ns(deadline),
    }
}

/// Whether it has, by the caller's clock.
pub(crate) fn has_passed(deadline: Instant) -> bool {
    now() >= deadline
}

/// The caller's clock, or where that is the kernel's, its last tick: for what need not be exact.
pub(crate) fn coarse_ns() -> u64 {
    match park::current() {
        Some(record) if record.core().scale.is_some() => record.core().now_ns(),
        _ => os::monotonic_coarse_ns(),
    }
}

/// Something took longer than it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("it took longer than it was given")
    }
}

impl Error for TimedOut {}
