//! Threads move between workers and OS threads: work spreads, and what a thread has moves with it.

use std::collections::{HashSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Builder, Priority, Runtime, SchedMutex, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Random, Watchdog};
use gvt_traits::{Factory, Order, Plan, PushKind, ReadyQueue, Runnable, SchedError, WorkerId};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

fn compute(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        black_box((0..100).sum::<u64>());
    }
}

/// Whether `happens` within some seconds; asked by a green thread.
fn happens(mut happens: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if happens() {
            return true;
        }
    }
    false
}

/// A thread that yields among others is seen on several workers and OS threads, and says so correctly.
#[rstest]
fn a_thread_moves(#[values(2, 4)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..workers * 3)
            .map(|_| {
                let stop = stop.clone();
                spawn(move |_| {
                    while !stop.load(Relaxed) {
                        compute(Duration::from_micros(20));
                        yield_now();
                    }
                })
            })
            .collect();
        let (mut places, mut os_threads) = (HashSet::new(), HashSet::new());
        let id = gvt::current_id();
        let moved = happens(|| {
            gvt::sleep_us(20);
            places.insert(gvt::current_worker().unwrap());
            os_threads.insert(std::thread::current().id());
            assert_eq!(gvt::current_id(), id);
            places.len() == workers && os_threads.len() >= workers
        });
        stop.store(true, Relaxed);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(moved, "seen on {places:?} of {workers} workers only");
    });
}

/// Locals, floating-point values and vectors come through any number of moves.
#[rstest]
fn state_moves_along(#[values(2, 8)] workers: usize) {
    let _watchdog = Watchdog::new();
    let random = Random::from_environment("state_moves_along");
    runtime(workers).block_on(|| {
        let handles: Vec<_> = (0..100)
            .map(|index| {
                let mut random = random.part(index);
                spawn(move |_| {
                    let (mut sum, mut float, mut bytes) = (0_u64, 1.0_f64, [index as u8; 300]);
                    let mut expected = (0_u64, 1.0_f64);
                    for _ in 0..100 {
                        let number = random.next();
                        sum = sum.wrapping_add(number);
                        float = (float + number as f64).sqrt();
                        match number % 4 {
                            0 => gvt::sleep_us(number % 30),
                            _ => yield_now(),
                        }
                        expected = (expected.0.wrapping_add(number), (expected.1 + number as f64).sqrt());
                        assert_eq!((sum, float), expected);
                        assert!(black_box(&mut bytes).iter().all(|&byte| byte == index as u8));
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// A thread-local belongs to the OS thread: whoever reads it after a move reads the new one's.
#[test]
fn thread_locals_are_the_os_threads() {
    thread_local! {
        static OWNER: std::thread::ThreadId = std::thread::current().id();
    }
    #[inline(never)]
    fn owner() -> std::thread::ThreadId {
        OWNER.with(|owner| *owner)
    }
    #[inline(never)]
    fn here() -> std::thread::ThreadId {
        std::thread::current().id()
    }
    let _watchdog = Watchdog::new();
    // Not preempted between the two looks.
    let config = SchedulerConfig::default().num_workers(4).enable_forced_preempt(false);
    Runtime::new(config).block_on(|| {
        let handles: Vec<_> = (0..50)
            .map(|_| {
                spawn(|_| {
                    for n in 0..200 {
                        assert_eq!(owner(), here());
                        if n % 10 == 0 { gvt::sleep_us(10) } else { yield_now() }
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// Two that overlap are on two workers: notes whether it saw another at work.
struct Overlap {
    at_work: AtomicUsize,
    seen: AtomicBool,
}

impl Overlap {
    fn new() -> Arc<Self> {
        Arc::new(Overlap { at_work: AtomicUsize::new(0), seen: AtomicBool::new(false) })
    }

    fn work(&self) {
        self.at_work.fetch_add(1, SeqCst);
        compute(Duration::from_micros(100));
        if self.at_work.fetch_sub(1, SeqCst) > 1 {
            self.seen.store(true, SeqCst);
        }
    }

    fn work_until_seen(&self) -> bool {
        happens(|| {
            self.work();
            yield_now();
            self.seen.load(SeqCst)
        })
    }
}

/// Threads that are spawned spread over idle workers.
#[test]
fn spawned_threads_spread() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        let overlap = Overlap::new();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let overlap = overlap.clone();
                spawn(move |_| overlap.work_until_seen())
            })
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap(), "two busy threads share one worker, the other idles");
        }
    });
}

/// So do threads that are woken by one that goes on, however often it yields.
#[test]
fn woken_threads_spread() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        for _ in 0..5 {
            let (overlap, mutex) = (Overlap::new(), Arc::new(SchedMutex::new(())));
            let guard = mutex.lock();
            let woken = {
                let (overlap, mutex) = (overlap.clone(), mutex.clone());
                spawn(move |_| {
                    drop(mutex.lock());
                    overlap.work_until_seen()
                })
            };
            // It waits, and the other worker goes to sleep.
            gvt::sleep_ms(3);
            drop(guard);
            assert!(overlap.work_until_seen(), "two busy threads share one worker, the other idles");
            assert!(woken.join().unwrap());
        }
    });
}

/// Work of one worker's queue is taken over by the others.
#[rstest]
fn a_burst_spreads(#[values(2, 4)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let mut all = HashSet::new();
        let spread = happens(|| {
            let threads: Vec<_> = (0..200)
                .map(|_| {
                    spawn(|_| {
                        compute(Duration::from_micros(30));
                        gvt::current_worker().unwrap()
                    })
                })
                .collect();
            all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
            all.len() == workers
        });
        assert!(spread, "only {all:?} of {workers} workers took part");
    });
}

/// Workers for Low threads beside others: everybody's work is done, whoever sleeps.
#[rstest]
#[case::one_and_one(2, 1)]
#[case::two_and_one(3, 1)]
#[case::two_and_two(4, 2)]
#[case::one_and_seven(8, 7)]
fn low_priority_workers(#[case] workers: usize, #[case] low: usize) {
    let _watchdog = Watchdog::new();
    let random = Random::from_environment("low_priority_workers");
    let config = SchedulerConfig::default().num_workers(workers).num_low_priority_workers(low);
    let runtime = Runtime::new(config);
    let normal_on_low = Arc::new(AtomicUsize::new(0));
    for round in 0..300 {
        let mut random = random.part(round);
        runtime.block_on(|| {
            let threads: Vec<_> = (0..random.below(12) + 1)
                .map(|_| {
                    let priority = Priority::ALL[random.below(4) as usize];
                    let (sleep, misplaced) = (random.below(60), normal_on_low.clone());
                    let body = move |_: &gvt::CancellationToken| {
                        for _ in 0..3 {
                            gvt::sleep_us(sleep);
                            yield_now();
                            let on_low = gvt::current_worker().unwrap() >= workers - low;
                            misplaced.fetch_add(usize::from(on_low && priority != Priority::Low), Relaxed);
                        }
                    };
                    Builder::new().priority(priority).spawn(body).unwrap()
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
    drop(runtime);
    assert_eq!(normal_on_low.load(Relaxed), 0);
}

/// A thread that computes without an end gives way to whoever waits for its worker, however that came to be
/// queued.
#[rstest]
fn somebody_waits_for_the_worker(
    #[values(1, 2)] workers: usize,
    #[values("spawned", "woken", "yielded", "from outside")] how: &str,
) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    for _ in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = |stop: &Arc<AtomicBool>| {
            let stop = stop.clone();
            move |_: &gvt::CancellationToken| stop.store(true, SeqCst)
        };
        let spin = |stop: &AtomicBool| {
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        };
        // The other workers are taken.
        let taken: Vec<_> = (1..workers)
            .map(|_| {
                let stop = stop.clone();
                runtime.handle().spawn(move |_| spin(&stop))
            })
            .collect();
        let from_outside = (how == "from outside").then(|| {
            let (handle, stop) = (runtime.handle(), stops(&stop));
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                handle.spawn(stop)
            })
        });
        runtime.block_on(|| match how {
            "spawned" => {
                drop(spawn(stops(&stop)));
                spin(&stop);
            }
            "woken" => {
                let mutex = Arc::new(SchedMutex::new(()));
                let guard = mutex.lock();
                let (waits, stops) = (mutex.clone(), stops(&stop));
                let waiting = Arc::new(AtomicBool::new(false));
                let seen = waiting.clone();
                drop(spawn(move |token| {
                    seen.store(true, SeqCst);
                    drop(waits.lock());
                    stops(token);
                }));
                while !waiting.load(SeqCst) {
                    gvt::sleep_us(100);
                }
                gvt::sleep_ms(1);
                drop(guard);
                spin(&stop);
            }
            "yielded" => {
                let stops = stops(&stop);
                drop(spawn(move |token| {
                    (0..100).for_each(|_| yield_now());
                    stops(token);
                }));
                (0..20).for_each(|_| yield_now());
                spin(&stop);
            }
            _ => spin(&stop),
        });
        taken.into_iter().for_each(|thread| thread.join().unwrap());
        if let Some(from_outside) = from_outside {
            from_outside.join().unwrap().join().unwrap();
        }
    }
}

/// The queue of `ReadyQueue`'s documentation: first in, first out, and not a method more than it must have.
#[derive(Clone, Default)]
struct Bare;

#[derive(Default)]
struct Fifo(std::sync::Mutex<VecDeque<Runnable>>);

impl Factory for Bare {
    type Output = Fifo;
    fn build(&self, _plan: &Plan) -> Result<Fifo, SchedError> {
        Ok(Fifo::default())
    }
}

impl ReadyQueue for Fifo {
    type Local = ();
    const ORDER: Order = Order::Fair;
    fn local(&self, _worker: WorkerId) {}
    fn inject(&self, task: Runnable) {
        self.0.lock().unwrap().push_back(task)
    }
    fn push(&self, _local: &mut (), task: Runnable, _kind: PushKind) {
        self.inject(task)
    }
    fn pop(&self, _local: &mut ()) -> Option<Runnable> {
        self.0.lock().unwrap().pop_front()
    }
    fn has_work(&self, _local: &()) -> bool {
        !self.0.lock().unwrap().is_empty()
    }
    fn len_hint(&self) -> usize {
        self.0.try_lock().map_or(1, |list| list.len())
    }
}

/// With a queue that has the required methods alone, an idle worker comes to hear of what waits.
#[test]
fn a_bare_queue() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(2).queue(Bare).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..5 {
            let (stop, mutex) = (Arc::new(AtomicBool::new(false)), Arc::new(SchedMutex::new(())));
            let guard = mutex.lock();
            let woken = {
                let (stop, mutex) = (stop.clone(), mutex.clone());
                spawn(move |_| {
                    drop(mutex.lock());
                    stop.store(true, SeqCst);
                })
            };
            gvt::sleep_ms(2);
            drop(guard);
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
            woken.join().unwrap();
        }
        let threads: Vec<_> = (0..200).map(|n| spawn(move |_| gvt::sleep_us(n))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
