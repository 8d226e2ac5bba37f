//! `alarm` in models: never rings.

use std::task::Waker;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Alarm(Instant);

impl Alarm {
    pub(crate) fn set(when: Instant, _waker: &Waker) -> Self {
        Alarm(when)
    }

    pub(crate) fn when(&self) -> Instant {
        self.0
    }

    pub(crate) fn renew(&self, _waker: &Waker) -> bool {
        true
    }
}
