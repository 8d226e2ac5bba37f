//! A policy that the queue does not know.

use gvt_queue_priority::PriorityQueue;

struct Lottery;

fn main() {
    let _ = gvt::Runtime::builder().queue(PriorityQueue::<Lottery>::new()).build();
}

//~ error: `Lottery` is not a policy of `PriorityQueue`
//~ label: this type does not say what happens to the less urgent
//~ note: choose `Ageing`, the default, or `Strict`; another order is another `ReadyQueue`
