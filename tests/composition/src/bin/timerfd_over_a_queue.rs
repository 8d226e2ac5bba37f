//! A timer that needs another to order its deadlines, and is given a queue.

use gvt_timer_timerfd::TimerFd;

fn main() {
    let _ = gvt::Runtime::builder().timer(TimerFd::over(gvt::GoQueue)).build();
}

//~ error: `GoQueues` is not a timer backend
//~ label: this backend does not implement `TimerBackend`
//~ note: pass a timer such as `HeapTimer`, `Wheel` or `TimerFd` to `.timer(…)`
