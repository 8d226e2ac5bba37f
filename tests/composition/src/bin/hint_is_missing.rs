//! A queue that does not say how many it holds.

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
}

fn main() {}

//~ says: missing: `len_hint`
