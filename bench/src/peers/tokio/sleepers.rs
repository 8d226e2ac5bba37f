//! `sleepers`, `playground`, `preempt`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::time;

use super::threads::Latch;
use crate::outcome::Outcome;
use crate::params::Params;
use crate::work::{preempt, spread};

pub async fn once(p: Params) -> Outcome {
    let (n, min_us, max_us) = (p.count("threads"), p.get("min_us"), p.get("max_us"));
    let begin = Instant::now();
    let lateness: Arc<Vec<AtomicU64>> = Arc::new((0..n).map(|_| AtomicU64::new(u64::MAX)).collect());
    let latch = Latch::new(n);
    for i in 0..n {
        let (latch, lateness) = (latch.clone(), lateness.clone());
        let sleep = Duration::from_micros(spread::sleep_us(i as u64, min_us, max_us));
        drop(tokio::spawn(async move {
            let due = Instant::now() + sleep;
            time::sleep(sleep).await;
            if let Some(late) = Instant::now().checked_duration_since(due) {
                // Relaxed: the latch publishes it.
                lateness[i].store(late.as_nanos() as u64, Relaxed);
            }
            latch.done();
        }));
    }
    latch.wait().await;
    let elapsed = begin.elapsed();
    let late: Vec<u64> = lateness.iter().map(|l| l.load(Relaxed)).filter(|l| *l != u64::MAX).collect();
    Outcome::new(late.len() as u64).with("s", elapsed.as_secs_f64()).with_lateness(late)
}

pub async fn playground(p: Params) -> Outcome {
    let (n, sleeps) = (p.count("threads"), p.get("sleeps"));
    let sleep = Duration::from_micros(p.get("sleep_us"));
    let slept = Arc::new(AtomicU64::new(0));
    let latch = Latch::new(n);
    let begin = Instant::now();
    for _ in 0..n {
        let (latch, slept) = (latch.clone(), slept.clone());
        drop(tokio::spawn(async move {
            for _ in 0..sleeps {
                time::sleep(sleep).await;
            }
            // Relaxed: the latch publishes it.
            slept.fetch_add(sleeps, Relaxed);
            latch.done();
        }));
    }
    latch.wait().await;
    Outcome::new(slept.load(Relaxed)).with("s", begin.elapsed().as_secs_f64())
}

pub async fn behind_spinner(p: Params) -> Outcome {
    let (samples, allocating) = (p.count("samples"), p.get("alloc") != 0);
    // Relaxed throughout, as in `work/preempt.rs`.
    let stop = Arc::new(AtomicBool::new(false));
    let given_up = Arc::new(AtomicBool::new(false));
    let limit = Duration::from_micros(p.get("limit_us"));
    let watchdog = (stop.clone(), given_up.clone());
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        watchdog.1.store(true, Relaxed);
        watchdog.0.store(true, Relaxed);
    });
    let each = |_| {
        let spin = stop.clone();
        tokio::spawn(async move {
            if allocating { preempt::spin_allocating(&spin) } else { preempt::spin_plain(&spin) }
        })
    };
    let spinners: Vec<_> = (0..p.get("spinners")).map(each).collect();
    let mut late = Vec::with_capacity(samples);
    while late.len() < samples {
        let due = Instant::now() + Duration::from_millis(1);
        time::sleep(Duration::from_millis(1)).await;
        let now = Instant::now();
        if given_up.load(Relaxed) {
            break;
        }
        late.push(now.saturating_duration_since(due).as_nanos() as u64);
    }
    stop.store(true, Relaxed);
    let mut turns = 0;
    for spinner in spinners {
        turns += spinner.await.expect("no panic");
    }
    assert!(turns > 0, "the spinners ran");
    let outcome = Outcome::new(late.len() as u64).with("spins", turns as f64);
    if late.is_empty() { outcome } else { outcome.with_lateness(late) }
}
