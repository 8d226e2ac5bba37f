//! A queue of one's own that nothing builds.

use gvt_traits::{Order, PushKind, ReadyQueue, Runnable, WorkerId};

struct Mine;

impl ReadyQueue for Mine {
    type Local = ();
    const ORDER: Order = Order::Fair;
    fn local(&self, _: WorkerId) {}
    fn inject(&self, task: Runnable) {
        let _ = task.into_raw();
    }
    fn push(&self, _: &mut (), task: Runnable, _: PushKind) {
        let _ = task.into_raw();
    }
    fn pop(&self, _: &mut ()) -> Option<Runnable> {
        None
    }
    fn has_work(&self, _: &()) -> bool {
        false
    }
    fn len_hint(&self) -> usize {
        0
    }
}

fn main() {
    let _ = gvt::Runtime::builder().queue(Mine).build();
}

//~ error: `Mine` does not configure a part of a runtime
//~ label: this value builds no backend
// ~ note: the parts that come with gvt are GoQueue, PriorityQueue, HeapTimer, Wheel, TimerFd, Sigurg,
// Cooperative, NoPreempt and MmapSlots; implement `gvt_traits::Factory` for your own
