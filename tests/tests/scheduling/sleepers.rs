//! Who sleeps for a moment and needs a moment, beside those that compute for long: it goes first, and does
//! not keep them from computing. Judged by who ran in between, not by the time that it took.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::sync::{Condvar, Mutex};
use gvt::{JoinHandle, Runtime, SchedulerConfig, spawn};
use gvt_conformance::process::Watchdog;
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

/// Threads that compute until told to stop, and count.
struct Spinners {
    stop: Arc<AtomicBool>,
    counts: Arc<Vec<AtomicU64>>,
    handles: Vec<JoinHandle<()>>,
}

impl Spinners {
    fn start(number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<Vec<AtomicU64>> = Arc::new((0..number).map(|_| AtomicU64::new(0)).collect());
        let each = |index: usize| {
            let (stop, counts) = (stop.clone(), counts.clone());
            spawn(move |_| {
                while !stop.load(Relaxed) {
                    counts[index].fetch_add(1, Relaxed);
                    compute();
                }
            })
        };
        let handles = (0..number).map(each).collect();
        let spinners = Spinners { stop, counts, handles };
        // Each has begun, so that each that is ready waits for a slice.
        while spinners.counts().contains(&0) {
            gvt::sleep_ms(1);
        }
        spinners
    }

    fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// How many of them have run during `wait`.
    fn that_ran_during(&self, wait: impl FnOnce()) -> usize {
        let before = self.counts();
        wait();
        before.iter().zip(self.counts()).filter(|&(&before, after)| before != after).count()
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        self.handles.into_iter().for_each(|handle| handle.join().unwrap());
    }
}

fn compute() {
    (0..2_000u64).for_each(|turn| {
        black_box(turn);
    });
}

/// The processor time of this OS thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of the type that is asked for.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values[values.len() / 2]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    Sleep,
    Receive,
    Condvar,
}

impl Wait {
    fn for_a_moment(self) {
        let moment = Duration::from_millis(1);
        match self {
            Wait::Sleep => gvt::sleep(moment),
            Wait::Receive => {
                let (_sender, receiver) = gvt::channel::bounded::<()>(1);
                assert!(receiver.recv_timeout(moment).is_err());
            }
            Wait::Condvar => {
                let mutex = Mutex::new(());
                let guard = mutex.lock().unwrap();
                let (_guard, result) = Condvar::new().wait_timeout(guard, moment).unwrap();
                assert!(result.timed_out());
            }
        }
    }
}

/// Who waits for a moment is back before everybody else has had a slice, however many these are.
#[rstest]
fn one_that_needs_a_moment_goes_ahead(
    #[values(1, 2)] workers: usize,
    #[values(Wait::Sleep, Wait::Receive, Wait::Condvar)] wait: Wait,
) {
    const SPINNERS: usize = 16;
    let _watchdog = Watchdog::new();
    let ran = runtime(workers).block_on(move || {
        let spinners = Spinners::start(SPINNERS);
        let sleeper =
            || (0..20).map(|_| spinners.that_ran_during(|| wait.for_a_moment())).collect::<Vec<_>>();
        let ran = sleeper();
        spinners.end();
        ran
    });
    assert!(median(ran.clone()) <= SPINNERS / 4, "of {SPINNERS}, these ran during each wait: {ran:?}");
}

/// But who computes for long between its waits does not go ahead of the others that compute.
#[test]
fn one_that_computes_between_its_sleeps_takes_turns() {
    const SPINNERS: usize = 6;
    let _watchdog = Watchdog::new();
    let ran = runtime(1).block_on(|| {
        let spinners = Spinners::start(SPINNERS);
        let rounds = (0..9).map(|_| {
            let begin = cpu_time();
            // On one OS thread throughout: a thread that is taken off keeps it.
            while cpu_time() - begin < Duration::from_millis(7) {
                compute();
            }
            spinners.that_ran_during(|| gvt::sleep_ms(1))
        });
        let ran = rounds.collect::<Vec<_>>();
        spinners.end();
        ran
    });
    assert!(median(ran.clone()) >= SPINNERS - 1, "of {SPINNERS}, these ran during each sleep: {ran:?}");
}

/// A flood of sleepers, some of whom are always ready, does not keep threads from computing.
#[rstest]
fn a_flood_of_sleepers_starves_nobody(#[values(1, 2)] workers: usize) {
    const SLEEPERS: usize = 300;
    const SPINNERS: usize = 4;
    let _watchdog = Watchdog::new();
    let slept = runtime(workers).block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let slept = Arc::new(AtomicUsize::new(0));
        let each = || {
            let (stop, slept) = (stop.clone(), slept.clone());
            spawn(move |_| {
                while !stop.load(Relaxed) {
                    gvt::sleep(Duration::from_micros(100));
                    (0..5).for_each(|_| compute());
                    slept.fetch_add(1, Relaxed);
                }
            })
        };
        let sleepers: Vec<_> = (0..SLEEPERS).map(|_| each()).collect();
        let spinner = || {
            spawn(|_| {
                let begin = cpu_time();
                while cpu_time() - begin < Duration::from_millis(50) {
                    compute();
                }
            })
        };
        let spinners: Vec<_> = (0..SPINNERS).map(|_| spinner()).collect();
        spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
        stop.store(true, Relaxed);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        slept.load(Relaxed)
    });
    assert!(slept >= SLEEPERS, "{slept} sleeps");
}
