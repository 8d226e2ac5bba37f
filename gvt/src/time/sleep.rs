//! Clocks and sleeping.
//!
//! **One clock.** Every deadline is nanoseconds of the clock of whoever waits: of its runtime's, which is the timer backend's
//! if that keeps one (virtual time), and else `CLOCK_MONOTONIC`; outside a runtime `CLOCK_MONOTONIC`. The interface speaks of
//! [`Instant`]s, as std and crossbeam have it; a [`Scale`] says which instant a reading of a clock is. The mapping is one
//! addition, so an instant that comes from a clock goes back to the same nanosecond.
//!
//! A clock of a backend's own begins at the instant at which its runtime was built, and then goes its own way: what
//! [`now`] returns on a green thread may be far from `Instant::now()`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gvt_traits::{TimerType, WaitReason};

use crate::cancel::token;
use crate::kernel::thread::record::SCOPED;
use crate::kernel::worker::section::Section;
use crate::os;
use crate::sync::give_way;
use crate::wait::park;
use crate::wait::park::Wait;

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
    sleep_until_ns(record.core().now_ns().saturating_add(nanoseconds(duration)));
}

/// Sleeps on a green thread until its clock shows `deadline_ns`.
fn sleep_until_ns(deadline_ns: u64) {
    let record = park::current().expect("only a green thread has a clock to sleep by");
    let core = record.core();
    loop {
        Wait::new(record, WaitReason::Sleep).park_until(deadline_ns, TimerType::Sleep);
        // A sleep ends by its timer, and that is never early (T2); what else may end it is a shutdown
        // that this thread has caught, or a token.
        if !(core.lifecycle.is_closing() || record.has_flag(SCOPED)) || core.now_ns() >= deadline_ns {
            return;
        }
        token::unwind_if_cancelled(record);
    }
}

/// More than can be told is for ever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Which instant a reading of a clock is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    instant: Instant,
    ns: u64,
}

impl Scale {
    /// For a clock that shows `ns` now.
    pub(crate) fn beginning_at(ns: u64) -> Self {
        Scale { instant: Instant::now(), ns }
    }

    /// For `CLOCK_MONOTONIC`, which `Instant` reads too. Its own reading of it is hidden, so one is taken of each; a deadline
    /// may thus be late by the time between the two, some 20 ns, and is never early.
    fn monotonic() -> &'static Scale {
        static MONOTONIC: OnceLock<Scale> = OnceLock::new();
        MONOTONIC.get().unwrap_or_else(|| {
            // Nobody is taken off its worker with others waiting for this.
            let _section = Section::new();
            MONOTONIC.get_or_init(|| {
                let tries = (0..8).map(|_| {
                    let (before, instant, ns) = (os::monotonic_ns(), Instant::now(), os::monotonic_ns());
                    (ns - before, Scale { instant, ns })
                });
                // The pair that was read with the least between.
                tries.min_by_key(|(gap, _)| *gap).expect("there are some").1
            })
        })
    }

    fn instant(&self, ns: u64) -> Instant {
        if ns >= self.ns {
            later(self.instant, Duration::from_nanos(ns - self.ns))
        } else {
            let before = Duration::from_nanos(self.ns - ns);
            self.instant.checked_sub(before).unwrap_or(self.instant)
        }
    }

    fn ns(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.ns.saturating_add(nanoseconds(after)),
            None => self.ns.saturating_sub(nanoseconds(self.instant - instant)),
        }
    }
}

/// An instant that cannot be told is never reached: thirty years are enough.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(30 * 365 * 24 * 3600))
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

/// [`sleep`] for so many milliseconds.
pub fn sleep_ms(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
}

/// [`sleep`] for so many microseconds.
pub fn sleep_us(microseconds: u64) {
    sleep(Duration::from_micros(microseconds));
}

/// [`sleep`] until `deadline`, by the clock of [`now`]; returns at once if that has passed.
pub fn sleep_until(deadline: Instant) {
    match park::current() {
        Some(_) if has_passed(deadline) => crate::yield_now(),
        Some(_) => sleep_until_ns(deadline_ns(deadline)),
        None => std::thread::sleep(deadline.saturating_duration_since(Instant::now())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_goes_there_and_back() {
        for ns in [0, 1, 1_000, 10_000_000_000] {
            let scale = Scale::beginning_at(ns);
            for other in [0, 1, 999, 1_000_000_007, 86_400_000_000_000] {
                assert_eq!(scale.ns(scale.instant(other)), other);
            }
            assert!(scale.ns(later(Instant::now(), Duration::MAX)) > 1 << 59);
        }
    }

    #[test]
    fn the_clock_of_std_is_not_ahead() {
        for _ in 0..1000 {
            let ns = os::monotonic_ns();
            let instant = Instant::now();
            assert!(deadline_ns(instant) >= ns, "a deadline that comes early");
        }
    }
}
