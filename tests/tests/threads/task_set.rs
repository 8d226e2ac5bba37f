//! Sets of threads, and joining many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::{CancelReason, Runtime, SchedulerConfig, TaskError, TaskSet};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[rstest]
fn a_set_returns_all_results(#[values(1, 2, 8)] workers: usize) {
    runtime(workers).block_on(|| {
        let mut set = TaskSet::<usize, ()>::new();
        assert!(set.join_next().is_none());
        for i in 0..100 {
            assert_eq!(
                set.spawn(move |_| {
                    for _ in 0..i % 5 {
                        gvt::yield_now();
                    }
                    Ok(i)
                }),
                i
            );
        }
        let (number, outcome) = set.join_next().unwrap();
        assert_eq!(outcome.unwrap(), number);
        assert_eq!(set.len(), 99);
        let rest = set.join_all().unwrap();
        let expected: Vec<_> = (0..100).filter(|i| *i != number).collect();
        assert_eq!(rest, expected);
    });
}

/// The first failure is what comes out, and nobody is left.
#[rstest]
fn the_first_failure_cancels_the_others(
    #[values(1, 2, 8)] workers: usize,
    #[values(true, false)] panics: bool,
) {
    runtime(workers).block_on(|| {
        let running = Arc::new(AtomicUsize::new(0));
        for failing in [0, 7, 15] {
            let mut set = TaskSet::new();
            for i in 0..16 {
                let running = running.clone();
                running.fetch_add(1, SeqCst);
                set.spawn(move |token| {
                    struct Ends(Arc<AtomicUsize>);
                    impl Drop for Ends {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, SeqCst);
                        }
                    }
                    let _ends = Ends(running);
                    if i == failing {
                        gvt::sleep_ms(1);
                        assert!(!panics, "meant");
                        return Err("first".to_string());
                    }
                    token.cancelled().wait();
                    Err::<(), _>(token.reason().unwrap().to_string())
                });
            }
            match set.join_all() {
                Err(TaskError::Failed(words)) => assert_eq!((words.as_str(), panics), ("first", false)),
                Err(error @ TaskError::Panicked(_)) => {
                    assert_eq!((error.to_string().as_str(), panics), ("a thread panicked: meant", true));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(running.load(SeqCst), 0, "all have ended");
        }
    });
}

#[test]
fn a_dropped_set_leaves_nobody() {
    let runtime = runtime(2);
    runtime.block_on(|| {
        let ended = Arc::new(AtomicUsize::new(0));
        let mut set = TaskSet::<(), ()>::new();
        for _ in 0..8 {
            let ended = ended.clone();
            set.spawn(move |token| {
                token.cancelled().wait();
                assert_eq!(token.reason(), Some(CancelReason::Requested));
                ended.fetch_add(1, SeqCst);
                Ok(())
            });
        }
        drop(set);
        assert_eq!(ended.load(SeqCst), 8);
    });
}

/// A set in a thread that panics: the set's threads end before the panic comes out.
#[test]
fn a_panic_waits_for_the_set() {
    runtime(2).block_on(|| {
        let ended = Arc::new(AtomicUsize::new(0));
        let other = ended.clone();
        let thread = gvt::spawn(move |_| {
            let mut set = TaskSet::<(), ()>::new();
            set.spawn(move |token| {
                token.cancelled().wait();
                gvt::sleep_ms(1);
                other.fetch_add(1, SeqCst);
                Ok(())
            });
            panic!("meant");
        });
        assert!(thread.join().is_err());
        assert_eq!(ended.load(SeqCst), 1);
    });
}

/// What a set's owner is told reaches sets within sets.
#[test]
fn sets_nest() {
    fn nest(depth: usize) -> Result<usize, ()> {
        let mut set = TaskSet::new();
        match depth {
            0 => set.spawn(|token| {
                token.cancelled().wait();
                Ok(1)
            }),
            _ => set.spawn(move |_| nest(depth - 1)),
        };
        set.join_all().map(|results| results.into_iter().sum::<usize>() + 1).map_err(drop)
    }
    runtime(2).block_on(|| {
        let token = gvt::CancellationToken::new();
        let mut set = TaskSet::<usize, ()>::under(&token);
        set.spawn(|_| nest(50));
        gvt::sleep_ms(2);
        token.cancel();
        assert_eq!(set.join_all().unwrap(), [52]);
    });
}

/// Threads refused are no failures of the set's.
#[test]
fn a_set_survives_a_refusal() {
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(1).max_gvthreads(8));
    runtime.block_on(|| {
        let (go, wait) = gvt::channel::<()>(0);
        let mut set = TaskSet::<(), ()>::new();
        let mut spawned = 0;
        while spawned < 1000 {
            let wait = wait.clone();
            let refused = set.try_spawn(gvt::Builder::new(), move |_| {
                let _ = wait.recv();
                Ok(())
            });
            if refused.is_err() {
                break;
            }
            spawned += 1;
        }
        assert!(spawned < 1000, "there is room for a few only");
        assert!(!set.token().is_cancelled());
        assert_eq!(set.len(), spawned);
        drop(go);
        assert_eq!(set.join_all().unwrap().len(), spawned);
    });
}

#[test]
fn a_shutdown_ends_a_set() {
    let runtime = runtime(2);
    let (sender, receiver) = gvt::channel::<()>(1);
    let owner = runtime.handle().spawn(move |_| {
        let mut set = TaskSet::<(), ()>::new();
        set.spawn(move |_| {
            let _ = receiver.recv();
            Ok(())
        });
        set.join_all().is_err()
    });
    std::thread::sleep(Duration::from_millis(3));
    runtime.shutdown();
    // Unwound itself, or told that its thread was.
    if let Ok(failed) = owner.join() {
        assert!(failed);
    }
    drop(sender);
}

#[test]
fn all_are_joined_in_order() {
    runtime(2).block_on(|| {
        let results = gvt::join_all((0..50).map(|i| {
            gvt::spawn(move |_| {
                if i % 7 == 3 {
                    panic!("meant");
                }
                i
            })
        }));
        for (i, result) in results.into_iter().enumerate() {
            assert_eq!(result.ok(), (i % 7 != 3).then_some(i));
        }
    });
}

/// Scopes from the bottom of a deep stack, with children that panic.
#[test]
fn deep_scopes_survive_panics() {
    fn dig(depth: usize, sum: &AtomicUsize) -> usize {
        let mut here = [depth; 64];
        std::hint::black_box(&mut here);
        if depth == 0 {
            return gvt::scope(|s| {
                let threads: Vec<_> = (0..10)
                    .map(|i| {
                        s.spawn(move |_| {
                            assert!(i % 2 == 0, "meant");
                            sum.fetch_add(i, Relaxed);
                        })
                    })
                    .collect();
                threads.into_iter().filter_map(|thread| thread.join().err()).count()
            });
        }
        dig(depth - 1, sum) + std::hint::black_box(here)[3] - depth
    }
    runtime(2).block_on(|| {
        let sum = AtomicUsize::new(0);
        let threads: Vec<_> = gvt::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(|_| dig(2000, &sum))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(threads, [5; 4]);
        assert_eq!(sum.load(Relaxed), 4 * 20);
        // Nobody joined it: the scope says so.
        let told = std::panic::catch_unwind(|| {
            gvt::scope(|s| {
                s.spawn(|_| panic!("meant"));
            });
        });
        assert!(told.is_err());
    });
}
