//! Scoped threads: what they borrow outlives them, whatever goes wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{Builder, Runtime, SchedulerConfig, scope, yield_now};
use gvt_conformance::process::Watchdog;
use rstest::rstest;

fn on<R: Send>(workers: usize, f: impl FnOnce() -> R + Send) -> R {
    let _watchdog = Watchdog::new();
    Runtime::new(SchedulerConfig::default().num_workers(workers)).block_on(f)
}

/// Borrowed by threads; says so if it is used after its scope.
struct Canary(AtomicUsize);

impl Canary {
    fn touch(&self) {
        assert_ne!(self.0.fetch_add(1, SeqCst), usize::MAX / 2, "used after its scope");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.store(usize::MAX / 2, SeqCst);
    }
}

#[rstest]
fn borrows_and_returns(#[values(1, 2, 4)] workers: usize) {
    on(workers, || {
        let mut numbers = vec![0_u64; 200];
        let factor = 3;
        let sum = scope(|s| {
            let handles: Vec<_> = (0..)
                .zip(&mut numbers)
                .map(|(index, place)| {
                    s.spawn(move |_| {
                        yield_now();
                        *place = index * factor;
                        &*place
                    })
                })
                .collect();
            handles.into_iter().map(|handle| *handle.join().unwrap()).sum::<u64>()
        });
        assert_eq!(sum, 3 * 199 * 200 / 2);
        assert_eq!(numbers[199], 597);
    });
}

#[rstest]
fn waits_for_threads_that_nobody_joins(#[values(1, 2)] workers: usize) {
    on(workers, || {
        for _ in 0..100 {
            let done = AtomicUsize::new(0);
            let outer = scope(|s| {
                for index in 0..10 {
                    let done = &done;
                    s.spawn(move |_| {
                        if index % 2 == 0 {
                            gvt::sleep_us(100);
                        }
                        done.fetch_add(1, SeqCst);
                    });
                }
                "the closure's value"
            });
            assert_eq!(outer, "the closure's value");
            assert_eq!(done.load(SeqCst), 10);
        }
    });
}

#[rstest]
fn forgotten_handles_keep_nobody(#[values(1, 2)] workers: usize) {
    on(workers, || {
        let done = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..10 {
                std::mem::forget(s.spawn(|_| {
                    yield_now();
                    done.fetch_add(1, SeqCst)
                }));
            }
        });
        assert_eq!(done.load(SeqCst), 10);
    });
}

#[rstest]
fn a_childs_panic_comes_out_of_its_join(#[values(1, 2)] workers: usize) {
    on(workers, || {
        let value = scope(|s| {
            let bad = s.spawn(|_| -> u32 { panic!("child") });
            let good = s.spawn(|_| 5);
            assert_eq!(bad.join().unwrap_err().downcast_ref::<&str>(), Some(&"child"));
            good.join().unwrap()
        });
        assert_eq!(value, 5);
    });
}

#[rstest]
fn a_childs_panic_that_nobody_joins_panics_the_scope(#[values(1, 2)] workers: usize) {
    on(workers, || {
        let canary = Canary(AtomicUsize::new(0));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.spawn(|_| panic!("child"));
                for _ in 0..5 {
                    s.spawn(|_| {
                        gvt::sleep_us(200);
                        canary.touch();
                    });
                }
            });
        }));
        assert!(caught.is_err());
        assert_eq!(canary.0.load(SeqCst), 5, "the scope panicked before its threads had ended");
    });
}

#[rstest]
fn a_panicking_closure_waits_for_its_threads(#[values(1, 2)] workers: usize) {
    on(workers, || {
        let canary = Canary(AtomicUsize::new(0));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                for _ in 0..5 {
                    s.spawn(|_| {
                        gvt::sleep_us(200);
                        canary.touch();
                    });
                }
                panic!("closure");
            });
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"closure"));
        assert_eq!(canary.0.load(SeqCst), 5);
    });
}

#[test]
fn nested_and_recursive() {
    fn sum(slice: &[u64]) -> u64 {
        if slice.len() <= 3 {
            return slice.iter().sum();
        }
        let (left, right) = slice.split_at(slice.len() / 2);
        scope(|s| {
            let left = s.spawn(|_| sum(left));
            sum(right) + left.join().unwrap()
        })
    }
    for workers in [1, 2, 8] {
        on(workers, || {
            let numbers: Vec<u64> = (0..2_000).collect();
            assert_eq!(sum(&numbers), 1_999 * 2_000 / 2);
            // A scoped thread spawns in its own scope.
            let count = AtomicUsize::new(0);
            scope(|s| {
                s.spawn(|_| {
                    for _ in 0..10 {
                        s.spawn(|_| count.fetch_add(1, SeqCst));
                    }
                });
            });
            assert_eq!(count.load(SeqCst), 10);
        });
    }
}

#[test]
fn from_a_deep_stack() {
    fn descend(levels: u32, words: &[&str]) -> usize {
        let here = [levels; 64];
        if levels > 0 {
            return descend(levels - 1, words) + std::hint::black_box(here)[0].min(1) as usize;
        }
        scope(|s| {
            let handles: Vec<_> = words.iter().map(|word| s.spawn(move |_| word.len())).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        })
    }
    on(2, || assert_eq!(descend(10_000, &["a", "bc", "def"]), 10_006));
}

/// An unclaimed result that borrows is dropped before what it borrows goes.
#[rstest]
fn unclaimed_results_go_first(#[values(1, 2)] workers: usize) {
    struct Touches<'a>(&'a Canary);
    impl Drop for Touches<'_> {
        fn drop(&mut self) {
            self.0.touch();
        }
    }
    on(workers, || {
        for _ in 0..200 {
            let canary = Canary(AtomicUsize::new(0));
            scope(|s| {
                for index in 0..4 {
                    let handle = s.spawn(|_| Touches(&canary));
                    match index {
                        0 => drop(handle),
                        1 => {
                            while !handle.is_finished() {
                                yield_now();
                            }
                            drop(handle);
                        }
                        2 => drop(handle.join()),
                        _ => {}
                    }
                }
            });
            assert_eq!(canary.0.load(SeqCst), 4);
        }
    });
}

#[test]
fn a_refused_thread_does_not_hang_the_scope() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(1).max_gvthreads(3));
    for _ in 0..10 {
        runtime.block_on(|| {
            let ran = Mutex::new(0);
            let refused = scope(|s| {
                let handles: Vec<_> = (0..5).map(|_| s.try_spawn(|_| *ran.lock().unwrap() += 1)).collect();
                let refused = handles.iter().filter(|handle| handle.is_err()).count();
                handles.into_iter().flatten().for_each(|handle| handle.join().unwrap());
                refused
            });
            assert_eq!((refused, ran.into_inner().unwrap()), (3, 2));
        });
    }
}

#[test]
fn names_ids_and_tokens() {
    on(2, || {
        scope(|s| {
            let named =
                s.spawn_builder(Builder::new().name("scoped"), |_| (gvt::current_name(), gvt::current_id()));
            let named = named.unwrap();
            let id = named.id();
            assert_eq!(named.join().unwrap(), (Some("scoped".to_owned()), Some(id)));
            let waits = s.spawn(|token| {
                while !token.is_cancelled() {
                    yield_now();
                }
            });
            waits.token().cancel();
            waits.join().unwrap();
        });
    });
}

#[test]
fn outside_a_runtime_a_scope_is_refused() {
    let caught = catch_unwind(|| scope(|_| ()));
    let payload = caught.unwrap_err();
    let sentence = payload.downcast_ref::<String>().unwrap();
    assert!(sentence.contains("cannot open a scope outside a runtime"), "{sentence}");
}

/// A scope knows its unjoined threads only while they run.
#[rstest]
fn ended_threads_leave_their_places(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let config = SchedulerConfig::default().num_workers(workers).max_gvthreads(8);
    Runtime::new(config).block_on(|| {
        let ran = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..1_000 {
                // Refused while all places are taken.
                while s.try_spawn(|_| ran.fetch_add(1, SeqCst)).map(drop).is_err() {
                    yield_now();
                }
            }
        });
        assert_eq!(ran.into_inner(), 1_000);
    });
}
