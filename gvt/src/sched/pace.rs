//! Whether a second worker is worth waking for threads whose time has come.
//!
//! Threads that slept often do little when they wake: a request times out, a connection is probed. To wake a sleeping worker costs
//! 10 µs and more, a great part of it here, and the kernel likes to put it on this very processor, where the two then take turns: with
//! 250,000 such threads a second, 22 at a time, the two workers woke each other 14,000 times a second on one processor while the other
//! idled (Linux 6.18; a ninth of the CPU time).
//!
//! So a worker measures what those threads take: the time from firing timers until it has nothing to do, divided by the timers.
//! It offers the rest of a batch when what it has pushed would keep it busy for [`WORTH_NS`]. Until it has measured, and when
//! its estimate is off because other work came in between, it errs towards offering. Should the estimate be too low, the monitor offers
//! them (`monitor` M4).
//!
//! No clock is read for this but on the way to sleep, and there only if timers were fired.

use std::cell::Cell;
use std::num::NonZeroU64;

/// Work of so many ns is worth a wake-up.
const WORTH_NS: u64 = 100_000;

pub(crate) struct Pace {
    /// Timers since `since_ns`.
    fired: Cell<u64>,
    since_ns: Cell<u64>,
    /// What a thread takes, smoothed.
    each_ns: Cell<u64>,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Pace { fired: Cell::new(0), since_ns: Cell::new(0), each_ns: Cell::new(WORTH_NS) }
    }

    /// `count` timers are fired.
    pub(crate) fn fired(&self, count: usize, now_ns: u64) {
        if count > 0 {
            if self.fired.get() == 0 {
                self.since_ns.set(now_ns);
            }
            self.fired.set(self.fired.get() + count as u64);
        }
    }

    /// There is nothing left to do.
    pub(crate) fn idle(&self, now_ns: impl FnOnce() -> u64) {
        if let Some(fired) = NonZeroU64::new(self.fired.replace(0)) {
            let sample = now_ns().saturating_sub(self.since_ns.get()) / fired;
            // Up at once, down by the eighth.
            let each = self.each_ns.get();
            self.each_ns.set(sample.max(each - each / 8));
        }
    }

    /// Whether `count` threads are more than this worker should keep to itself.
    #[inline]
    pub(crate) fn is_worth(&self, count: u32) -> bool {
        u64::from(count) * self.each_ns.get() >= WORTH_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(each_ns: u64) -> Pace {
        let pace = Pace::new();
        for round in 0..100 {
            let now_ns = round * 1_000_000;
            pace.fired(10, now_ns);
            pace.idle(|| now_ns + 10 * each_ns);
        }
        pace
    }

    #[test]
    fn offers_until_it_has_measured() {
        assert!(Pace::new().is_worth(1));
    }

    #[test]
    fn keeps_short_work_and_offers_long() {
        let short = settled(1_000);
        assert!(!short.is_worth(90) && short.is_worth(101));
        let long = settled(100_000);
        assert!(long.is_worth(1));
    }

    #[test]
    fn one_long_run_is_enough() {
        let pace = settled(1_000);
        pace.fired(1, 0);
        pace.fired(1, 500_000);
        pace.idle(|| 600_000);
        assert!(pace.is_worth(1), "300 µs each");
    }

    #[test]
    fn idling_without_timers_changes_nothing() {
        let pace = settled(1_000);
        (0..100).for_each(|_| pace.idle(|| panic!("no clock is read")));
        assert!(!pace.is_worth(90));
    }
}
