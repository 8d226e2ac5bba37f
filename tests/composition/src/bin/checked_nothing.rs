//! A decorator around what is no part.

use gvt_decorators::Checked;

fn main() {
    let _ = gvt::Runtime::builder().queue(Checked("a queue")).build();
}

//~ error: `&str` does not configure a part of a runtime
//~ label: this value builds no backend
// ~ note: the parts that come with gvt are GoQueue, PriorityQueue, HeapTimer, Wheel, TimerFd, Sigurg,
// Cooperative, NoPreempt and MmapSlots; implement `gvt_traits::Factory` for your own
