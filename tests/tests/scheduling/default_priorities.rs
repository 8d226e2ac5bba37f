//! Priorities under the default queue: the more urgent run first, and nobody starves. What is looked at is
//! the order of turns.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gvt::{Cooperative, GoQueue, HeapTimer, Priority, Runtime, spawn, spawn_with_priority, yield_now};
use gvt_conformance::process::Watchdog;
use rstest::rstest;

/// Threads of each level: few enough for the order to be exact.
const EACH: usize = 3;

/// One worker, whose queue is the default one. Slices last an hour, so that who runs goes on until it waits.
fn one_worker() -> Runtime<GoQueue, HeapTimer, Cooperative> {
    let hour = Duration::from_secs(3_600);
    Runtime::builder().workers(1).preemptor(Cooperative).time_slice(hour).build().unwrap()
}

/// Levels for `EACH` threads of each, the least urgent first.
fn least_urgent_first() -> impl Iterator<Item = Priority> {
    Priority::ALL.into_iter().rev().flat_map(|level| [level; EACH])
}

/// The levels of threads in the order in which they came to a place.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<Priority>>>);

impl Order {
    fn note(&self) {
        self.0.lock().unwrap().push(gvt::current_priority().unwrap());
    }

    #[track_caller]
    fn is_by_level(&self, count: usize) {
        let levels = self.0.lock().unwrap();
        assert_eq!(levels.len(), count);
        assert!(levels.is_sorted(), "{levels:?}");
    }
}

/// Threads that one has spawned begin by level.
#[test]
fn spawned_threads_begin_by_level() {
    let _watchdog = Watchdog::new();
    let order = Order::default();
    one_worker().block_on(|| {
        let spawn = |level| {
            let order = order.clone();
            spawn_with_priority(move |_| order.note(), level)
        };
        let threads: Vec<_> = least_urgent_first().map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    order.is_by_level(4 * EACH);
}

/// Threads that one has woken go on by level, and so do those that step back.
#[test]
fn woken_threads_go_on_by_level() {
    let _watchdog = Watchdog::new();
    let (woken, yielded) = (Order::default(), Order::default());
    one_worker().block_on(|| {
        let about_to_wait = Arc::new(AtomicUsize::new(0));
        let wait_and_yield = |level| {
            let (sender, receiver) = gvt::channel::bounded::<()>(1);
            let (woken, yielded) = (woken.clone(), yielded.clone());
            let about_to_wait = about_to_wait.clone();
            let body = move |_: &_| {
                about_to_wait.fetch_add(1, Relaxed);
                receiver.recv().unwrap();
                woken.note();
                yield_now();
                yielded.note();
            };
            (sender, spawn_with_priority(body, level))
        };
        let (senders, threads): (Vec<_>, Vec<_>) = least_urgent_first().map(wait_and_yield).unzip();
        // On the only worker who is about to wait does so before another runs.
        while about_to_wait.load(Relaxed) < 4 * EACH {
            yield_now();
        }
        senders.iter().for_each(|sender| sender.send(()).unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    woken.is_by_level(4 * EACH);
    yielded.is_by_level(4 * EACH);
}

/// Threads that an OS thread has spawned begin by level too, the urgent ones before others that the worker
/// had at hand.
#[test]
fn threads_from_outside_begin_by_level() {
    let _watchdog = Watchdog::new();
    let (order, has_begun) = (Order::default(), AtomicBool::new(false));
    let runtime = one_worker();
    let handle = runtime.handle();
    let spawned = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let outside = scope.spawn(|| {
            while !has_begun.load(Acquire) {
                std::thread::yield_now();
            }
            let spawn = |level| {
                let (builder, order) = (gvt::Builder::new().priority(level), order.clone());
                handle.spawn_builder(builder, move |_| order.note()).unwrap()
            };
            let threads: Vec<_> = least_urgent_first().map(spawn).collect();
            spawned.store(true, Release);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        runtime.block_on(|| {
            let spawn = |_| {
                let order = order.clone();
                spawn(move |_| order.note())
            };
            let at_hand: Vec<_> = (0..EACH).map(spawn).collect();
            has_begun.store(true, Release);
            while !spawned.load(Acquire) {
                std::thread::yield_now();
            }
            at_hand.into_iter().for_each(|thread| thread.join().unwrap());
        });
        outside.join().unwrap();
    });
    order.is_by_level(5 * EACH);
}

/// Beside Critical threads that are always ready all others get on, and the less urgent the more rarely.
#[rstest]
fn nobody_starves(#[values(1, 2, 4)] workers: usize, #[values(0, 1)] low_priority_workers: usize) {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(workers + low_priority_workers);
    let runtime = builder.num_low_priority_workers(low_priority_workers).build().unwrap();
    let (turns, stop) = ([const { AtomicUsize::new(0) }; 4], AtomicBool::new(false));
    let seen = runtime.block_on(|| {
        gvt::scope(|scope| {
            // One more at each level than workers take from the queues at once.
            for level in Priority::ALL.into_iter().flat_map(|level| vec![level; 2 * workers + 1]) {
                let body = |_: &_| {
                    while !stop.load(Relaxed) {
                        turns[gvt::current_priority().unwrap() as usize].fetch_add(1, Relaxed);
                        yield_now();
                    }
                };
                drop(scope.spawn_builder(gvt::Builder::new().priority(level), body).unwrap());
            }
            while turns.iter().any(|turns| turns.load(Relaxed) < 100) {
                yield_now();
            }
            stop.store(true, Relaxed);
            turns.each_ref().map(|turns| turns.load(Relaxed))
        })
    });
    assert!(seen[0] > seen[1] && seen[1] > seen[2], "turns of each level: {seen:?}");
    assert!(low_priority_workers > 0 || seen[2] > seen[3], "turns of each level: {seen:?}");
}
