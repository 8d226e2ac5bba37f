//! How often an idle worker wakes for timers (interrupt moderation), and when woken threads are worth a
//! second worker.
//!
//! **Pauses.** An idle worker that fires each timer when it is due pays a sleep and a wake-up for each. So it
//! waits for a pause after it last fired any: [`PAUSE_NS`], about the timer slack that the kernel gives every
//! timed wait of an ordinary thread; or [`LONG_PAUSE_NS`] if timers are at most [`DENSE_NS`] apart, as a
//! network card does with packets. Then tens are due together, and their cache misses overlap. With 250,000 a
//! second that saves a tenth of the CPU time; the median of lateness goes from 0.06 to 0.17 ms, and the 99th
//! percentile stays (a million sleepers of 1 to 5 s).
//!
//! **A second worker.** Threads that sleep often do little when they wake: a request times out, a connection
//! is probed. Waking a sleeping worker costs 10 µs and more, mostly here, and the kernel tends to put it on
//! this very processor, where the two then take turns: 250,000 such threads a second, 22 at a time, make two
//! workers wake each other 14,000 times a second on one processor while the other idles, for a ninth of the
//! CPU time.
//!
//! So a worker measures those threads: the time from firing timers until it has nothing to do, divided by the
//! number of timers. It offers the rest of a batch when the threads that it has pushed would keep it busy for
//! [`WORTH_NS`]. Before it has measured, and when other work distorts the estimate, it errs towards offering.
//! If the estimate is too low, the monitor offers them (`look` M4).
//!
//! No clock is read for this except on the way to sleep, and there only after timers were fired.

use std::cell::Cell;
use std::num::NonZeroU64;

/// The shortest time between two wake-ups of an idle worker for timers.
const PAUSE_NS: u64 = 75_000;
/// The same for dense timers.
const LONG_PAUSE_NS: u64 = 300_000;
/// Timers are dense if they are at most so far apart, on average from one idling to the next.
const DENSE_NS: u64 = 10_000;
/// This much work is worth a wake-up.
const WORTH_NS: u64 = 300_000;

pub(crate) struct Moderation {
    /// Timers since this worker last idled, and the times when the first and the last were fired.
    fired: Cell<u64>,
    since_ns: Cell<u64>,
    last_ns: Cell<u64>,
    /// The time of the first in the period before.
    before_ns: Cell<u64>,
    pause_ns: Cell<u64>,
    /// The time that a woken thread takes, smoothed.
    each_ns: Cell<u64>,
}

impl Moderation {
    pub(crate) const fn new() -> Self {
        Moderation {
            fired: Cell::new(0),
            since_ns: Cell::new(0),
            last_ns: Cell::new(0),
            before_ns: Cell::new(0),
            pause_ns: Cell::new(PAUSE_NS),
            each_ns: Cell::new(WORTH_NS),
        }
    }

    /// `count` timers were fired.
    pub(crate) fn fired(&self, count: usize, now_ns: u64) {
        if count > 0 {
            if self.fired.get() == 0 {
                self.before_ns.set(self.since_ns.replace(now_ns));
            }
            self.fired.set(self.fired.get() + count as u64);
            self.last_ns.set(now_ns);
        }
    }

    /// There is nothing left to run.
    pub(crate) fn idle(&self, now_ns: impl FnOnce() -> u64) {
        if let Some(fired) = NonZeroU64::new(self.fired.replace(0)) {
            let sample = now_ns().saturating_sub(self.since_ns.get()) / fired;
            // Up at once, down by an eighth.
            let each = self.each_ns.get();
            self.each_ns.set(sample.max(each - each / 8));

            let apart = self.since_ns.get().saturating_sub(self.before_ns.get()) / fired;
            self.pause_ns.set(if apart <= DENSE_NS { LONG_PAUSE_NS } else { PAUSE_NS });
        }
    }

    /// The earliest time at which this worker, if idle, should fire timers again.
    pub(crate) fn resumes_ns(&self) -> u64 {
        self.last_ns.get().saturating_add(self.pause_ns.get())
    }

    /// Whether `count` threads are too many for this worker alone.
    #[inline]
    pub(crate) fn is_worth(&self, count: u32) -> bool {
        u64::from(count) * self.each_ns.get() >= WORTH_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(each_ns: u64) -> Moderation {
        let moderation = Moderation::new();
        for round in 0..100 {
            let now_ns = round * 1_000_000;
            moderation.fired(10, now_ns);
            moderation.idle(|| now_ns + 10 * each_ns);
        }
        moderation
    }

    #[test]
    fn offers_until_it_has_measured() {
        assert!(Moderation::new().is_worth(1));
    }

    #[test]
    fn keeps_short_work_and_offers_long() {
        let short = settled(1_000);
        assert!(!short.is_worth(290) && short.is_worth(301));
        let long = settled(300_000);
        assert!(long.is_worth(1));
    }

    #[test]
    fn one_long_run_is_enough() {
        let moderation = settled(1_000);
        moderation.fired(1, 0);
        moderation.fired(1, 500_000);
        moderation.idle(|| 900_000);
        assert!(moderation.is_worth(1), "450 µs each");
    }

    #[test]
    fn idling_without_timers_changes_nothing() {
        let moderation = settled(1_000);
        (0..100).for_each(|_| moderation.idle(|| panic!("no clock is read")));
        assert!(!moderation.is_worth(290));
    }

    /// The pause after timers that come `apart_ns` from each other.
    fn pause(apart_ns: u64) -> u64 {
        let moderation = Moderation::new();
        let mut now_ns = 1_000_000_000;
        for _ in 0..10 {
            let passed = (moderation.resumes_ns().saturating_sub(now_ns)).max(apart_ns);
            now_ns += passed;
            moderation.fired((passed / apart_ns) as usize, now_ns);
            moderation.idle(|| now_ns);
        }
        moderation.resumes_ns() - now_ns
    }

    #[test]
    fn pauses_are_long_while_there_are_many_timers() {
        assert_eq!([1_000, 4_000].map(pause), [LONG_PAUSE_NS; 2]);
        assert_eq!([20_000, 200_000, 1_000_000].map(pause), [PAUSE_NS; 3]);
    }

    #[test]
    fn two_timers_in_a_row_are_not_many() {
        let moderation = Moderation::new();
        for now_ns in (1..10).map(|n| n * 1_000_000) {
            moderation.fired(1, now_ns);
            moderation.fired(1, now_ns + 5_000);
            moderation.idle(|| now_ns + 10_000);
            assert_eq!(moderation.resumes_ns(), now_ns + 5_000 + PAUSE_NS);
        }
    }
}
