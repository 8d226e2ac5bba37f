//! `sleepers` and `playground`: many threads that sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Latch, spread};
use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::Green;

/// `threads` threads sleep once each, for times spread from `min_us` to `max_us`; how late is each
/// one back?
pub fn once<G: Green>(p: &Params) -> Outcome {
    let (n, min_us, max_us) = (p.count("threads"), p.get("min_us"), p.get("max_us"));
    let begin = Instant::now();
    let lateness: Arc<Vec<AtomicU64>> = Arc::new((0..n).map(|_| AtomicU64::new(u64::MAX)).collect());
    let (latch, wait) = Latch::<G>::new(n);
    let latch = Arc::new(latch);
    for i in 0..n {
        let (latch, lateness) = (latch.clone(), lateness.clone());
        let sleep = Duration::from_micros(spread::sleep_us(i as u64, min_us, max_us));
        G::detach(move || {
            let due = Instant::now() + sleep;
            G::sleep(sleep);
            // Early counts as never back: the check fails.
            if let Some(late) = Instant::now().checked_duration_since(due) {
                // Relaxed: the latch publishes it.
                lateness[i].store(late.as_nanos() as u64, Relaxed);
            }
            latch.done();
        });
    }
    G::recv(&wait).expect("the last thread sends");
    let elapsed = begin.elapsed();
    let late: Vec<u64> = lateness.iter().map(|l| l.load(Relaxed)).filter(|l| *l != u64::MAX).collect();
    Outcome::new(late.len() as u64).with("s", elapsed.as_secs_f64()).with_lateness(late)
}

/// `threads` threads sleep `sleeps` times for `sleep_us`. The CPU time is the figure.
pub fn playground<G: Green>(p: &Params) -> Outcome {
    let (n, sleeps) = (p.count("threads"), p.get("sleeps"));
    let sleep = Duration::from_micros(p.get("sleep_us"));
    let slept = Arc::new(AtomicU64::new(0));
    let (latch, wait) = Latch::<G>::new(n);
    let latch = Arc::new(latch);
    let begin = Instant::now();
    for _ in 0..n {
        let (latch, slept) = (latch.clone(), slept.clone());
        G::detach(move || {
            for _ in 0..sleeps {
                G::sleep(sleep);
            }
            // Relaxed: the latch publishes it.
            slept.fetch_add(sleeps, Relaxed);
            latch.done();
        });
    }
    G::recv(&wait).expect("the last thread sends");
    Outcome::new(slept.load(Relaxed)).with("s", begin.elapsed().as_secs_f64())
}
