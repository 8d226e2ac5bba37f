//! Sleeping, ticking, time limits, and the clock that they go by.
//!
//! | to | names |
//! |---|---|
//! | sleep | [`sleep`], [`sleep_ms`], [`sleep_us`], [`sleep_until`] |
//! | tick | [`interval`], [`interval_at`], [`Interval`], [`MissedTicks`] |
//! | limit how long something takes | [`timeout`], [`timeout_at`], [`TimedOut`] |
//! | read the clock | [`now`], [`now_ns`], [`coarse_now_ns`] |
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! use gvt::time::{self, TimedOut};
//! use std::time::Duration;
//! let begin = time::now();
//! time::sleep(Duration::from_millis(2));
//! assert!(time::now() - begin >= Duration::from_millis(2));
//! let late = time::timeout(Duration::from_millis(2), |token| token.cancelled().wait());
//! assert_eq!(late, Err(TimedOut));
//! # });
//! ```
//!
//! [`future`](crate::future) has `sleep` and `timeout` for async code.
//! [`channel::after`](crate::channel::after) and [`channel::tick`](crate::channel::tick) are clocks for
//! `select!`.

pub(crate) mod interval;
pub(crate) mod ringer;
pub(crate) mod sleep;
pub(crate) mod timeout;

pub use crate::wait::clock::{TimedOut, coarse_now_ns, now, now_ns};
pub use interval::{Interval, MissedTicks, interval, interval_at};
pub use sleep::{sleep, sleep_ms, sleep_until, sleep_us};
pub use timeout::{timeout, timeout_at};
