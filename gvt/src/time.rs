//! Clocks and sleeping.

use std::time::{Duration, Instant};

use gvt_traits::{TimerType, WaitReason};

use crate::os;
use crate::park::{self, Wait};

/// The time that timers go by, in nanoseconds: `CLOCK_MONOTONIC`, or the timer backend's own clock
/// when called on a green thread of a runtime that has one.
///
/// Context: anywhere.
pub fn now_ns() -> u64 {
    match park::current() {
        Some(record) => record.core().now_ns(),
        None => os::monotonic_ns(),
    }
}

/// `CLOCK_MONOTONIC` at the kernel's last tick, in nanoseconds: some milliseconds old, and several
/// times cheaper than [`now_ns`].
///
/// Context: anywhere.
pub fn coarse_now_ns() -> u64 {
    os::monotonic_coarse_ns()
}

/// Lets this green thread sleep for `duration` at least; its worker runs others meanwhile.
///
/// Outside a runtime: `std::thread::sleep`.
///
/// Context: a green thread, or an OS thread. At shutdown a long sleep is unwound; see
/// [`Runtime::shutdown`](crate::Runtime::shutdown).
pub fn sleep(duration: Duration) {
    let Some(record) = park::current() else {
        return std::thread::sleep(duration);
    };
    if duration.is_zero() {
        return crate::yield_now();
    }
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let core = record.core();
    let deadline = core.now_ns().saturating_add(nanoseconds);
    loop {
        Wait::new(record, WaitReason::Sleep).park_until(deadline, TimerType::Sleep);
        // A sleep ends by its timer, and that is never early (T2); what else may end it is a shutdown
        // that this thread has caught.
        if !core.lifecycle.is_closing() || core.now_ns() >= deadline {
            return;
        }
    }
}

/// A deadline in the clock that the caller's timed waits go by.
pub(crate) fn deadline_ns(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    now_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn has_passed(deadline: Instant) -> bool {
    Instant::now() >= deadline
}

/// [`sleep`] for so many milliseconds.
pub fn sleep_ms(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
}

/// [`sleep`] for so many microseconds.
pub fn sleep_us(microseconds: u64) {
    sleep(Duration::from_micros(microseconds));
}

/// [`sleep`] until `deadline`; returns at once if that has passed.
pub fn sleep_until(deadline: Instant) {
    sleep(deadline.saturating_duration_since(Instant::now()));
}
