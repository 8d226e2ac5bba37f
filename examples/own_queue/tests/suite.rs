//! Every law of `ReadyQueue`, a test each. This is all that a queue's tests need.

use own_queue::FifoQueue;

gvt_conformance::ready_queue_suite!(fifo, FifoQueue);

/// The same laws are functions, to be called one by one while something fails.
#[test]
fn two_that_fail_most_often() {
    gvt_conformance::laws::ready_queue::q1_exactly_once(&FifoQueue).unwrap();
    gvt_conformance::laws::ready_queue::q4_two_wakers(&FifoQueue).unwrap();
}

/// And it runs threads.
#[test]
fn it_runs_threads() {
    let runtime = gvt::Runtime::builder().workers(2).queue(FifoQueue).build().unwrap();
    let sum: u32 = runtime.block_on(|| {
        let threads: Vec<_> = (0..100).map(|i| gvt::spawn(move |_| i)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(sum, 4950);
}
