//! `preempt`: a thread that sleeps 1 ms at a time shares one worker with threads that never
//! let go.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::Green;

/// How late is the sleeper back? If it never gets a turn, an OS thread ends the spinners after
/// `limit_us`, and the sleeps that came after that do not count.
pub fn behind_spinner<G: Green>(p: &Params) -> Outcome {
    let (samples, allocating) = (p.count("samples"), p.get("alloc") != 0);
    // Relaxed throughout: the flag alone matters, and when it is seen is not measured.
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
        G::spawn(move || if allocating { spin_allocating(&spin) } else { spin_plain(&spin) })
    };
    let spinners: Vec<_> = (0..p.get("spinners")).map(each).collect();
    let mut late = Vec::with_capacity(samples);
    while late.len() < samples {
        let due = Instant::now() + Duration::from_millis(1);
        G::sleep(Duration::from_millis(1));
        let now = Instant::now();
        if given_up.load(Relaxed) {
            break;
        }
        late.push(now.saturating_duration_since(due).as_nanos() as u64);
    }
    stop.store(true, Relaxed);
    let turns = spinners.into_iter().map(G::join).sum::<u64>();
    assert!(turns > 0, "the spinners ran");
    let outcome = Outcome::new(late.len() as u64).with("spins", turns as f64);
    if late.is_empty() { outcome } else { outcome.with_lateness(late) }
}

/// Counts until told to stop; calls nothing.
pub fn spin_plain(stop: &AtomicBool) -> u64 {
    let mut turns = 0u64;
    while !stop.load(Relaxed) {
        turns = black_box(turns + 1);
    }
    turns
}

/// Allocates and frees until told to stop.
pub fn spin_allocating(stop: &AtomicBool) -> u64 {
    let mut turns = 0u64;
    while !stop.load(Relaxed) {
        let block: Vec<u8> = Vec::with_capacity(64 + (turns as usize & 1023));
        black_box(&block);
        turns += 1;
    }
    turns
}
