//! `alarm` in models: never rings.

use std::task::Context;
use std::time::Instant;

#[derive(Debug)]
#[allow(dead_code, reason = "nobody asks")]
pub(crate) struct Alarm(Instant);

impl Alarm {
    pub(crate) fn wake_at(place: &mut Option<Alarm>, when: Instant, _context: &mut Context<'_>) {
        *place = Some(Alarm(when));
    }
}
