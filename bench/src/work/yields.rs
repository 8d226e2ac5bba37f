//! `yield`: `threads` threads yield `each` times, over and over round the ring.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::Green;

/// What the threads of the ring share.
#[derive(Default)]
struct Ring {
    arrived: AtomicUsize,
    gate: AtomicBool,
    warm: AtomicUsize,
    start: AtomicBool,
    ended: AtomicUsize,
    begin: OnceLock<Instant>,
    end: OnceLock<Instant>,
    /// Who ran last, and how often it was somebody else.
    last: AtomicU64,
    switches: AtomicU64,
}

/// All threads arrive (yielding), warm up and show that a yield really lets another run, meet again, and
/// then yield `each` times against the clock.
pub fn yields<G: Green>(p: &Params) -> Outcome {
    let (threads, each) = (p.count("threads"), p.get("each"));
    let warm = (each / 10).max(2);
    let ring = Arc::new(Ring::default());
    let handles: Vec<_> = (0..threads)
        .map(|me| {
            let ring = ring.clone();
            G::spawn(move || one::<G>(&ring, me as u64, threads, warm, each))
        })
        .collect();
    let yielded: u64 = handles.into_iter().map(G::join).sum();
    let elapsed = *ring.end.get().expect("every thread ended") - *ring.begin.get().expect("it began");
    let switched = ring.switches.load(Relaxed) as f64 / (threads as u64 * warm) as f64;
    // Between the two times all but one return from a wait at the gate, and then all yield.
    Outcome::per_op(yielded, threads as u64 * (each + 1) - 1, elapsed).with("switched", switched)
}

/// One thread of the ring. The counters are shared by one worker's threads: Relaxed on those that only
/// count, Release/Acquire on the two gates.
fn one<G: Green>(ring: &Ring, me: u64, threads: usize, warm: u64, each: u64) -> u64 {
    if ring.arrived.fetch_add(1, Relaxed) + 1 == threads {
        ring.gate.store(true, Release);
    }
    while !ring.gate.load(Acquire) {
        G::yield_now();
    }
    let mut switches = 0;
    for _ in 0..warm {
        switches += u64::from(ring.last.swap(me + 1, Relaxed) != me + 1);
        G::yield_now();
    }
    ring.switches.fetch_add(switches, Relaxed);
    if ring.warm.fetch_add(1, Relaxed) + 1 == threads {
        let _ = ring.begin.set(Instant::now());
        ring.start.store(true, Release);
    }
    while !ring.start.load(Acquire) {
        G::yield_now();
    }
    let mut yielded = 0;
    for _ in 0..each {
        G::yield_now();
        yielded += 1;
    }
    if ring.ended.fetch_add(1, Relaxed) + 1 == threads {
        let _ = ring.end.set(Instant::now());
    }
    yielded
}
