//! `alarm` in models: never rings.

use std::task::Waker;
use std::time::Instant;

pub(crate) fn set(_when: Instant, _waker: Waker) {}
