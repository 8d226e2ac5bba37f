//! `clock` in models.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn deadline_ns(_deadline: Instant) -> u64 {
    0
}

pub(crate) fn has_passed(_deadline: Instant) -> bool {
    false
}

pub(crate) fn coarse_ns() -> u64 {
    0
}

pub(crate) fn now_ns() -> u64 {
    0
}
