//! Sleeping: never too short, never for ever, also when every worker is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Runtime, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Random, Watchdog};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[rstest]
fn never_too_short(#[values(1, 2, 8)] workers: usize) {
    let _watchdog = Watchdog::new();
    let random = Random::from_environment("never_too_short");
    runtime(workers).block_on(|| {
        let handles: Vec<_> = (0..500)
            .map(|index| {
                let mut random = random.part(index);
                spawn(move |_| {
                    for _ in 0..4 {
                        let duration = Duration::from_nanos(random.below(8_000_000));
                        let begin = Instant::now();
                        gvt::sleep(duration);
                        assert!(begin.elapsed() >= duration, "{:?} < {duration:?}", begin.elapsed());
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

#[test]
fn every_way_to_say_it() {
    let _watchdog = Watchdog::new();
    runtime(1).block_on(|| {
        let begin = Instant::now();
        gvt::sleep_ms(2);
        gvt::sleep_us(1_000);
        gvt::sleep(Duration::from_nanos(1));
        gvt::sleep(Duration::ZERO);
        gvt::sleep_until(begin + Duration::from_millis(5));
        assert!(begin.elapsed() >= Duration::from_millis(5));
        gvt::sleep_until(begin);
        let (before, now) = (gvt::now_ns(), gvt::now_ns());
        assert!(before <= now);
    });
}

/// Sleepers whose deadlines come in another order than the sleeps began, on one worker that idles.
#[rstest]
fn woken_in_order_of_their_deadlines(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let handles: Vec<_> = [60_u64, 20, 80, 40]
            .into_iter()
            .map(|ms| {
                let order = order.clone();
                spawn(move |_| {
                    gvt::sleep_ms(ms);
                    order.lock().unwrap().push(ms);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        let order = order.lock().unwrap();
        // Two workers of a loaded machine may swap neighbours; one worker may not.
        assert!(workers > 1 || order.is_sorted(), "{order:?}");
        assert_eq!(order.len(), 4);
    });
}

/// A deadline that is earlier than the one that the idle worker waits for, again and again.
#[rstest]
fn earlier_deadlines_come_later(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    runtime.block_on(|| {
        let long = spawn(|token| {
            while !token.is_cancelled() {
                gvt::sleep_ms(5);
            }
        });
        let never = spawn(|_| gvt::sleep(Duration::from_secs(3_600)));
        for n in 0..100 {
            gvt::sleep_us(n * 5);
        }
        long.token().cancel();
        long.join().unwrap();
        drop(never);
    });
    runtime.shutdown();
}

/// All workers are busy with threads that never look: the monitor sees to it that one yields.
#[rstest]
fn a_sleeper_behind_threads_that_only_pass_safepoints(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let spinners: Vec<_> = (0..workers)
            .map(|_| {
                let (stop, count) = (stop.clone(), count.clone());
                spawn(move |_| {
                    while !stop.load(Relaxed) {
                        count.fetch_add(1, Relaxed);
                        gvt::safepoint!();
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            gvt::sleep_ms(1);
        }
        while count.load(Relaxed) == 0 {
            gvt::sleep_us(100);
        }
        stop.store(true, Relaxed);
        spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
    });
}

/// One worker is stuck with a thread that does nothing but compute; the other serves all sleepers.
#[test]
fn sleepers_beside_a_stuck_worker() {
    let _watchdog = Watchdog::new();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime(2);
    let spinner = {
        let stop = stop.clone();
        runtime.handle().spawn(move |_| {
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        })
    };
    runtime.block_on(|| {
        let handles: Vec<_> = (0..100)
            .map(|n| {
                spawn(move |_| {
                    for _ in 0..5 {
                        gvt::sleep_us(100 + n * 10);
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    stop.store(true, Relaxed);
    spinner.join().unwrap();
}

/// Threads that are woken while their waker runs on for long are taken over by an idle worker.
#[test]
fn woken_behind_a_thread_that_runs_on() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        for _ in 0..20 {
            let (stop, mutex) = (Arc::new(AtomicBool::new(false)), Arc::new(gvt::SchedMutex::new(())));
            let guard = mutex.lock();
            let woken = {
                let (stop, mutex) = (stop.clone(), mutex.clone());
                spawn(move |_| {
                    drop(mutex.lock());
                    stop.store(true, SeqCst);
                })
            };
            gvt::sleep_us(200);
            // Wakes the thread, which this worker keeps; and then computes until that thread has run.
            drop(guard);
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
            woken.join().unwrap();
        }
    });
}

/// Sleepers and yielders share the workers; neither starves the other.
#[rstest]
fn sleepers_among_yielders(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let yields: Arc<Vec<AtomicUsize>> = Arc::new((0..20).map(|_| AtomicUsize::new(0)).collect());
        let yielders: Vec<_> = (0..20)
            .map(|n| {
                let (stop, yields) = (stop.clone(), yields.clone());
                spawn(move |_| {
                    while !stop.load(Relaxed) {
                        yield_now();
                        yields[n].fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        let sleepers: Vec<_> = (0..50).map(|n| spawn(move |_| gvt::sleep_us(n * 100))).collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        // A worker whose OS thread the machine keeps waiting may have come to none of its yielders yet.
        while yields.iter().any(|count| count.load(Relaxed) == 0) {
            gvt::sleep_us(100);
        }
        stop.store(true, Relaxed);
        yielders.into_iter().for_each(|yielder| yielder.join().unwrap());
    });
}

#[test]
fn many_sleepers() {
    let _watchdog = Watchdog::new();
    let count = Arc::new(AtomicUsize::new(0));
    let runtime =
        Runtime::builder().workers(2).slots(gvt::MmapSlots::default().slot_size(64 << 10)).build().unwrap();
    runtime.block_on(|| {
        for n in 0..20_000_u64 {
            let count = count.clone();
            spawn(move |_| {
                gvt::sleep_us(n % 1_000 * 30);
                count.fetch_add(1, Relaxed);
            });
        }
    });
    drop(runtime);
    assert_eq!(count.load(Relaxed), 20_000);
}
