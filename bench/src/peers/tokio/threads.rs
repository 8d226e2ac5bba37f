//! `yield`, `spawn-join`, `spawn-many`, `parked`.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task;

use crate::outcome::Outcome;
use crate::params::Params;
use crate::usage;

#[derive(Default)]
struct Ring {
    arrived: AtomicUsize,
    gate: AtomicBool,
    warm: AtomicUsize,
    start: AtomicBool,
    ended: AtomicUsize,
    begin: OnceLock<Instant>,
    end: OnceLock<Instant>,
    last: AtomicU64,
    switches: AtomicU64,
}

pub async fn yields(p: Params) -> Outcome {
    let (threads, each) = (p.count("threads"), p.get("each"));
    let warm = (each / 10).max(2);
    let ring = Arc::new(Ring::default());
    let handles: Vec<_> = (0..threads)
        .map(|me| {
            let ring = ring.clone();
            tokio::spawn(async move { one(&ring, me as u64, threads, warm, each).await })
        })
        .collect();
    let mut yielded = 0;
    for handle in handles {
        yielded += handle.await.expect("no panic");
    }
    let elapsed = *ring.end.get().expect("every task ended") - *ring.begin.get().expect("it began");
    let switched = ring.switches.load(Relaxed) as f64 / (threads as u64 * warm) as f64;
    Outcome::per_op(yielded, threads as u64 * (each + 1) - 1, elapsed).with("switched", switched)
}

/// Orderings as in `work/yields.rs`.
async fn one(ring: &Ring, me: u64, threads: usize, warm: u64, each: u64) -> u64 {
    if ring.arrived.fetch_add(1, Relaxed) + 1 == threads {
        ring.gate.store(true, Release);
    }
    while !ring.gate.load(Acquire) {
        task::yield_now().await;
    }
    let mut switches = 0;
    for _ in 0..warm {
        switches += u64::from(ring.last.swap(me + 1, Relaxed) != me + 1);
        task::yield_now().await;
    }
    ring.switches.fetch_add(switches, Relaxed);
    if ring.warm.fetch_add(1, Relaxed) + 1 == threads {
        let _ = ring.begin.set(Instant::now());
        ring.start.store(true, Release);
    }
    while !ring.start.load(Acquire) {
        task::yield_now().await;
    }
    let mut yielded = 0;
    for _ in 0..each {
        task::yield_now().await;
        yielded += 1;
    }
    if ring.ended.fetch_add(1, Relaxed) + 1 == threads {
        let _ = ring.end.set(Instant::now());
    }
    yielded
}

pub async fn one_at_a_time(p: Params) -> Outcome {
    async fn sum_of(n: u64) -> u64 {
        let mut sum = 0;
        for i in 0..n {
            sum += tokio::spawn(async move { i }).await.expect("no panic");
        }
        sum
    }
    let n = p.get("n");
    black_box(sum_of(n / 10).await);
    let begin = Instant::now();
    let sum = sum_of(n).await;
    Outcome::per_op(sum, n, begin.elapsed())
}

/// Counts down; the last one wakes the waiter.
pub struct Latch {
    left: AtomicUsize,
    last: Notify,
}

impl Latch {
    pub fn new(n: usize) -> Arc<Self> {
        Arc::new(Latch { left: AtomicUsize::new(n), last: Notify::new() })
    }

    pub fn done(&self) {
        // ORDERING: AcqRel, so that the last to count sees what the others wrote before.
        if self.left.fetch_sub(1, AcqRel) == 1 {
            self.last.notify_one();
        }
    }

    pub async fn wait(&self) {
        self.last.notified().await;
    }
}

pub async fn many(p: Params) -> Outcome {
    let n = p.count("n");
    let begin = Instant::now();
    let latch = Latch::new(n);
    for _ in 0..n {
        let latch = latch.clone();
        drop(tokio::spawn(async move { latch.done() }));
    }
    latch.wait().await;
    let elapsed = begin.elapsed();
    Outcome::per_op((n - latch.left.load(Acquire)) as u64, n as u64, elapsed)
}

pub async fn parked(p: Params) -> Outcome {
    let n = p.count("threads");
    let tokens = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(AtomicUsize::new(0));
    let all_there = Arc::new(OnceLock::new());
    let sum = Arc::new(AtomicU64::new(0));
    let latch = Latch::new(n);

    let before = usage::memory_now();
    let begin = Instant::now();
    for i in 0..n as u64 {
        let (tokens, latch, arrived) = (tokens.clone(), latch.clone(), arrived.clone());
        let (all_there, sum) = (all_there.clone(), sum.clone());
        drop(tokio::spawn(async move {
            // Relaxed: only the moment of the last arrival matters.
            if arrived.fetch_add(1, Relaxed) + 1 == n {
                let _ = all_there.set(Instant::now());
            }
            tokens.acquire().await.expect("never closed").forget();
            // Relaxed: the latch publishes it.
            sum.fetch_add(i, Relaxed);
            latch.done();
        }));
    }
    while all_there.get().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let spawned = *all_there.get().expect("seen above") - begin;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bytes = usage::memory_now().saturating_sub(before);

    let begin = Instant::now();
    for _ in 0..n {
        tokens.add_permits(1);
    }
    latch.wait().await;
    let woken = begin.elapsed();
    let each = |total: f64| total / n as f64;
    Outcome::new(sum.load(Relaxed))
        .with("bytes", each(bytes as f64))
        .with("spawn_ns", each(spawned.as_nanos() as f64))
        .with("wake_ns", each(woken.as_nanos() as f64))
}
