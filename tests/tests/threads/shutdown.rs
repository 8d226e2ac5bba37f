//! The end of a runtime: it waits for those that end, unwinds those that nothing will wake, and names
//! those that keep it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Builder, Runtime, SchedError, SchedMutex, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Child, Watchdog, becomes, os_threads};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// Counts its drops.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[rstest]
fn drop_waits_for_threads(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    for delay_us in [0, 10, 1_000, 20_000] {
        let done = Arc::new(AtomicUsize::new(0));
        let runtime = runtime(workers);
        for _ in 0..20 {
            let done = done.clone();
            runtime.handle().spawn(move |_| {
                gvt::sleep_us(delay_us);
                // Spawning goes on while the runtime closes.
                let last = done.clone();
                spawn(move |_| {
                    yield_now();
                    last.fetch_add(1, SeqCst);
                });
            });
        }
        drop(runtime);
        assert_eq!(done.load(SeqCst), 20);
    }
}

/// A panic that drops a runtime comes out, though threads of it sleep that nobody will wake.
#[test]
fn drop_in_a_panic_unwinds_threads() {
    let _watchdog = Watchdog::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Counts(dropped.clone());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let runtime = runtime(2);
        runtime.handle().spawn(move |_| {
            let _counts = counts;
            gvt::sleep(FOR_EVER);
        });
        panic!("meant");
    }));
    assert!(panicked.is_err());
    assert_eq!(dropped.load(SeqCst), 1);
}

/// Threads parked for ever in any way are unwound, and their destructors run.
#[rstest]
fn parked_for_ever(#[values(1, 2, 8)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let drops = Arc::new(AtomicUsize::new(0));
    let mutex = Arc::new(SchedMutex::new(()));
    let mut handles = Vec::new();
    let parked = Arc::new(AtomicUsize::new(0));
    {
        let (mutex, parked) = (mutex.clone(), parked.clone());
        handles.push(runtime.handle().spawn(move |_| {
            let _guard = mutex.lock();
            parked.fetch_add(1, SeqCst);
            gvt::sleep(FOR_EVER);
        }));
    }
    assert!(becomes(|| parked.load(SeqCst) == 1));
    for kind in 0..40 {
        let (mutex, parked) = (mutex.clone(), parked.clone());
        let counts = Counts(drops.clone());
        handles.push(runtime.handle().spawn(move |_| {
            let _counts = counts;
            parked.fetch_add(1, SeqCst);
            match kind % 4 {
                0 => gvt::sleep(FOR_EVER),
                1 => drop(mutex.lock()),
                2 => drop(spawn(|_| gvt::sleep(FOR_EVER)).join()),
                _ => gvt::scope(|s| {
                    s.spawn(|_| gvt::sleep(FOR_EVER));
                }),
            }
        }));
    }
    assert!(becomes(|| parked.load(SeqCst) == 41));
    runtime.shutdown();
    assert_eq!(drops.load(SeqCst), 40);
    assert!(mutex.try_lock().is_some(), "the guard of an unwound thread was lost");
    let mut unwound = 0;
    for handle in handles {
        // What a thread waited for may have come of another's unwinding; then it ended by itself.
        if let Err(payload) = handle.join() {
            let error = payload.downcast::<SchedError>().map_err(|_| "another payload");
            assert_eq!(error.map(|error| *error), Ok(SchedError::ShutDown));
            unwound += 1;
        }
    }
    assert!(unwound >= 11, "{unwound}: those that sleep have nothing else to hope for");
}

/// The unwinding is no panic: no hook runs, no scope fails of it.
#[test]
fn unwinding_is_silent() {
    let ended = Child::of("unwinding_is_silent").run(|| {
        let runtime = runtime(2);
        let outer = runtime.handle().spawn(|_| {
            gvt::scope(|s| {
                let inner = s.spawn(|_| gvt::sleep(FOR_EVER));
                let payload = inner.join().unwrap_err();
                assert_eq!(payload.downcast_ref::<SchedError>(), Some(&SchedError::ShutDown));
            });
        });
        gvt::sleep_ms(20);
        runtime.shutdown();
        let _ = outer.join();
    });
    let ended = ended.succeeded();
    assert_eq!(ended.stderr, "", "{ended}");
}

#[rstest]
fn cooperative_threads_end_by_themselves(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let handles: Vec<_> = (0..20)
        .map(|n| {
            runtime.handle().spawn(move |token| {
                while !token.is_cancelled() {
                    if n % 2 == 0 { yield_now() } else { gvt::sleep_ms(1) }
                }
                // A short sleep is left to end by itself.
                gvt::sleep_ms(5);
                n
            })
        })
        .collect();
    runtime.shutdown();
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.join().unwrap(), n);
    }
}

/// How a thread comes back that others wait for.
#[derive(Clone, Copy, Debug)]
enum Return {
    ASleep,
    ABlockingCall,
    TheKernel,
}

/// Who will be woken by a thread that comes back soon is not unwound.
#[rstest]
fn who_will_be_woken_is_left_alone(
    #[values(1, 2)] workers: usize,
    #[values(Return::ASleep, Return::ABlockingCall, Return::TheKernel)] how: Return,
) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let mutex = Arc::new(SchedMutex::new(()));
    let locked = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = gvt::channel(1);
    let away = {
        let (mutex, locked) = (mutex.clone(), locked.clone());
        runtime.handle().spawn(move |_| {
            let guard = mutex.lock();
            locked.store(true, SeqCst);
            let time = Duration::from_millis(150);
            match how {
                Return::ASleep => gvt::sleep(time),
                Return::ABlockingCall => gvt::blocking(|| std::thread::sleep(time)),
                Return::TheKernel => std::thread::sleep(time),
            }
            drop(guard);
            sender.send(17).unwrap();
        })
    };
    assert!(becomes(|| locked.load(SeqCst)));
    let locks = runtime.handle().spawn(move |_| drop(mutex.lock()));
    let receives = runtime.handle().spawn(move |_| receiver.recv());
    std::thread::sleep(Duration::from_millis(30));
    runtime.shutdown();
    away.join().unwrap();
    locks.join().unwrap();
    assert_eq!(receives.join().unwrap(), Ok(17));
}

/// But not for ever: a thread that sleeps again and again without looking at its token is not waited for.
#[test]
fn a_restless_sleeper_does_not_keep_others_from_unwinding() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let (stop, drops) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stopped = stop.clone();
    runtime.handle().spawn(move |_| {
        while !stopped.load(SeqCst) {
            gvt::sleep_ms(5);
        }
    });
    let counts = Counts(drops.clone());
    runtime.handle().spawn(move |_| {
        let _counts = counts;
        gvt::sleep(FOR_EVER);
    });
    let seen = drops.clone();
    let watch = std::thread::spawn(move || {
        let unwound = becomes(|| seen.load(SeqCst) == 1);
        stop.store(true, SeqCst);
        unwound
    });
    runtime.shutdown();
    assert!(watch.join().unwrap(), "not unwound");
}

/// Destructors of unwound threads wait too.
#[rstest]
fn destructors_wait_while_unwound(#[values(1, 2)] workers: usize) {
    struct Waits(Arc<AtomicUsize>, Arc<SchedMutex<usize>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            gvt::sleep_ms(1);
            *self.1.lock() += 1;
            assert_eq!(spawn(|_| 3).join().unwrap(), 3);
            self.0.fetch_add(1, SeqCst);
        }
    }
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let (done, mutex) = (Arc::new(AtomicUsize::new(0)), Arc::new(SchedMutex::new(0)));
    for _ in 0..20 {
        let waits = Waits(done.clone(), mutex.clone());
        runtime.handle().spawn(move |_| {
            let _waits = waits;
            gvt::sleep(FOR_EVER);
        });
    }
    gvt::sleep_ms(5);
    runtime.shutdown();
    assert_eq!((done.load(SeqCst), *mutex.lock()), (20, 20));
}

/// Threads that catch everything and wait again are unwound again; they end when they let it through.
#[test]
fn stubborn_threads_are_unwound_again() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let handle = runtime.handle().spawn(|_| {
        let mut times = 0;
        while times < 5 {
            let caught = std::panic::catch_unwind(|| gvt::sleep(FOR_EVER));
            times += usize::from(caught.is_err());
        }
        times
    });
    gvt::sleep_ms(5);
    runtime.shutdown();
    assert_eq!(handle.join().unwrap(), 5);
}

#[test]
fn shutdown_timeout_says_how_many_are_left() {
    let _watchdog = Watchdog::new();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(2);
    for n in 0..3 {
        let (stop, ended) = (stop.clone(), ended.clone());
        runtime.handle().spawn(move |_| {
            while !stop.load(SeqCst) {
                if n == 0 { std::hint::spin_loop() } else { yield_now() }
            }
            ended.fetch_add(1, SeqCst);
        });
    }
    let begin = Instant::now();
    let error = runtime.shutdown_timeout(Duration::from_millis(100)).unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(error.threads, 3);
    assert!(error.to_string().contains("3 green threads still running"), "{error}");
    // The runtime is left to itself, and goes on.
    stop.store(true, SeqCst);
    assert!(becomes(|| ended.load(SeqCst) == 3));
}

#[rstest]
fn shutdown_timeout_in_time(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    for limit in [Duration::from_secs(60), Duration::MAX] {
        let runtime = runtime(workers);
        let handle = runtime.handle().spawn(|_| gvt::sleep(FOR_EVER));
        gvt::sleep_ms(1);
        runtime.shutdown_timeout(limit).unwrap();
        assert!(handle.join().is_err());
        assert_eq!(runtime_of_nothing().shutdown_timeout(Duration::ZERO), Ok(()));
    }
}

fn runtime_of_nothing() -> Runtime {
    runtime(1)
}

#[test]
fn long_waits_are_named_on_stderr() {
    let ended = Child::of("long_waits_are_named_on_stderr").run(|| {
        let runtime = runtime(2);
        let name = |name: &str| Builder::new().name(name);
        let handle = runtime.handle();
        let sleeper = handle.spawn_builder(name("the sleeper"), |_| gvt::sleep_ms(5_600)).unwrap();
        let joiner = handle.spawn_builder(name("the joiner"), move |_| sleeper.join().unwrap()).unwrap();
        for _ in 0..20 {
            handle.spawn(|_| gvt::sleep_ms(5_500));
        }
        gvt::sleep_ms(200);
        drop(runtime);
        joiner.join().unwrap();
    });
    let ended = ended.succeeded();
    let Some((_, report)) = ended.stderr.split_once("waiting for 5 s for 22 green threads to end:") else {
        panic!("no report; {ended}");
    };
    let since = |text: &str| -> f64 {
        let (_, rest) = report.split_once(text).unwrap_or_else(|| panic!("no '{text}'; {ended}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let slept = since("'the sleeper': blocked on sleep for about ");
    let joined = since("'the joiner': blocked on join for about ");
    assert!((5.0..60.0).contains(&slept) && (5.0..60.0).contains(&joined), "{slept}, {joined}; {ended}");
    assert!(report.contains("… and 12 more"), "{ended}");
}

#[test]
fn a_short_wait_is_not_worth_a_word() {
    let ended = Child::of("a_short_wait_is_not_worth_a_word").run(|| {
        let runtime = runtime(2);
        runtime.handle().spawn(|_| gvt::sleep_ms(100));
        drop(runtime);
    });
    assert_eq!(ended.succeeded().stderr, "");
}

/// A runtime cannot wait for the green thread that drops it.
#[test]
fn dropped_on_its_own_green_thread() {
    let ended = Child::of("dropped_on_its_own_green_thread").run(|| {
        for (shut_down, blocking) in [(false, false), (true, false), (false, true), (true, true)] {
            let runtime = runtime(2);
            let handle = runtime.handle();
            let went_on = Arc::new(AtomicBool::new(false));
            let seen = went_on.clone();
            let thread = handle.spawn(move |_| {
                let end = || if shut_down { runtime.shutdown() } else { drop(runtime) };
                // Inside, it has no worker, yet is a green thread of the runtime that it ends.
                if blocking {
                    gvt::blocking(end)
                } else {
                    end()
                }
                spawn(|_| yield_now()).join().unwrap();
                gvt::sleep_us(10);
                seen.store(true, SeqCst);
            });
            thread.join().unwrap();
            assert!(went_on.load(SeqCst));
            assert_eq!(handle.try_spawn(|_| ()).unwrap_err(), SchedError::ShutDown);
        }
    });
    ended.succeeded().complained("dropped or shut down on one of its own green threads");
}

/// One runtime's green thread may end another runtime.
#[test]
fn dropped_on_another_runtimes_green_thread() {
    let _watchdog = Watchdog::new();
    let outer = runtime(2);
    for shut_down in [false, true] {
        let inner = runtime(2);
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let done = done.clone();
            inner.handle().spawn(move |_| {
                gvt::sleep_ms(1);
                done.fetch_add(1, SeqCst)
            });
        }
        let end = move || if shut_down { inner.shutdown() } else { drop(inner) };
        outer.block_on(|| spawn(move |_| end()).join().unwrap());
        assert_eq!(done.load(SeqCst), 10);
    }
}

#[test]
fn nothing_is_left_behind() {
    let ended = Child::of("nothing_is_left_behind").run(|| {
        let descriptors = gvt_conformance::process::descriptors;
        let (threads_before, descriptors_before) = (os_threads(), descriptors());
        for round in 0..50 {
            let runtime = runtime(4);
            runtime.block_on(|| (0..50).for_each(|n| drop(spawn(move |_| gvt::sleep_us(n)))));
            match round % 3 {
                0 => drop(runtime),
                1 => runtime.shutdown(),
                _ => runtime.shutdown_timeout(Duration::from_secs(60)).unwrap(),
            }
            // An OS thread that was joined may be counted for a moment longer.
            assert!(becomes(|| os_threads() == threads_before), "OS threads");
            assert_eq!(descriptors(), descriptors_before, "descriptors");
        }
    });
    ended.succeeded();
}

/// A program that is built with `panic = "abort"` can unwind nobody: its shutdowns leave who waits for ever,
/// and say so.
#[test]
fn a_shutdown_where_panics_abort() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("aborting");
    // The same versions as here, so that nothing need be fetched.
    fs::copy(tests.join("../Cargo.lock"), folder.join("Cargo.lock")).expect("the workspace has a lock file");
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("aborting"))
        .env_remove("RUSTFLAGS")
        .current_dir(&folder)
        .output()
        .expect("cargo is there");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
    assert_eq!(stdout, "with a limit: 1 left\nwithout a limit: returned\nall end: Ok(())\n");
    assert!(stderr.contains("leaves 1 green thread that nothing in the runtime will wake"), "{stderr}");
}
