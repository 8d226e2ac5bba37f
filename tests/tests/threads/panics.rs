//! Destructors that wait while their thread unwinds: the thread keeps its OS thread, the worker goes on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{JoinHandle, Runtime, SchedMutex, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Child, Watchdog, becomes, deny_new_os_threads, os_threads};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

/// Panics without a message.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("quiet"))
}

/// Runs a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        (self.0)();
        assert!(std::thread::panicking(), "the thread came back to another OS thread");
    }
}

/// How a destructor waits.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sleep,
    Join,
    Lock,
    Scope,
    Yield,
    SpawnAndLeave,
    CatchAnother,
}

fn wait(way: Way, mutex: &SchedMutex<usize>) {
    match way {
        Way::Sleep => gvt::sleep_us(200),
        Way::Join => {
            let handle = spawn(|_| {
                assert!(!std::thread::panicking(), "another's panic");
                gvt::sleep_us(100);
                yield_now();
                17
            });
            assert_eq!(handle.join().unwrap(), 17);
        }
        Way::Lock => *mutex.lock() += 1,
        Way::Scope => {
            let mut number = 0;
            gvt::scope(|s| {
                s.spawn(|_| number = 1);
            });
            assert_eq!(number, 1);
        }
        Way::Yield => (0..100).for_each(|_| yield_now()),
        Way::SpawnAndLeave => drop(spawn(|_| yield_now())),
        Way::CatchAnother => {
            let caught = catch_unwind(|| {
                let _inner = OnDrop(|| gvt::sleep_us(50));
                panic_quietly()
            });
            assert!(caught.is_err());
        }
    }
}

const WAYS: [Way; 7] =
    [Way::Sleep, Way::Join, Way::Lock, Way::Scope, Way::Yield, Way::SpawnAndLeave, Way::CatchAnother];

fn unwinds(way: Way, mutex: &Arc<SchedMutex<usize>>, done: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let (mutex, done) = (mutex.clone(), done.clone());
    spawn(move |_| {
        let _destructor = OnDrop(|| {
            wait(way, &mutex);
            wait(way, &mutex);
            done.fetch_add(1, SeqCst);
        });
        yield_now();
        panic_quietly();
    })
}

#[rstest]
fn destructors_wait(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let (mutex, done) = (Arc::new(SchedMutex::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime.block_on(|| {
        for way in WAYS {
            let before = done.load(SeqCst);
            let handle = unwinds(way, &mutex, &done);
            let payload = handle.join().unwrap_err();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"quiet"), "{way:?}");
            assert_eq!(done.load(SeqCst), before + 1, "{way:?}");
            assert!(!std::thread::panicking());
        }
    });
    // One for the worker of the thread that waits, and a spare for the monitor; two may each see to the
    // latter at once. The waits are many more.
    assert!(runtime.os_threads() <= workers + 4, "an OS thread a wait was kept: {}", runtime.os_threads());
}

#[rstest]
fn many_at_once(#[values(1, 2, 8)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let (mutex, done) = (Arc::new(SchedMutex::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime.block_on(|| {
        let guard = mutex.lock();
        let handles: Vec<_> = (0..70).map(|n| unwinds(WAYS[n % WAYS.len()], &mutex, &done)).collect();
        // Threads that do not panic make progress meanwhile, and see nothing of it.
        for _ in 0..50 {
            yield_now();
            gvt::sleep_us(20);
            assert!(!std::thread::panicking());
        }
        drop(guard);
        assert_eq!(handles.into_iter().filter_map(|handle| handle.join().err()).count(), 70);
    });
    assert_eq!(done.load(SeqCst), 70);
    assert_eq!(*mutex.lock(), 20);
}

/// More threads unwind and wait than there may be OS threads: they still come to an end.
#[rstest]
fn more_than_the_pool_holds(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    runtime.block_on(|| {
        let handles: Vec<_> = (0..400)
            .map(|_| {
                spawn(|_| {
                    let _destructor = OnDrop(|| gvt::sleep_ms(20));
                    panic_quietly();
                })
            })
            .collect();
        assert_eq!(handles.into_iter().filter_map(|handle| handle.join().err()).count(), 400);
    });
    let handles = runtime.block_on(|| {
        let last = spawn(|_| gvt::sleep_ms(100));
        let last = Arc::new(SchedMutex::new(Some(last)));
        let handles: Vec<_> = (0..400)
            .map(|_| {
                let last = last.clone();
                spawn(move |_| {
                    let _destructor = OnDrop(|| drop(last.lock().take().map(JoinHandle::join)));
                    panic_quietly();
                })
            })
            .collect();
        handles
    });
    assert_eq!(handles.into_iter().filter_map(|handle| handle.join().err()).count(), 400);
    drop(runtime);
}

/// No OS thread can be had to lend the worker to: timers, held threads and other workers still end the waits.
#[rstest]
#[case::one("no_os_thread_to_lend::case_1_one", 1)]
#[case::two("no_os_thread_to_lend::case_2_two", 2)]
fn no_os_thread_to_lend(#[case] name: &'static str, #[case] workers: usize) {
    let ended = Child::of(name).run(|| {
        let runtime = runtime(workers);
        let unwind_and_sleep = |count: usize| {
            let handles: Vec<_> = (0..count)
                .map(|n| {
                    runtime.handle().spawn(move |_| {
                        let _destructor = OnDrop(|| gvt::sleep_us(100 * n as u64));
                        panic_quietly();
                    })
                })
                .collect();
            assert_eq!(handles.into_iter().filter_map(|handle| handle.join().err()).count(), count);
        };
        // Some OS threads are spare from before.
        unwind_and_sleep(5);
        deny_new_os_threads();
        unwind_and_sleep(50);
        runtime.block_on(|| (0..100).for_each(|_| yield_now()));
    });
    ended.succeeded();
}

/// OS threads that were lent are used again, and end with the runtime.
#[test]
fn lent_os_threads_are_used_again() {
    let ended = Child::of("lent_os_threads_are_used_again").run(|| {
        let before = os_threads();
        let runtime = runtime(2);
        let count = AtomicUsize::new(0);
        runtime.block_on(|| {
            for _ in 0..300 {
                let handle = spawn(|_| {
                    let _destructor = OnDrop(|| gvt::sleep_us(10));
                    panic_quietly();
                });
                assert!(handle.join().is_err());
                count.fetch_add(1, Relaxed);
            }
        });
        let kept = runtime.os_threads();
        assert!(kept <= 6, "{kept} OS threads for one held thread at a time");
        drop(runtime);
        assert!(becomes(|| os_threads() == before), "OS threads are left");
        assert_eq!(count.into_inner(), 300);
    });
    ended.succeeded();
}

/// A panic that is caught and goes on elsewhere; panic counts stay with their threads.
#[rstest]
fn payloads_move_between_threads(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let payload = catch_unwind(|| panic_quietly()).unwrap_err();
        let handle = spawn(move |_| {
            yield_now();
            let caught = catch_unwind(AssertUnwindSafe(|| resume_unwind(payload))).unwrap_err();
            yield_now();
            assert!(!std::thread::panicking());
            resume_unwind(caught)
        });
        assert_eq!(handle.join().map(|(): ()| ()).unwrap_err().downcast_ref::<&str>(), Some(&"quiet"));
    });
}

/// A destructor that panics while a result is dropped that nobody wants.
#[rstest]
fn unwanted_results_may_panic(#[values(1, 2)] workers: usize) {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic_quietly();
            }
        }
    }
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        for _ in 0..20 {
            drop(spawn(|_| Panics));
            drop(spawn(|_| -> () { resume_unwind(Box::new(Panics)) }));
            let finished = spawn(|_| Panics);
            while !finished.is_finished() {
                yield_now();
            }
            drop(finished);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                gvt::scope(|s| {
                    s.spawn(|_| Panics);
                });
            }));
            assert!(caught.is_err());
        }
        // The threads are all there is to see: the runtime goes on.
        assert_eq!(spawn(|_| 1).join().unwrap(), 1);
    });
}

/// A result's destructor is ordinary code: it spawns, waits and locks.
#[rstest]
fn unwanted_results_may_wait(#[values(1, 2)] workers: usize) {
    struct Waits(Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            gvt::sleep_us(50);
            yield_now();
            let done = self.0.clone();
            if gvt::is_in_gvthread() {
                spawn(move |_| done.fetch_add(1, SeqCst)).join().unwrap();
            } else {
                done.fetch_add(1, SeqCst);
            }
        }
    }
    let _watchdog = Watchdog::new();
    let done = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(workers);
    runtime.block_on(|| {
        for _ in 0..50 {
            let waits = Waits(done.clone());
            drop(spawn(move |_| waits));
        }
    });
    let waits = Waits(done.clone());
    drop(runtime.handle().spawn(move |_| waits));
    drop(runtime);
    assert_eq!(done.load(SeqCst), 51);
}
