//! Ticks at a steady pace.

use std::time::{Duration, Instant};

use crate::future;
use crate::kernel::worker::scale::later;
use crate::time::sleep::sleep_until;
use crate::wait::clock::now;

/// A tick that is taken later than this counts as missed; see [`MissedTicks`]. As in tokio.
const TOLERANCE: Duration = Duration::from_millis(5);

/// What an [`Interval`] does when a tick is taken more than 5 ms late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissedTicks {
    /// Catches up: ticks follow each other at once until the interval is on schedule again.
    #[default]
    Burst,
    /// Starts a new schedule: the next tick is one period from now.
    Delay,
    /// Skips missed ticks: the next tick is the next one of the old schedule.
    Skip,
}

/// Ticks at a steady pace; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
    missed: MissedTicks,
}

/// Ticks every `period`, the first at once.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::{Duration, Instant};
/// let begin = Instant::now();
/// let mut interval = gvt::interval(Duration::from_millis(2));
/// for _ in 0..3 {
///     interval.tick();
/// }
/// assert!(begin.elapsed() >= Duration::from_millis(4));
/// # });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// Ticks every `period`, the first at `start`.
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval is longer than nothing");
    Interval { next: start, period, missed: MissedTicks::Burst }
}

impl Interval {
    /// Sets what the interval does about missed ticks.
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Self {
        self.set_missed_ticks(missed);
        self
    }

    /// Sets what the interval does about missed ticks from now on.
    pub fn set_missed_ticks(&mut self, missed: MissedTicks) {
        self.missed = missed;
    }

    /// The time from one tick to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next tick; returns when it was due.
    ///
    /// Context: a green thread (which parks) or an OS thread (which sleeps). At shutdown as
    /// [`sleep`](crate::sleep()).
    pub fn tick(&mut self) -> Instant {
        let due = self.next;
        if now() < due {
            sleep_until(due);
        }
        self.advance(now())
    }

    /// [`tick`](Self::tick) as a future. Dropping it skips no tick.
    ///
    /// Context: any executor, on any thread.
    pub async fn tick_async(&mut self) -> Instant {
        if now() < self.next {
            future::sleep_until(self.next).await;
        }
        self.advance(now())
    }

    /// Sets the next tick to one period from now.
    pub fn reset(&mut self) {
        self.next = later(now(), self.period);
    }

    /// Sets the next tick to now.
    pub fn reset_immediately(&mut self) {
        self.next = now();
    }

    /// Takes the tick that is due at `next`, at the time `now`.
    fn advance(&mut self, now: Instant) -> Instant {
        let due = self.next;
        let late = now.saturating_duration_since(due);
        self.next = match self.missed {
            MissedTicks::Delay if late > TOLERANCE => later(now, self.period),
            MissedTicks::Skip if late > TOLERANCE => {
                // Less than a period.
                let into = late.as_nanos() % self.period.as_nanos();
                let into = Duration::new((into / 1_000_000_000) as u64, (into % 1_000_000_000) as u32);
                later(now, self.period - into)
            }
            _ => later(due, self.period),
        };
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against tokio's documentation: a period of 50 ms, the second tick asked for at 200 ms.
    #[test]
    fn missed_ticks_come_as_documented() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (missed, then) in [
            (MissedTicks::Burst, [50, 100, 150, 200, 250]),
            (MissedTicks::Delay, [50, 250, 300, 350, 400]),
            (MissedTicks::Skip, [50, 250, 300, 350, 400]),
        ] {
            let mut interval = interval_at(start, Duration::from_millis(50)).missed_ticks(missed);
            assert_eq!(interval.advance(at(0)), at(0));
            let mut now = at(200);
            for due in then {
                assert_eq!(interval.advance(now.max(interval.next)), at(due), "{missed:?}");
                now = at(200);
            }
        }
        // Between ticks of the schedule the two differ.
        for (missed, next) in [(MissedTicks::Delay, 270), (MissedTicks::Skip, 250), (MissedTicks::Burst, 100)]
        {
            let mut interval = interval_at(at(50), Duration::from_millis(50)).missed_ticks(missed);
            interval.advance(at(220));
            assert_eq!(interval.next, at(next), "{missed:?}");
            // Within the tolerance all keep to the schedule.
            let mut interval = interval_at(at(50), Duration::from_millis(50)).missed_ticks(missed);
            interval.advance(at(55));
            assert_eq!(interval.next, at(100), "{missed:?}");
        }
    }
}
