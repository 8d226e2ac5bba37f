//! And this compiles: parts from several crates, wrapped.

use gvt_decorators::{Checked, Log, Recorded};
use gvt_queue_priority::PriorityQueue;
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;

fn main() -> Result<(), gvt::SchedError> {
    gvt::Runtime::builder().queue(PriorityQueue::default()).timer(Wheel::default()).build()?;
    let queue = Checked(Recorded(PriorityQueue::default(), Log::default()));
    gvt::Runtime::builder().queue(queue).timer(TimerFd::<Wheel>::default()).build()?;
    gvt::Runtime::builder().timer(TimerFd::default()).build()?;
    Ok(())
}
