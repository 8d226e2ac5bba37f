//! `parked`: what a thread that waits for a message costs in memory, to get there, and to wake.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::Latch;
use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::{Ends, Green};
use crate::usage;

/// `threads` threads wait on one channel; then each gets one message.
pub fn parked<G: Green>(p: &Params) -> Outcome {
    let n = p.count("threads");
    let (to_all, from) = G::channel::<u64>(1024, Ends::ManyToMany);
    let arrived = Arc::new(AtomicUsize::new(0));
    let all_there = Arc::new(OnceLock::new());
    let sum = Arc::new(AtomicU64::new(0));
    let (latch, wait) = Latch::<G>::new(n);
    let latch = Arc::new(latch);

    let before = usage::memory_now();
    let begin = Instant::now();
    for _ in 0..n {
        let (from, latch, arrived) = (G::clone_receiver(&from), latch.clone(), arrived.clone());
        let (all_there, sum) = (all_there.clone(), sum.clone());
        G::detach(move || {
            // Relaxed: only the moment of the last arrival matters.
            if arrived.fetch_add(1, Relaxed) + 1 == n {
                let _ = all_there.set(Instant::now());
            }
            let number = G::recv(&from).expect("a message each");
            // Relaxed: the latch publishes it.
            sum.fetch_add(number, Relaxed);
            latch.done();
        });
    }
    while all_there.get().is_none() {
        G::sleep(Duration::from_millis(1));
    }
    let spawned = *all_there.get().expect("seen above") - begin;
    G::sleep(Duration::from_millis(50)); // the last to arrive parks
    let bytes = usage::memory_now().saturating_sub(before);

    let begin = Instant::now();
    for i in 0..n as u64 {
        G::send(&to_all, i);
    }
    G::recv(&wait).expect("the last thread sends");
    let woken = begin.elapsed();
    let each = |total: f64| total / n as f64;
    Outcome::new(sum.load(Relaxed))
        .with("bytes", each(bytes as f64))
        .with("spawn_ns", each(spawned.as_nanos() as f64))
        .with("wake_ns", each(woken.as_nanos() as f64))
}
