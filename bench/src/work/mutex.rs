//! `mutex`: `threads` threads add one to a number behind a lock, `n` times in all.

use std::sync::Arc;
use std::time::Instant;

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::Green;

/// With one thread the lock is uncontended.
pub fn contend<G: Green>(p: &Params) -> Outcome {
    let (threads, n) = (p.get("threads"), p.get("n"));
    let each = n / threads;
    let mutex = G::mutex();
    let begin = Instant::now();
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let mutex: Arc<G::Mutex> = mutex.clone();
            G::spawn(move || {
                for _ in 0..each {
                    G::add_one(&mutex);
                }
            })
        })
        .collect();
    handles.into_iter().for_each(G::join);
    let elapsed = begin.elapsed();
    Outcome::per_op(G::add_one(&mutex) - 1, n, elapsed)
}
