//! A queue in the timer's place.

fn main() {
    let _ = gvt::Runtime::builder().timer(gvt::GoQueue).build();
}

//~ error: `GoQueues` is not a timer backend
//~ label: this backend does not implement `TimerBackend`
//~ note: pass a timer such as `HeapTimer`, `Wheel` or `TimerFd` to `.timer(…)`
