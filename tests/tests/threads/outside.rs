//! What calls do outside a runtime, and what nesting is refused.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use gvt::{Runtime, SchedError, SchedMutex, SchedulerConfig, spawn};
use gvt_conformance::process::Watchdog;

fn runtime() -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(2))
}

fn sentence(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = catch_unwind(f).expect_err("it should have panicked");
    payload.downcast_ref::<String>().expect("a panic with a sentence").clone()
}

#[test]
fn yielding_and_sleeping_are_the_os_threads_own() {
    gvt::yield_now();
    gvt::safepoint!();
    gvt::sleep(Duration::ZERO);
    let begin = Instant::now();
    gvt::sleep_ms(5);
    gvt::sleep_us(300);
    gvt::sleep_until(Instant::now() + Duration::from_millis(2));
    gvt::sleep_until(Instant::now() - Duration::from_millis(1));
    assert!(begin.elapsed() >= Duration::from_micros(7_300));
    assert!(gvt::now_ns() > 0 && gvt::coarse_now_ns() > 0);
}

#[test]
fn there_is_nothing_to_know() {
    assert_eq!((gvt::current_id(), gvt::current_name(), gvt::current_worker()), (None, None, None));
    assert!(gvt::current_priority().is_none() && gvt::current_token().is_none());
    assert!(!gvt::is_in_gvthread());
}

#[test]
fn spawning_is_refused_with_a_sentence() {
    let error = gvt::try_spawn(|_| ()).unwrap_err();
    assert_eq!(error, SchedError::NoRuntime { call: "spawn" });
    let expected = "cannot spawn outside a runtime: call it from a closure given to `Runtime::block_on`, or use \
                    `Runtime::handle()`";
    assert_eq!(error.to_string(), expected);
    assert_eq!(sentence(|| drop(spawn(|_| ()))), expected);
    assert_eq!(sentence(|| drop(gvt::spawn_with_priority(|_| (), gvt::Priority::High))), expected);
    assert_eq!(gvt::Builder::new().name("x").spawn(|_| ()).unwrap_err(), error);
    // Not even beside a runtime.
    let _runtime = runtime();
    assert_eq!(gvt::try_spawn(|_| ()).unwrap_err(), error);
}

#[test]
fn a_mutex_works_without_a_runtime() {
    let _watchdog = Watchdog::new();
    let mutex = SchedMutex::new(0);
    let runtime = runtime();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..1_000).for_each(|_| *mutex.lock() += 1));
        }
        // And between OS threads and green threads.
        runtime.block_on(|| {
            gvt::scope(|s| {
                for _ in 0..4 {
                    s.spawn(|_| {
                        for n in 0..1_000 {
                            let mut guard = mutex.lock();
                            *guard += 1;
                            if n % 16 == 0 {
                                gvt::yield_now();
                            }
                        }
                    });
                }
            });
        });
    });
    assert_eq!(*mutex.lock(), 8_000);
}

#[test]
fn block_on_borrows_and_returns() {
    let _watchdog = Watchdog::new();
    let runtime = runtime();
    let mut numbers = vec![1, 2, 3];
    let last = runtime.block_on(|| {
        numbers.push(4);
        gvt::yield_now();
        numbers.last().copied()
    });
    assert_eq!(last, Some(4));
    let text = String::from("borrowed");
    let slice: &str = runtime.block_on(|| &text[..4]);
    assert_eq!(slice, "borr");
    assert_eq!(numbers.len(), 4);
    // A large value, and one with an alignment of its own.
    assert_eq!(runtime.block_on(|| [7_u64; 10_000])[9_999], 7);
}

#[test]
fn block_on_passes_panics_on() {
    let _watchdog = Watchdog::new();
    let runtime = runtime();
    for _ in 0..3 {
        let payload = catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(|| std::panic::resume_unwind(Box::new(17_u8)))
        }));
        assert_eq!(payload.map(|(): ()| ()).unwrap_err().downcast_ref(), Some(&17_u8));
    }
    assert_eq!(runtime.block_on(|| 1), 1);
}

/// An error that the closure panics with is the closure's, not the call's.
#[test]
fn block_on_does_not_take_a_payload_for_its_own_error() {
    let _watchdog = Watchdog::new();
    let runtime = runtime();
    let outcome = catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.try_block_on(|| std::panic::panic_any(SchedError::ShutDown))
    }));
    let payload = outcome.map(|value: Result<(), _>| value.map_err(|error| error.to_string())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&SchedError::ShutDown));
}

#[test]
fn nested_block_on_is_an_error() {
    let _watchdog = Watchdog::new();
    let (outer, other) = (runtime(), runtime());
    outer.block_on(|| {
        assert_eq!(outer.try_block_on(|| 1), Err(SchedError::NestedBlockOn));
        assert_eq!(other.try_block_on(|| 1), Err(SchedError::NestedBlockOn));
        let text = sentence(std::panic::AssertUnwindSafe(|| outer.block_on(|| ())));
        assert!(text.contains("cannot `block_on` inside a green thread"), "{text}");
        // Nor when its worker has been handed on.
        assert_eq!(gvt::blocking(|| outer.try_block_on(|| 1)), Err(SchedError::NestedBlockOn));
        let after_a_nap = gvt::blocking(|| {
            std::thread::sleep(Duration::from_millis(30));
            other.try_block_on(|| 1)
        });
        assert_eq!(after_a_nap, Err(SchedError::NestedBlockOn));
        // An OS thread started there is an OS thread like any other.
        let value = std::thread::scope(|s| s.spawn(|| other.block_on(|| 5)).join().unwrap());
        assert_eq!(value, 5);
        // The call itself works where it is told to go.
        assert_eq!(spawn(|_| 6).join().unwrap(), 6);
    });
}

#[test]
fn what_a_green_thread_sees_of_std() {
    let _watchdog = Watchdog::new();
    runtime().block_on(|| {
        assert!(std::thread::available_parallelism().is_ok());
        let joined = std::thread::spawn(|| {
            assert!(!gvt::is_in_gvthread());
            gvt::yield_now();
            gvt::try_spawn(|_| ()).is_err()
        });
        assert!(joined.join().unwrap());
        assert!(gvt::is_in_gvthread());
    });
}
