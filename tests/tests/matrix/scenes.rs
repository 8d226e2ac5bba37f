//! What is tried on every stack of parts. Each scene takes some milliseconds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gvt::{
    Priority, SchedMutex, channel, safepoint, sleep, sleep_ms, sleep_us, spawn, spawn_with_priority,
    yield_now,
};
use gvt_conformance::process::{Random, becomes, sleeps_through};
use gvt_traits::{Order, Strength};

use super::stack::Stack;

const HOUR: Duration = Duration::from_secs(3_600);

/// Results come back from threads of threads, from inside and outside, by scopes too.
pub fn spawn_and_join(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    let outside: Vec<_> = (0..20_u32).map(|n| runtime.handle().spawn(move |_| n)).collect();
    runtime.block_on(Box::new(|| {
        let threads: Vec<_> = (0..100_u32)
            .map(|n| {
                spawn(move |_| {
                    let inner = spawn(move |_| n);
                    if n % 3 == 0 {
                        yield_now();
                    }
                    inner.join().unwrap()
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>(), 4_950);
        let numbers = [1, 2, 3];
        let count = AtomicUsize::new(0);
        gvt::scope(|scope| {
            for number in &numbers {
                let count = &count;
                scope.spawn(move |_| count.fetch_add(*number, Relaxed));
            }
        });
        assert_eq!(count.load(Relaxed), 6);
    }));
    assert_eq!(outside.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>(), 190);
}

/// A panic comes out of `join`, and the runtime goes on.
pub fn panics_come_out(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    runtime.block_on(Box::new(|| {
        let threads: Vec<_> = (0..20_u32)
            .map(|n| {
                spawn(move |_| {
                    sleep_us(u64::from(n) * 20);
                    if n % 4 == 0 {
                        std::panic::resume_unwind(Box::new(n));
                    }
                    n
                })
            })
            .collect();
        for (n, thread) in (0_u32..).zip(threads) {
            match thread.join() {
                Ok(value) => assert!(value == n && n % 4 != 0),
                Err(payload) => assert!(payload.downcast_ref() == Some(&n) && n % 4 == 0),
            }
        }
    }));
}

/// Sleeps of any length up to some milliseconds, from several workers at once.
pub fn sleeps_are_never_short(stack: &dyn Stack) {
    let random = Random::from_environment("sleeps_are_never_short");
    let runtime = stack.runtime(2);
    runtime.block_on(Box::new(|| {
        let threads: Vec<_> = (0..100)
            .map(|index| {
                let mut random = random.part(index);
                spawn(move |_| {
                    for _ in 0..3 {
                        let duration = Duration::from_nanos(random.below(4_000_000));
                        let begin = Instant::now();
                        sleep(duration);
                        assert!(begin.elapsed() >= duration, "{:?} < {duration:?}", begin.elapsed());
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }));
}

/// Sleepers wake in the order of their deadlines, not of their going to sleep. A machine that stands still
/// for longer than lies between two deadlines may have both wake at once, in any order: hence some attempts.
pub fn sleeps_end_in_order(stack: &dyn Stack) {
    let runtime = stack.runtime(1);
    runtime.block_on(Box::new(|| {
        let attempt = || {
            let order = Arc::new(Mutex::new(Vec::new()));
            let threads: Vec<_> = [9_u64, 3, 15, 6]
                .into_iter()
                .map(|ms| {
                    let order = order.clone();
                    spawn(move |_| {
                        sleep_ms(ms);
                        order.lock().unwrap().push(ms);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let order = order.lock().unwrap();
            assert_eq!(order.len(), 4);
            order.is_sorted()
        };
        assert!((0..50).any(|_| attempt()), "never in the order of the deadlines");
    }));
}

/// Every message arrives once, whatever the capacity; a deadline ends a wait for none.
pub fn channels(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    runtime.block_on(Box::new(|| {
        for capacity in [0, 1, 64] {
            let (to, from) = channel(capacity);
            let senders: Vec<_> = (0..4_u64)
                .map(|sender| {
                    let to = to.clone();
                    spawn(move |_| (0..100).for_each(|n| to.send(sender * 100 + n).unwrap()))
                })
                .collect();
            drop(to);
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    let from = from.clone();
                    spawn(move |_| from.iter().collect::<Vec<_>>())
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            let mut all: Vec<_> =
                receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..400), "capacity {capacity}");
        }
        let (to, from) = channel::<()>(1);
        assert!(from.recv_timeout(Duration::from_millis(2)).is_err());
        let late = spawn(move |_| {
            sleep_ms(2);
            to.send(()).unwrap();
        });
        assert!(from.recv_timeout(HOUR).is_ok());
        late.join().unwrap();
    }));
}

/// Threads that hold a mutex over yields and sleeps.
pub fn contended_mutex(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    let mutex = SchedMutex::new(0_usize);
    runtime.block_on(Box::new(|| {
        gvt::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|_| {
                    for n in 0..60 {
                        let mut guard = mutex.lock();
                        let seen = *guard;
                        match n % 20 {
                            0 => sleep_us(10),
                            1..8 => yield_now(),
                            _ => {}
                        }
                        *guard = seen + 1;
                    }
                });
            }
        });
    }));
    assert_eq!(*mutex.lock(), 720);
}

/// A token reaches descendants, running or asleep.
pub fn cancellation(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    runtime.block_on(Box::new(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let family = {
            let started = started.clone();
            spawn(move |token| {
                let children: Vec<_> = (0..10)
                    .map(|n| {
                        let started = started.clone();
                        spawn(move |token| {
                            started.fetch_add(1, SeqCst);
                            while !token.is_cancelled() {
                                if n % 2 == 0 { yield_now() } else { sleep_us(50) }
                            }
                            n
                        })
                    })
                    .collect();
                let sum: u32 = children.into_iter().map(|child| child.join().unwrap()).sum();
                (sum, token.is_cancelled())
            })
        };
        while started.load(SeqCst) < 10 {
            sleep_us(100);
        }
        assert!(!family.token().is_cancelled() && !family.is_finished());
        family.token().cancel();
        assert_eq!(family.join().unwrap(), (45, true));
        assert!(!gvt::current_token().unwrap().is_cancelled());
    }));
}

/// One worker, threads of all levels spawned in the wrong order: they run as the queue promises.
pub fn urgent_threads_first(stack: &dyn Stack) {
    // So that the spawner is not interrupted half-way.
    let runtime = stack.with(&|builder| builder.workers(1).time_slice(HOUR));
    let order = Mutex::new(Vec::new());
    runtime.block_on(Box::new(|| {
        let order = &order;
        gvt::scope(|scope| {
            for n in 0..40 {
                let priority = Priority::ALL[3 - n / 10];
                let builder = gvt::Builder::new().priority(priority);
                let spawned = scope.spawn_builder(builder, move |_| {
                    assert_eq!(gvt::current_priority(), Some(priority));
                    order.lock().unwrap().push(priority);
                });
                drop(spawned.unwrap());
            }
        });
    }));
    let order = order.into_inner().unwrap();
    assert_eq!(order.len(), 40);
    // Ten a level, so that sums compare as means do.
    let places_of = |level| {
        let places =
            order.iter().enumerate().filter(|(_, priority)| **priority == level).map(|(place, _)| place);
        places.sum::<usize>()
    };
    match stack.order() {
        Order::StrictPriority => assert!(order.is_sorted(), "{order:?}"),
        Order::AgeingPriority | Order::FairByLevel => {
            let sums = Priority::ALL.map(places_of);
            assert!(sums.is_sorted(), "{sums:?} of {order:?}");
            assert_eq!(order[0], Priority::Critical);
        }
        _ => {}
    }
}

/// A worker that is kept for Low threads runs no others, and the others run Low threads too.
pub fn low_priority_workers(stack: &dyn Stack) {
    let runtime = stack.with(&|builder| builder.workers(2).num_low_priority_workers(1));
    runtime.block_on(Box::new(|| {
        let threads: Vec<_> = (0..40_usize)
            .map(|n| {
                let priority = if n % 2 == 0 { Priority::Low } else { Priority::Normal };
                let body = move |_: &_| {
                    for step in 0..5_u64 {
                        let worker = gvt::current_worker();
                        assert!(priority == Priority::Low || worker == Some(0), "Normal on {worker:?}");
                        if step % 2 == 0 { yield_now() } else { sleep_us(20 * step) }
                    }
                };
                spawn_with_priority(body, priority)
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }));
}

/// A thread does not keep its worker: as far as the preemptor can help it.
pub fn turns_end(stack: &dyn Stack) {
    let slice = Duration::from_millis(1);
    let runtime =
        stack.with(&|builder| builder.workers(1).time_slice(slice).grace_period(Duration::from_micros(200)));
    let strength = stack.strength();
    runtime.block_on(Box::new(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let spinner = spawn(move |_| {
            while !seen.load(Relaxed) {
                match strength {
                    Strength::Anywhere => std::hint::spin_loop(),
                    Strength::AtSafepoints => safepoint!(),
                    Strength::Never => yield_now(),
                }
            }
        });
        let other = spawn(move |_| stop.store(true, Relaxed));
        other.join().unwrap();
        spinner.join().unwrap();
    }));
}

/// A blocking call leaves the worker to others.
pub fn blocking_calls(stack: &dyn Stack) {
    let runtime = stack.runtime(1);
    runtime.block_on(Box::new(|| {
        let (to, from) = std::sync::mpsc::channel();
        let blocked = spawn(move |_| gvt::blocking(|| from.recv().unwrap()));
        sleep_us(200);
        to.send(7).unwrap();
        assert_eq!(blocked.join().unwrap(), 7);
    }));
}

/// Threads that sleep for an hour, wait for a message, or have not run are ended by a shutdown; their
/// destructors run.
pub fn shutdown_with_sleepers(stack: &dyn Stack) {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let runtime = stack.runtime(2);
    let (to, from) = channel::<()>(1);
    let parked = Arc::new(AtomicUsize::new(0));
    for n in 0..60 {
        let (counts, parked, from) = (Counts(drops.clone()), parked.clone(), from.clone());
        drop(runtime.handle().spawn(move |_| {
            let _counts = counts;
            parked.fetch_add(1, SeqCst);
            match n % 3 {
                0 => sleep(HOUR),
                1 => sleep(Duration::MAX),
                _ => drop(from.recv()),
            }
        }));
    }
    assert!(becomes(|| parked.load(SeqCst) == 60));
    assert!(runtime.shutdown(), "sleepers of an hour were waited for");
    assert_eq!(drops.load(SeqCst), 60);
    drop(to);
}

/// With threads asleep for an hour no OS thread of the runtime wakes.
pub fn idle_means_idle(stack: &dyn Stack) {
    let runtime = stack.runtime(2);
    let parked = Arc::new(AtomicUsize::new(0));
    for n in 0..20 {
        let parked = parked.clone();
        drop(runtime.handle().spawn(move |_| {
            sleep_us(n * 10);
            parked.fetch_add(1, SeqCst);
            sleep(HOUR);
        }));
    }
    assert!(becomes(|| parked.load(SeqCst) == 20));
    // The workers and the monitor.
    let (slept, sleeps) = sleeps_through("gvt", 3, Duration::from_millis(150));
    assert!(slept, "something wakes again and again: {sleeps:?}");
    assert!(runtime.shutdown());
}
