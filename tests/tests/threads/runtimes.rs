//! Several runtimes in one process, and threads that reach from one into another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gvt::{GoQueue, Handle, Runtime, SchedError, SchedMutex, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Watchdog, becomes};
use gvt_traits::{Factory, Metadata, Order, Plan, PushFence, PushKind, ReadyQueue, Runnable, WorkerId};

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[test]
fn eight_at_default_settings() {
    let _watchdog = Watchdog::new();
    let runtimes: Vec<_> = (0..8).map(|_| Runtime::new(SchedulerConfig::default())).collect();
    let handles: Vec<_> = runtimes
        .iter()
        .enumerate()
        .map(|(n, runtime)| {
            runtime.handle().spawn(move |_| {
                let inner: Vec<_> = (0..100).map(|m| spawn(move |_| n * m)).collect();
                inner.into_iter().map(|handle| handle.join().unwrap()).sum::<usize>()
            })
        })
        .collect();
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.join().unwrap(), n * 4_950);
    }
}

#[test]
fn shared_and_moved() {
    let _watchdog = Watchdog::new();
    let runtime = Arc::new(runtime(2));
    let users: Vec<_> = (0..4)
        .map(|n| {
            let runtime = runtime.clone();
            std::thread::spawn(move || runtime.block_on(|| spawn(move |_| n).join().unwrap()))
        })
        .collect();
    let sum: i32 = users.into_iter().map(|user| user.join().unwrap()).sum();
    assert_eq!(sum, 6);
    let runtime = Arc::into_inner(runtime).unwrap();
    std::thread::spawn(move || drop(runtime)).join().unwrap();
}

/// Spawning through a handle while the runtime goes: accepted and run, or refused; never lost.
#[test]
fn handles_against_drop() {
    let _watchdog = Watchdog::new();
    for round in 0..60 {
        let runtime = runtime(1 + round % 3);
        let (ran, accepted, refused) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let users: Vec<_> = (0..3)
            .map(|_| {
                let handle: Handle = runtime.handle();
                let (ran, accepted, refused) = (ran.clone(), accepted.clone(), refused.clone());
                std::thread::spawn(move || {
                    loop {
                        let ran = ran.clone();
                        match handle.try_spawn(move |_| ran.fetch_add(1, SeqCst)) {
                            Ok(_) => accepted.fetch_add(1, SeqCst),
                            Err(error) => {
                                assert_eq!(error, SchedError::ShutDown);
                                refused.fetch_add(1, SeqCst);
                                return;
                            }
                        };
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_micros(round as u64 * 10));
        if round % 2 == 0 {
            drop(runtime)
        } else {
            runtime.shutdown()
        }
        let counted = ran.load(SeqCst);
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(counted, accepted.load(SeqCst), "accepted but not run when the runtime was gone");
        assert_eq!(refused.load(SeqCst), 3);
    }
}

#[test]
fn green_threads_join_across_runtimes() {
    let _watchdog = Watchdog::new();
    let (left, right) = (runtime(2), runtime(2));
    let (to_left, to_right) = (left.handle(), right.handle());
    let total = left.block_on(|| {
        let threads: Vec<_> = (0..200_usize)
            .map(|n| {
                let to_left = to_left.clone();
                to_right.spawn(move |_| {
                    let back = to_left.spawn(move |_| {
                        gvt::sleep_us(n as u64);
                        n
                    });
                    yield_now();
                    back.join().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(total, 199 * 200 / 2);
}

#[test]
fn a_mutex_across_runtimes_that_come_and_go() {
    let _watchdog = Watchdog::new();
    let mutex = Arc::new(SchedMutex::new(0_usize));
    let lasting = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let held = {
        let (mutex, stop, rounds) = (mutex.clone(), stop.clone(), rounds.clone());
        lasting.handle().spawn(move |_| {
            while !stop.load(SeqCst) {
                let guard = mutex.lock();
                gvt::sleep_us(20);
                drop(guard);
                rounds.fetch_add(1, SeqCst);
                yield_now();
            }
        })
    };
    assert!(becomes(|| rounds.load(SeqCst) > 0));
    for _ in 0..100 {
        let mortal = runtime(2);
        for _ in 0..5 {
            let mutex = mutex.clone();
            mortal.handle().spawn(move |_| *mutex.lock() += 1);
        }
    }
    stop.store(true, SeqCst);
    held.join().unwrap();
    assert_eq!(*mutex.lock(), 500);
}

/// A `GoQueue` into which threads from outside come so slowly that a runtime may end meanwhile, and
/// that notices if it is dropped with somebody inside.
#[derive(Clone, Default)]
struct SlowInject(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    now: usize,
    dropped_with_somebody_inside: bool,
}

struct SlowInjectQueue {
    queue: <GoQueue as Factory>::Output,
    inside: Arc<Mutex<Inside>>,
}

impl Factory for SlowInject {
    type Output = SlowInjectQueue;
    fn build(&self, plan: &Plan) -> Result<SlowInjectQueue, SchedError> {
        Ok(SlowInjectQueue { queue: GoQueue.build(plan)?, inside: self.0.clone() })
    }
}

impl Drop for SlowInjectQueue {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap();
        inside.dropped_with_somebody_inside |= inside.now > 0;
    }
}

impl ReadyQueue for SlowInjectQueue {
    type Local = <<GoQueue as Factory>::Output as ReadyQueue>::Local;
    const ORDER: Order = Order::Fair;
    const PUSH_FENCE: PushFence = PushFence::ByRuntime;
    fn local(&self, worker: WorkerId) -> Self::Local {
        self.queue.local(worker)
    }
    fn inject(&self, task: Runnable) {
        let inside = self.inside.clone();
        inside.lock().unwrap().now += 1;
        self.queue.inject(task);
        std::thread::sleep(Duration::from_millis(20));
        inside.lock().unwrap().now -= 1;
    }
    fn push(&self, local: &mut Self::Local, task: Runnable, kind: PushKind) {
        self.queue.push(local, task, kind)
    }
    fn pop(&self, local: &mut Self::Local) -> Option<Runnable> {
        self.queue.pop(local)
    }
    fn has_work(&self, local: &Self::Local) -> bool {
        self.queue.has_work(local)
    }
    fn upcoming(&self, local: &Self::Local, distance: usize) -> Option<std::ptr::NonNull<Metadata>> {
        self.queue.upcoming(local, distance)
    }
    fn len_hint(&self) -> usize {
        self.queue.len_hint()
    }
}

/// How a thread of one runtime wakes one of another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bond {
    Join,
    Mutex,
    /// An OS thread unlocks.
    MutexOutside,
    Scope,
}

/// Whoever wakes a thread of another runtime may still be about it when that thread has run on, ended,
/// and its runtime is gone.
fn wakes_across(bond: Bond) {
    let _watchdog = Watchdog::new();
    let other = runtime(2);
    for _ in 0..10 {
        let inside = SlowInject::default();
        let mortal = Runtime::builder().workers(2).queue(inside.clone()).build().unwrap();
        let to_other = other.handle();
        let mutex = Arc::new(SchedMutex::new(()));
        // Keeps a worker looking, so that who is queued is found before the waker has woken a worker.
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        mortal.handle().spawn(move |_| {
            while !stopped.load(SeqCst) {
                yield_now();
            }
        });
        match bond {
            Bond::Join => mortal.block_on(|| to_other.spawn(|_| gvt::sleep_ms(30)).join().unwrap()),
            Bond::Mutex => {
                let locked = Arc::new(AtomicBool::new(false));
                let (in_other, seen) = (mutex.clone(), locked.clone());
                to_other.spawn(move |_| {
                    let _guard = in_other.lock();
                    seen.store(true, SeqCst);
                    gvt::sleep_ms(40);
                });
                while !locked.load(SeqCst) {
                    std::thread::yield_now();
                }
                mortal.block_on(|| drop(mutex.lock()));
            }
            Bond::MutexOutside => {
                let (locked, outside) = (Arc::new(AtomicBool::new(false)), mutex.clone());
                let seen = locked.clone();
                std::thread::spawn(move || {
                    let _guard = outside.lock();
                    seen.store(true, SeqCst);
                    std::thread::sleep(Duration::from_millis(40));
                });
                while !locked.load(SeqCst) {
                    std::thread::yield_now();
                }
                mortal.block_on(|| drop(mutex.lock()));
            }
            Bond::Scope => mortal.block_on(|| {
                gvt::scope(|s| {
                    std::thread::scope(|os| {
                        // An OS thread takes the scope to the other runtime.
                        os.spawn(|| other.block_on(|| drop(s.spawn(|_| gvt::sleep_ms(30)))));
                    });
                });
            }),
        }
        stop.store(true, SeqCst);
        drop(mortal);
        // Whoever is inside the queue gets out in the end.
        std::thread::sleep(Duration::from_millis(25));
        assert!(!inside.0.lock().unwrap().dropped_with_somebody_inside, "{bond:?}");
    }
}

#[test]
fn wakes_across_runtimes_by_join() {
    wakes_across(Bond::Join);
}

#[test]
fn wakes_across_runtimes_by_mutex() {
    wakes_across(Bond::Mutex);
}

#[test]
fn wakes_across_runtimes_by_mutex_from_outside() {
    wakes_across(Bond::MutexOutside);
}

#[test]
fn wakes_across_runtimes_by_scope() {
    wakes_across(Bond::Scope);
}

/// A runtime that goes as soon as it has come: its OS threads may not even have started.
#[test]
fn built_and_dropped_at_once() {
    let _watchdog = Watchdog::new();
    for round in 0..400 {
        let runtime = runtime(1 + round % 4);
        match round % 3 {
            0 => {}
            1 => drop(runtime.handle().spawn(|_| ())),
            _ => runtime.block_on(|| ()),
        }
    }
}
