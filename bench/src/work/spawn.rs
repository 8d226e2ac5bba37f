//! `spawn-join` and `spawn-many`: what a thread costs from start to end.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::Latch;
use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::Green;

/// Spawns a thread, waits for its result, `n` times; a tenth before that to warm up.
pub fn one_at_a_time<G: Green>(p: &Params) -> Outcome {
    let n = p.get("n");
    let sum_of = |n: u64| (0..n).map(|i| G::join(G::spawn(move || i))).sum::<u64>();
    black_box(sum_of(n / 10));
    let begin = Instant::now();
    let sum = sum_of(n);
    Outcome::per_op(sum, n, begin.elapsed())
}

/// Spawns `n` threads that only count themselves, cold, and waits for the last.
pub fn many<G: Green>(p: &Params) -> Outcome {
    let n = p.count("n");
    let begin = Instant::now();
    let (latch, wait) = Latch::<G>::new(n);
    let latch = Arc::new(latch);
    for _ in 0..n {
        let latch = latch.clone();
        G::detach(move || {
            latch.done();
        });
    }
    G::recv(&wait).expect("the last thread sends");
    let elapsed = begin.elapsed();
    let left = latch.left.load(std::sync::atomic::Ordering::Acquire);
    Outcome::per_op((n - left) as u64, n as u64, elapsed)
}
