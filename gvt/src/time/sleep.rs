//! Sleeping.

use std::time::{Duration, Instant};

use gvt_traits::{TimerType, WaitReason};

use crate::kernel::thread::record::SCOPED;
use crate::kernel::worker::scale::nanoseconds;
use crate::wait::clock::{deadline_ns, has_passed};
use crate::wait::park::Wait;
use crate::wait::{cancelled, park};

/// Sleeps for at least `duration`; the worker runs other threads meanwhile.
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
    sleep_until_ns(record.core().now_ns().saturating_add(nanoseconds(duration)));
}

/// Sleeps on a green thread until its clock reaches `deadline_ns`.
fn sleep_until_ns(deadline_ns: u64) {
    let record = park::current().expect("only a green thread has a clock to sleep by");
    let core = record.core();
    loop {
        Wait::new(record, WaitReason::Sleep).park_until(deadline_ns, TimerType::Sleep);
        // Its timer, which is never early (T2), ends the sleep. Otherwise it is a shutdown whose unwinding
        // this thread caught, or a token.
        if !(core.lifecycle.is_closing() || record.has_flag(SCOPED)) || core.now_ns() >= deadline_ns {
            return;
        }
        cancelled::unwind_if_cancelled(record);
    }
}

/// [`sleep`] for `milliseconds`.
pub fn sleep_ms(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
}

/// [`sleep`] for `microseconds`.
pub fn sleep_us(microseconds: u64) {
    sleep(Duration::from_micros(microseconds));
}

/// [`sleep`] until `deadline`, by the clock of [`now`](crate::now); returns at once if it has passed.
pub fn sleep_until(deadline: Instant) {
    match park::current() {
        Some(_) if has_passed(deadline) => crate::yield_now(),
        Some(_) => sleep_until_ns(deadline_ns(deadline)),
        None => std::thread::sleep(deadline.saturating_duration_since(Instant::now())),
    }
}
