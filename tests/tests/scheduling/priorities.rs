//! Priorities under saturation: all workers are busy with Normal threads that pass safepoints.
//!
//! What is counted is decisions and turns, never time: who was popped after a Critical thread became ready,
//! how many Normal threads had a turn before it, how many pops Low threads wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::{
    Cooperative, HeapTimer, Priority, Runtime, safepoint, sleep_ms, sleep_us, spawn, spawn_with_priority,
    yield_now,
};
use gvt_conformance::process::Watchdog;
use gvt_decorators::{Log, Recorded};
use gvt_queue_priority::{PriorityQueue, StrictPriorityQueue};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, ReadyQueue, TimerBackend};
use rstest::rstest;

const HOUR: Duration = Duration::from_secs(3_600);

/// One attempt: whether the Critical thread ran at the first safepoint after the monitor had asked for one,
/// and after how many turns of the Normal threads that had waited.
fn first_safepoint(counters: &dyn Fn() -> u64) -> Option<usize> {
    let asked = counters();
    let (turns, deadline) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let critical = {
        let (turns, deadline) = (turns.clone(), deadline.clone());
        let body = move |_: &_| {
            deadline.store(gvt::now_ns() + 3_000_000, Relaxed);
            sleep_ms(2);
            turns.load(Relaxed)
        };
        spawn_with_priority(body, Priority::Critical)
    };
    while deadline.load(Relaxed) == 0 {
        yield_now();
    }
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let turns = turns.clone();
            spawn(move |_| _ = turns.fetch_add(1, Relaxed))
        })
        .collect();
    while counters() == asked || gvt::now_ns() < deadline.load(Relaxed) {
        std::hint::spin_loop();
    }
    safepoint!();
    let ran = critical.is_finished();
    let turns = critical.join().unwrap();
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
    ran.then_some(turns)
}

/// One worker, held by a Normal thread until the monitor has asked for it, which it does for an overdue timer
/// alone: slices last an hour. At the first safepoint after that the Critical thread runs, before the Normal
/// threads that have waited. (A monitor that the machine holds up may have asked another thread, long ago:
/// then once more.)
#[rstest]
fn a_critical_thread_runs_at_the_first_safepoint(
    #[values(PriorityQueue::default(), StrictPriorityQueue)] queue: impl Factory<Output: ReadyQueue>,
    #[values(HeapTimer, Wheel::default(), TimerFd::<Wheel>::default())] timer: impl Factory<Output: TimerBackend>,
) {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(1).queue(queue).timer(timer);
    let runtime = builder.preemptor(Cooperative).time_slice(HOUR).build().unwrap();
    for _ in 0..10 {
        let turns =
            runtime.block_on(|| (0..5).find_map(|_| first_safepoint(&|| runtime.counters().asked_to_yield)));
        assert_eq!(turns, Some(0), "turns of Normal threads before the Critical one; none: it did not run");
    }
}

/// What a log says of Critical threads: how often one was queued, and how many threads were popped before it.
fn passed_over(log: &str) -> (usize, Vec<String>) {
    let (mut queued, mut wrong) = (0, Vec::new());
    // Critical threads that are queued.
    let mut waiting: Vec<&str> = Vec::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["queue", "inject", thread, "critical"] | ["queue", "push", _, _, thread, "critical"] => {
                queued += 1;
                waiting.push(thread);
            }
            ["queue", "pop", _, "->", thread] if thread != "-" && !waiting.is_empty() => {
                match waiting.iter().position(|&other| other == thread) {
                    Some(place) => _ = waiting.remove(place),
                    None => wrong.push(format!("`{line}` while {waiting:?} waited")),
                }
            }
            _ => {}
        }
    }
    (queued, wrong)
}

/// All workers are busy with Normal threads that pass safepoints, more of them than workers. Whenever a timer
/// wakes a Critical thread, the next thread popped by whichever worker is that one: every pop of the run is
/// looked at.
#[rstest]
fn a_critical_thread_is_popped_next(
    #[values(PriorityQueue::default(), StrictPriorityQueue)] queue: impl Factory<Output: ReadyQueue>,
    #[values(HeapTimer, Wheel::default(), TimerFd::<Wheel>::default())] timer: impl Factory<Output: TimerBackend>,
    #[values(1, 2, 4)] workers: usize,
) {
    let _watchdog = Watchdog::new();
    let log = Log::default();
    let builder = Runtime::builder().workers(workers).queue(Recorded(queue, log.clone())).timer(timer);
    let runtime = builder.preemptor(Cooperative).time_slice(Duration::from_millis(1)).build().unwrap();
    let (stop, safepoints) = (AtomicBool::new(false), AtomicU64::new(0));
    runtime.block_on(|| {
        gvt::scope(|scope| {
            for _ in 0..workers * 2 {
                scope.spawn(|_| {
                    while !stop.load(Relaxed) {
                        safepoint!();
                        safepoints.fetch_add(1, Relaxed);
                    }
                });
            }
            let critical = gvt::Builder::new().priority(Priority::Critical);
            let sleeper = scope.spawn_builder(critical, |_| (0..12).for_each(|n| sleep_us(n * 30)));
            sleeper.unwrap().join().unwrap();
            stop.store(true, Relaxed);
        });
    });
    assert!(safepoints.load(Relaxed) > 0);
    drop(runtime);
    let (queued, wrong) = passed_over(&log.take());
    assert!(queued >= 12, "{queued}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// How many turns Low threads had, how many Normal ones, and the log, after `turns` Normal turns or as soon
/// as the Low threads had `enough`, while there were always more Normal threads ready than workers.
fn saturated(
    queue: impl Factory<Output: ReadyQueue>,
    workers: usize,
    turns: u64,
    enough: u64,
) -> (u64, u64, String) {
    let log = Log::default();
    let builder = Runtime::builder().workers(workers).queue(Recorded(queue, log.clone()));
    let slice = Duration::from_micros(100);
    let runtime = builder.preemptor(Cooperative).time_slice(slice).timer_interval(slice).build().unwrap();
    let (stop, normal, low) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut low_turns, mut normal_turns) = (0, 0);
    runtime.block_on(|| {
        gvt::scope(|scope| {
            // A worker's turn takes one from the queue before the last one is back in it: with twice as many
            // threads as workers and one besides, one is always queued.
            for number in 0..workers * 2 + 4 {
                let (stop, normal) = (&stop, &normal);
                scope.spawn(move |_| {
                    while !stop.load(Relaxed) {
                        // One by the monitor's request alone, the others of their own accord too.
                        safepoint!();
                        if number > 0 {
                            normal.fetch_add(1, Relaxed);
                            yield_now();
                        }
                    }
                });
            }
            for _ in 0..2 {
                let builder = gvt::Builder::new().priority(Priority::Low);
                let spawned = scope.spawn_builder(builder, |_| {
                    while !stop.load(Relaxed) {
                        low.fetch_add(1, Relaxed);
                        yield_now();
                    }
                });
                drop(spawned.unwrap());
            }
            while normal.load(Relaxed) < turns && low.load(Relaxed) < enough {
                yield_now();
            }
            (low_turns, normal_turns) = (low.load(Relaxed), normal.load(Relaxed));
            stop.store(true, Relaxed);
        });
    });
    drop(runtime);
    (low_turns, normal_turns, log.take())
}

/// Under ageing Low threads get on, each within the pops that the queue's documentation says.
#[rstest]
fn low_threads_get_on_under_ageing(#[values(1, 2, 4)] workers: usize) {
    let _watchdog = Watchdog::new();
    let (low, normal, log) = saturated(PriorityQueue::default(), workers, u64::MAX, 50);
    assert!(low >= 50 && normal > 0, "{low} turns of Low threads, {normal} of Normal ones");
    // The first in line is passed over by 93 pops of a worker; two are in line, on any of the workers.
    let (mut pops, mut most, mut lows) = (0, 0, Vec::new());
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["queue", "push", _, "spawn", thread, "low"] => lows.push(thread),
            ["queue", "pop", _, "->", thread] if thread != "-" && !lows.is_empty() => {
                pops = if lows.contains(&thread) { 0 } else { pops + 1 };
                most = most.max(pops);
            }
            _ => {}
        }
    }
    assert!(most <= 93 * workers, "no Low thread in {most} pops of {workers} workers");
}

/// Under strict order they do not while more urgent threads are ready, and do when those have ended.
#[rstest]
fn low_threads_wait_under_strict_order(#[values(1, 2, 4)] workers: usize) {
    let _watchdog = Watchdog::new();
    let (low, normal, _) = saturated(StrictPriorityQueue, workers, 2_000, u64::MAX);
    assert!(normal >= 2_000);
    assert_eq!(low, 0, "Low threads had turns beside {normal} of Normal ones");
}
