//! Whether the host held the machine up.
//!
//! A virtual machine that computes for long may be stopped by its host: once for up to 1.2 seconds, or, when
//! it has used up what it is allowed, for 20 to 50 ms of every 100 (two threads of plain C that read the
//! clock see the same). Whoever is measured then is late by as much, and pays for cold caches besides. The
//! kernel counts some of that time as stolen, not all; so a thread of real-time priority, for which nobody on
//! this machine can stand in the way, wakes up every [`STEP`] meanwhile and notes by how much it overslept. A
//! measurement of which more than [`MUCH`] was lost either way is made again, once, and the one that lost
//! less counts; one that computes for long after a [`REST`], in which such a machine earns its time back. The
//! same for every peer.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// More than this part of the time is much: a percentile shows it.
const MUCH: f64 = 0.01;
const STEP: Duration = Duration::from_millis(5);
/// Before a second try of what takes long.
const REST: Duration = Duration::from_secs(20);

/// The kernel's count at one moment.
struct Since {
    stolen: u64,
    all: u64,
}

impl Since {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        Since::read(&text)
    }

    fn read(text: &str) -> Self {
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // Guests' time, behind these eight, is counted as the user's already.
        let ticks: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        Since { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().sum() }
    }

    /// The part of the processors' time that was stolen.
    fn part_until(&self, now: &Since) -> f64 {
        let all = now.all.saturating_sub(self.all);
        if all == 0 { 0.0 } else { now.stolen.saturating_sub(self.stolen) as f64 / all as f64 }
    }
}

/// Notes by how much it oversleeps.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Watch {
            stop,
            thread: thread::spawn(move || if becomes_urgent() { watch(&stopped) } else { Duration::ZERO }),
        }
    }

    /// For how long the machine stood still; zero where the watch may not be urgent, since others keep it
    /// waiting then.
    fn end(self) -> Duration {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn watch(stop: &AtomicBool) -> Duration {
    let mut lost = Duration::ZERO;
    while !stop.load(Relaxed) {
        let begin = Instant::now();
        thread::sleep(STEP);
        lost += overslept(begin.elapsed());
    }
    lost
}

/// The part of a sleep of one step that was too much; what is less than another step is the kernel's own
/// doing.
fn overslept(took: Duration) -> Duration {
    let over = took.saturating_sub(STEP);
    if over < STEP { Duration::ZERO } else { over }
}

/// Takes real-time priority for this OS thread, if it may.
fn becomes_urgent() -> bool {
    // SAFETY: numbers, of which zero is one.
    let mut priority: libc::sched_param = unsafe { std::mem::zeroed() };
    priority.sched_priority = 50;
    // SAFETY: a call with a parameter of its own.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

/// The results of `prepare` and `measure`, or of a second try, before which `is_long` work rests. An error is
/// never tried away.
pub fn seldom<P, T, E>(
    is_long: bool,
    mut prepare: impl FnMut() -> P,
    mut measure: impl FnMut() -> Result<T, E>,
) -> (P, Result<T, E>) {
    let mut timed = || {
        let prepared = prepare();
        let (since, watch, begin) = (Since::now(), Watch::begin(), Instant::now());
        let result = measure();
        let halted = watch.end().as_secs_f64() / begin.elapsed().as_secs_f64();
        (halted.max(since.part_until(&Since::now())), (prepared, result))
    };
    let (part, first) = timed();
    if part <= MUCH || first.1.is_err() {
        return first;
    }
    if is_long {
        thread::sleep(REST);
    }
    let (again, second) = timed();
    if again < part || second.1.is_err() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays() {
        let mut tries = 0;
        let (prepared, result): (u32, Result<(), &str>) = seldom(
            true,
            || 7,
            || {
                tries += 1;
                Err("wrong")
            },
        );
        assert_eq!((prepared, result, tries), (7, Err("wrong"), 1));
    }

    #[test]
    fn the_part_that_was_stolen() {
        let before = Since::read("cpu  100 0 50 800 0 0 0 50 7 0\ncpu0 1 2 3");
        let after = Since::read("cpu  140 0 60 840 0 0 0 60 9 0\n");
        assert!((before.part_until(&after) - 0.1).abs() < 1e-9);
        assert_eq!(Since::read("").part_until(&Since::read("")), 0.0);
    }

    #[test]
    fn a_step_is_no_halt() {
        let ms = Duration::from_millis;
        assert_eq!(overslept(ms(4)) + overslept(ms(5)) + overslept(ms(9)), Duration::ZERO);
        assert_eq!(overslept(ms(45)), ms(40));
    }
}
