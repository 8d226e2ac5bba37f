//! Channels that deliver instants: once (`after`, `at`) or repeatedly (`tick`).
//!
//! They have no sender: a receiver looks at the clock. Waiting is sleeping until the next instant.
//!
//! A tick counts from when the previous one was due, not from when it was taken: a receiver wakes a little
//! late each time, and these delays would add up. Only if the next would already be due it counts from the
//! present.

use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::error::{RecvTimeoutError, TryRecvError};
use super::select::sleep_until;
use crate::wait::clock::now;
use crate::wait::lock::Lock;

/// Delivers an instant when its time has come.
pub(super) struct Instants {
    /// The next instant; `None`: there are no more.
    next: Lock<Option<Instant>>,
    /// The time between two instants; `None`: there is one only.
    period: Option<Duration>,
}

impl Instants {
    pub(super) fn once(when: Instant) -> Self {
        Instants { next: Lock::new(Some(when)), period: None }
    }

    pub(super) fn every(first: Instant, period: Duration) -> Self {
        Instants { next: Lock::new(Some(first)), period: Some(period) }
    }

    /// The time of the next instant.
    pub(super) fn next(&self) -> Option<Instant> {
        *self.next.lock()
    }

    pub(super) fn is_due(&self) -> bool {
        self.next().is_some_and(|next| now() >= next)
    }

    pub(super) fn try_recv(&self) -> Result<Instant, TryRecvError> {
        let now = now();
        let mut next = self.next.lock();
        match *next {
            Some(due) if due <= now => {
                *next = self.period.and_then(|period| {
                    let on_schedule = due.checked_add(period)?;
                    if on_schedule > now { Some(on_schedule) } else { now.checked_add(period) }
                });
                Ok(due)
            }
            _ => Err(TryRecvError::Empty),
        }
    }

    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<Instant, RecvTimeoutError> {
        loop {
            if let Ok(instant) = self.try_recv() {
                return Ok(instant);
            }
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return Err(RecvTimeoutError::Timeout);
            }
            let until = match (self.next(), deadline) {
                (Some(next), Some(deadline)) => Some(next.min(deadline)),
                (next, deadline) => next.or(deadline),
            };
            sleep_until(until, WaitReason::ChannelRecv);
        }
    }
}
