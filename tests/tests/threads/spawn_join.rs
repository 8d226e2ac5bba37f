//! Spawning and joining: results of every shape come out whole, and everything is dropped once.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::{
    Builder, CancellationToken, NoPreempt, Priority, Runtime, SchedError, SchedulerConfig, spawn, yield_now,
};
use gvt_conformance::process::Watchdog;
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

/// Counts its drops, and takes `N` bytes with it.
struct Counted<const N: usize> {
    drops: Arc<AtomicUsize>,
    _ballast: [u8; N],
}

impl<const N: usize> Counted<N> {
    fn new(drops: &Arc<AtomicUsize>) -> Self {
        Counted { drops: drops.clone(), _ballast: [7; N] }
    }
}

impl<const N: usize> Drop for Counted<N> {
    fn drop(&mut self) {
        self.drops.fetch_add(1, SeqCst);
    }
}

#[repr(align(64))]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Aligned64([u8; 64]);

#[repr(align(4096))]
#[derive(Clone, Copy, PartialEq, Debug)]
struct AlignedPage(u8);

fn there_and_back<T: Copy + PartialEq + std::fmt::Debug + Send + 'static>(value: T) {
    let check = move |place: &T| {
        assert_eq!(*place, value);
        assert_eq!(std::ptr::from_ref(place).addr() % align_of::<T>(), 0, "misaligned");
    };
    let handle = spawn(move |_| {
        check(&value);
        value
    });
    check(&handle.join().unwrap());
}

#[rstest]
fn values_of_every_shape(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        there_and_back(());
        there_and_back(7_u8);
        there_and_back([1_u64; 7]);
        there_and_back([2_u64; 8]);
        there_and_back([3_u64; 9]);
        there_and_back([4_u8; 63]);
        there_and_back([5_u8; 65]);
        there_and_back([6_u64; 4_000]);
        there_and_back(u128::MAX / 3);
        there_and_back(Aligned64([8; 64]));
        there_and_back(AlignedPage(9));
        let text = String::from("owned");
        assert_eq!(spawn(move |_| text + " text").join().unwrap(), "owned text");
        let boxed: Box<dyn Fn(u32) -> u32 + Send> = Box::new(|n| n + 1);
        assert_eq!(spawn(move |_| boxed).join().unwrap()(41), 42);
        let nothing: Vec<u64> = spawn(|_| Vec::new()).join().unwrap();
        assert!(nothing.is_empty());
    });
}

/// What becomes of a thread's handle.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Joined,
    DroppedAtOnce,
    DroppedAfterTheEnd,
    DroppedOutside,
    Panicked,
    PanickedAndDropped,
}

fn drops_once<const CLOSURE: usize, const RESULT: usize>(workers: usize, fate: Fate) {
    const ROUNDS: usize = 50;
    let closures = Arc::new(AtomicUsize::new(0));
    let results = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(workers);
    for _ in 0..ROUNDS {
        let outside = runtime.block_on(|| {
            let captured = Counted::<CLOSURE>::new(&closures);
            let results = results.clone();
            let handle = spawn(move |_| {
                let _captured = captured;
                let result = Counted::<RESULT>::new(&results);
                if matches!(fate, Fate::Panicked | Fate::PanickedAndDropped) {
                    std::panic::resume_unwind(Box::new(result));
                }
                result
            });
            match fate {
                Fate::Joined => assert!(handle.join().is_ok()),
                Fate::Panicked => assert!(handle.join().is_err_and(|p| p.is::<Counted<RESULT>>())),
                Fate::DroppedAtOnce | Fate::PanickedAndDropped => drop(handle),
                Fate::DroppedAfterTheEnd => {
                    while !handle.is_finished() {
                        yield_now();
                    }
                    drop(handle);
                }
                Fate::DroppedOutside => return Some(handle),
            }
            None
        });
        drop(outside);
    }
    drop(runtime);
    assert_eq!(closures.load(SeqCst), ROUNDS, "closures dropped, {fate:?}");
    assert_eq!(results.load(SeqCst), ROUNDS, "results dropped, {fate:?}");
}

#[rstest]
fn everything_is_dropped_once(
    #[values(1, 2)] workers: usize,
    #[values(
        Fate::Joined,
        Fate::DroppedAtOnce,
        Fate::DroppedAfterTheEnd,
        Fate::DroppedOutside,
        Fate::Panicked,
        Fate::PanickedAndDropped
    )]
    fate: Fate,
) {
    let _watchdog = Watchdog::new();
    drops_once::<0, 0>(workers, fate);
    drops_once::<0, 500>(workers, fate);
    drops_once::<500, 0>(workers, fate);
    drops_once::<500, 500>(workers, fate);
}

#[test]
fn what_is_refused_is_dropped_once() {
    let _watchdog = Watchdog::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(1).max_gvthreads(1));
    let handle = runtime.handle();
    runtime.block_on(|| {
        let captured = Counted::<0>::new(&drops);
        assert_eq!(
            gvt::try_spawn(move |_| drop(captured)).unwrap_err(),
            SchedError::TooManyThreads { limit: 1 }
        );
        assert_eq!(drops.load(SeqCst), 1);
        let captured = Counted::<900>::new(&drops);
        assert!(handle.try_spawn(move |_| drop(captured)).is_err());
        assert_eq!(drops.load(SeqCst), 2);
    });
    drop(runtime);
    let captured = Counted::<0>::new(&drops);
    assert_eq!(handle.try_spawn(move |_| drop(captured)).unwrap_err(), SchedError::ShutDown);
    assert_eq!(drops.load(SeqCst), 3);
    let captured = Counted::<0>::new(&drops);
    assert!(gvt::try_spawn(move |_| drop(captured)).is_err());
    assert_eq!(drops.load(SeqCst), 4);
}

/// The destructor of a refused closure is user code like any other: it may wait.
#[test]
fn a_refused_closure_may_wait_in_its_destructor() {
    struct Waits(gvt::Handle);
    impl Drop for Waits {
        fn drop(&mut self) {
            for _ in 0..10 {
                gvt::sleep_us(100);
                yield_now();
            }
            // The gate that the refusal came through is open again.
            let _ = self.0.try_spawn(|_| ());
        }
    }
    let _watchdog = Watchdog::new();
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(2).max_gvthreads(3));
    let handle = runtime.handle();
    for _ in 0..20 {
        runtime.block_on(|| {
            let (started, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let (handle, started, done) = (handle.clone(), started.clone(), done.clone());
                    spawn(move |_| {
                        started.fetch_add(1, SeqCst);
                        while started.load(SeqCst) < 2 {
                            yield_now();
                        }
                        let waits = Waits(handle.clone());
                        assert!(gvt::try_spawn(move |_| drop(waits)).is_err());
                        let waits = Waits(handle.clone());
                        assert!(handle.try_spawn(move |_| drop(waits)).is_err());
                        // Nobody ends, and makes room, before both have been refused.
                        done.fetch_add(1, SeqCst);
                        while done.load(SeqCst) < 2 {
                            yield_now();
                        }
                    })
                })
                .collect();
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
    // The destructor of what a closed runtime refuses may do the same.
    drop(runtime);
    let waits = Waits(handle.clone());
    assert!(handle.try_spawn(move |_| drop(waits)).is_err());
}

#[test]
fn a_refused_closure_may_panic_in_its_destructor() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in the destructor"));
        }
    }
    let _watchdog = Watchdog::new();
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(1).max_gvthreads(1));
    for _ in 0..10 {
        runtime.block_on(|| {
            let panics = Panics;
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                gvt::try_spawn(move |_| drop(panics)).map(drop)
            }));
            assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"in the destructor"));
            yield_now();
        });
    }
}

#[test]
fn panics_come_out_of_join() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        let text = |payload: Box<dyn Any + Send>| payload.downcast_ref::<String>().cloned();
        let payload = spawn(|_| -> u8 { panic!("number {}", std::hint::black_box(7)) }).join().unwrap_err();
        assert_eq!(text(payload).as_deref(), Some("number 7"));
        let payload = spawn(|_| panic!("literal")).join().unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"literal"));
        let payload = spawn(|_| std::panic::panic_any(vec![1, 2, 3])).join().unwrap_err();
        assert_eq!(payload.downcast_ref::<Vec<i32>>().unwrap(), &[1, 2, 3]);
        // A caught panic is nobody's business.
        let caught = spawn(|_| {
            let caught = std::panic::catch_unwind(|| panic!("caught"));
            yield_now();
            (caught.is_err(), std::thread::panicking())
        });
        assert_eq!(caught.join().unwrap(), (true, false));
    });
}

#[test]
fn names() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        assert_eq!(spawn(|_| gvt::current_name()).join().unwrap(), None);
        let handle = Builder::new().name("of its own").spawn(|_| gvt::current_name()).unwrap();
        assert_eq!(handle.name(), Some("of its own"));
        while !handle.is_finished() {
            yield_now();
        }
        assert_eq!(handle.name(), Some("of its own"), "after the end");
        assert_eq!(handle.join().unwrap().as_deref(), Some("of its own"));
        // The place is reused; the name is not.
        assert_eq!(spawn(|_| gvt::current_name()).join().unwrap(), None);
        for name in ["", "ünï\0codé", &"long ".repeat(10_000)] {
            let handle = Builder::new().name(name).spawn(|_| gvt::current_name()).unwrap();
            assert_eq!(handle.join().unwrap().as_deref(), Some(name));
        }
    });
    assert_eq!(gvt::current_name(), None);
}

#[test]
fn ids_are_unique_and_grow_with_one_spawner() {
    let _watchdog = Watchdog::new();
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let runtime = runtime(1);
        let ids = runtime.block_on(|| {
            let handles: Vec<_> = (0..300).map(|_| spawn(|_| gvt::current_id().unwrap())).collect();
            let ids: Vec<_> = handles.iter().map(|handle| handle.id()).collect();
            let own: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
            assert_eq!(ids, own, "the handle and the thread agree");
            ids
        });
        assert!(ids.is_sorted(), "{ids:?}");
        seen.extend(ids);
        let outside: Vec<_> = (0..300).map(|_| runtime.handle().spawn(|_| ())).collect();
        let outside: Vec<_> = outside.iter().map(|handle| handle.id()).collect();
        assert!(outside.is_sorted(), "{outside:?}");
        seen.extend(outside);
    }
    let many = runtime(4);
    let handles: Vec<_> = (0..4)
        .map(|_| {
            many.handle().spawn(|_| {
                let ids = (0..500).map(|_| spawn(|_| ()).id());
                ids.collect::<Vec<_>>()
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| seen.extend(handle.join().unwrap()));
    assert_eq!(seen.len(), 2 * 600 + 2_000);
    assert_eq!(gvt::current_id(), None);
}

#[test]
fn priorities_are_accepted() {
    let _watchdog = Watchdog::new();
    runtime(2).block_on(|| {
        for priority in Priority::ALL {
            let handle = gvt::spawn_with_priority(|_| gvt::current_priority(), priority);
            assert_eq!(handle.join().unwrap(), Some(priority));
        }
        assert_eq!(spawn(|_| gvt::current_priority()).join().unwrap(), Some(Priority::Normal));
    });
    assert_eq!(gvt::current_priority(), None);
}

#[test]
fn affinity_is_a_wish() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    runtime.block_on(|| {
        for worker in [0, 1, 2, 63] {
            let handle = Builder::new().affinity(worker).spawn(|_| {
                gvt::sleep_us(10);
                gvt::current_worker()
            });
            assert!(handle.unwrap().join().unwrap().unwrap() < 2);
        }
        let error = Builder::new().affinity(64).spawn(|_| ()).unwrap_err();
        assert!(error.to_string().contains("worker 64"), "{error}");
    });
    let error = runtime.handle().spawn_builder(Builder::new().affinity(usize::MAX), |_| ()).unwrap_err();
    assert!(matches!(error, SchedError::Config { setting: "affinity", .. }), "{error}");
}

#[rstest]
fn threads_spawn_threads(#[values(1, 2, 8)] workers: usize) {
    fn leaves(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let left = spawn(move |_| leaves(depth - 1));
        let right = spawn(move |_| leaves(depth - 1));
        left.join().unwrap() + right.join().unwrap()
    }
    fn nested(depth: u32) -> u32 {
        if depth == 0 { 0 } else { 1 + spawn(move |_| nested(depth - 1)).join().unwrap() }
    }
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(workers)
        .slots(gvt::MmapSlots::default().slot_size(64 << 10))
        .build()
        .unwrap();
    runtime.block_on(|| {
        assert_eq!(leaves(12), 4096);
        assert_eq!(nested(2_000), 2_000);
    });
}

#[test]
fn many_joiners_and_blockers_at_once() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let total = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for index in 0..8 {
            let (runtime, total) = (&runtime, &total);
            s.spawn(move || {
                for round in 0..100 {
                    let handle = runtime.block_on(|| {
                        let handle = spawn(move |_| {
                            gvt::sleep_us(50);
                            index + round
                        });
                        total.fetch_add(1, Relaxed);
                        handle
                    });
                    assert_eq!(handle.join().unwrap(), index + round);
                    let handle = runtime.handle().spawn(move |_| round);
                    assert_eq!(handle.join().unwrap(), round);
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 800);
}

/// A thread that is joined through a chain of green and OS threads.
#[test]
fn handles_travel() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let first = runtime.handle().spawn(|_| {
        gvt::sleep_ms(1);
        String::from("seed")
    });
    let second = runtime.handle().spawn(move |_| first.join().unwrap() + " sprout");
    let third = std::thread::spawn(move || second.join().unwrap() + " stem");
    let fourth = runtime.block_on(|| spawn(move |_| third.join().unwrap() + " leaf"));
    assert_eq!(fourth.join().unwrap(), "seed sprout stem leaf");
}

#[test]
fn a_thread_that_ended_stays_joinable() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let handles: Vec<_> = (0..1_000_u32).map(|n| runtime.handle().spawn(move |_| vec![n; 20])).collect();
    runtime.block_on(|| {
        while !handles.iter().all(|handle| handle.is_finished()) {
            gvt::sleep_us(100);
        }
    });
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().unwrap(), [n; 20]);
    }
}

/// Dropping the runtime waits for threads that nobody joins.
#[rstest]
fn waiting_for_a_burst(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let count = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(workers);
    runtime.block_on(|| {
        for _ in 0..100_000 {
            let count = count.clone();
            spawn(move |_| count.fetch_add(1, Relaxed));
        }
    });
    drop(runtime);
    assert_eq!(count.load(Relaxed), 100_000);
}

/// Who spawns one thread and waits for it runs it itself: the other worker is not woken for each.
#[test]
fn a_child_that_is_waited_for_at_once_wakes_nobody() {
    const CHILDREN: u64 = 100_000;
    let _watchdog = Watchdog::new();
    let woken = || {
        let runtime = runtime(2);
        runtime.block_on(|| {
            (0..CHILDREN).for_each(|number| assert_eq!(spawn(move |_| number).join().unwrap(), number));
        });
        runtime.counters().workers_woken
    };
    // On a busy machine a worker that is kept off the processors is overtaken; not each time.
    let woken = [woken(), woken(), woken(), woken(), woken()];
    assert!(
        woken.iter().any(|&woken| woken <= CHILDREN / 100),
        "for {CHILDREN} children the other worker was woken so often: {woken:?}"
    );
}

/// Spawns a child and computes, without a call of the runtime, until another worker has run it.
fn compute_until_a_child_has_run() {
    let ran = Arc::new(AtomicBool::new(false));
    let theirs = ran.clone();
    let child = spawn(move |_| theirs.store(true, SeqCst));
    while !ran.load(SeqCst) {
        std::hint::spin_loop();
    }
    child.join().unwrap();
}

/// A child whose spawner computes is run by another worker, though many that were waited for at once have
/// woken workers in vain, and though no monitor looks; so are the children of several.
#[rstest]
fn a_child_is_run_elsewhere_after_many_that_were_waited_for(#[values(1, 2)] spawners: usize) {
    const LONG: Duration = Duration::from_secs(3_600);
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(2 * spawners).preemptor(NoPreempt);
    let runtime = builder.timer_interval(LONG).time_slice(LONG).build().unwrap();
    let spawner = |_: &CancellationToken| {
        for _ in 0..20 {
            (0..5_000).for_each(|_| spawn(|_| ()).join().unwrap());
            compute_until_a_child_has_run();
        }
    };
    let handles: Vec<_> = (0..spawners).map(|_| runtime.handle().spawn(spawner)).collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

/// A child whose spawner computes is run by the other worker, also after many that were waited for.
#[test]
fn a_child_of_one_that_computes_is_run_elsewhere() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(2).preemptor(NoPreempt).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..50 {
            (0..100).for_each(|_| spawn(|_| ()).join().unwrap());
            compute_until_a_child_has_run();
        }
    });
}
