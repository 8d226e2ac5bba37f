//! A timer in the queue's place.

fn main() {
    let _ = gvt::Runtime::builder().queue(gvt::HeapTimer).build();
}

//~ error: `HeapBackend` is not a ready queue
//~ label: this backend does not implement `ReadyQueue`
//~ note: pass a queue such as `GoQueue` or `PriorityQueue` to `.queue(…)`
