//! A value that is no part at all.

fn main() {
    let _ = gvt::Runtime::builder().queue(64).build();
}

//~ error: `{integer}` does not configure a part of a runtime
//~ label: this value builds no backend
// ~ note: the parts that come with gvt are GoQueue, PriorityQueue, HeapTimer, Wheel, TimerFd, Sigurg,
// Cooperative, NoPreempt and MmapSlots; implement `gvt_traits::Factory` for your own
