//! Maps readings of a clock to instants.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::os;
use crate::protocol::preempt_count::Steady;

/// A duration that does not fit is infinite.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The instant of one reading of a clock, and with it of all.
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

    /// For `CLOCK_MONOTONIC`, which `Instant` reads too but does not show. So both are read; a deadline may
    /// be late by the time between the two readings, some 20 ns, and is never early.
    pub(crate) fn monotonic() -> &'static Scale {
        static MONOTONIC: OnceLock<Scale> = OnceLock::new();
        MONOTONIC.get().unwrap_or_else(|| {
            // Not preempted while other threads wait for this.
            let _steady = Steady::new();
            MONOTONIC.get_or_init(|| {
                let tries = (0..8).map(|_| {
                    let (before, instant, ns) = (os::monotonic_ns(), Instant::now(), os::monotonic_ns());
                    (ns - before, Scale { instant, ns })
                });
                // The pair with the shortest time in between.
                tries.min_by_key(|(gap, _)| *gap).expect("there are some").1
            })
        })
    }

    pub(crate) fn instant(&self, ns: u64) -> Instant {
        if ns >= self.ns {
            later(self.instant, Duration::from_nanos(ns - self.ns))
        } else {
            let before = Duration::from_nanos(self.ns - ns);
            self.instant.checked_sub(before).unwrap_or(self.instant)
        }
    }

    pub(crate) fn ns(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.ns.saturating_add(nanoseconds(after)),
            None => self.ns.saturating_sub(nanoseconds(self.instant - instant)),
        }
    }
}

/// An instant that cannot be represented is never reached: thirty years are enough.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(30 * 365 * 24 * 3600))
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
            assert!(Scale::monotonic().ns(instant) >= ns, "a deadline that comes early");
        }
    }
}
