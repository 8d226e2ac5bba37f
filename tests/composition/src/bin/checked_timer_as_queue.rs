//! A decorated timer in the queue's place.

use gvt_decorators::Checked;

fn main() {
    let _ = gvt::Runtime::builder().queue(Checked(gvt::HeapTimer)).build();
}

//~ error: `HeapBackend` is not a ready queue
//~ label: this backend does not implement `ReadyQueue`
//~ note: pass a queue such as `GoQueue` or `PriorityQueue` to `.queue(…)`
