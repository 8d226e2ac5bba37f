//! Virtual time without a timer to order it.

use gvt_decorators::VirtualTime;

fn main() {
    let _ = gvt::Runtime::builder().timer(VirtualTime(gvt::GoQueue)).build();
}

//~ error: `GoQueues` is not a timer backend
//~ label: this backend does not implement `TimerBackend`
//~ note: pass a timer such as `HeapTimer`, `Wheel` or `TimerFd` to `.timer(…)`
