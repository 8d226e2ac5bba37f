//! Cancellation tokens: a request reaches every descendant, and keeps no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use gvt::{Builder, CancellationToken, Handle, JoinHandle, Runtime, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Watchdog, becomes};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[test]
fn a_tree_of_its_own() {
    let root = CancellationToken::new();
    let (left, right) = (root.child(), root.child());
    let leaf = left.child().child().clone();
    left.cancel();
    assert_eq!(
        [&root, &left, &right, &leaf].map(CancellationToken::is_cancelled),
        [false, true, false, true]
    );
    root.cancel();
    root.cancel();
    assert!(right.is_cancelled());
    assert!(!CancellationToken::default().is_cancelled());
}

/// Children are dropped with their last token, however deep the tree.
#[test]
fn a_deep_tree_is_dropped_without_recursion() {
    let root = CancellationToken::new();
    let mut leaf = root.child();
    for _ in 0..300_000 {
        leaf = leaf.child();
    }
    root.cancel();
    assert!(leaf.is_cancelled());
    drop(root);
    drop(leaf);
}

/// Spawns a chain of `depth` threads, each the child of the one before, all alive at once; the last
/// runs `leaf`.
fn nested<T: Send + 'static>(depth: u32, leaf: impl FnOnce(&CancellationToken) -> T + Send + 'static) -> T {
    if depth == 0 {
        return spawn(leaf).join().unwrap();
    }
    spawn(move |_| nested(depth - 1, leaf)).join().unwrap()
}

#[rstest]
fn descendants_spawned_before_and_after(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        let (ready, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wait = |ready: &Arc<AtomicUsize>, ended: &Arc<AtomicUsize>| {
            let (ready, ended) = (ready.clone(), ended.clone());
            move |token: &CancellationToken| {
                ready.fetch_add(1, SeqCst);
                while !token.is_cancelled() {
                    yield_now();
                }
                ended.fetch_add(1, SeqCst);
            }
        };
        let (child, grandchild, late) = (wait(&ready, &ended), wait(&ready, &ended), wait(&ready, &ended));
        let bystander = spawn(|token| {
            gvt::sleep_ms(5);
            token.is_cancelled()
        });
        let family = spawn(move |token| {
            let child = spawn(child);
            let deep = spawn(move |_| nested(20, grandchild));
            while !token.is_cancelled() {
                yield_now();
            }
            // Spawned by a thread that is cancelled already.
            spawn(late).join().unwrap();
            child.join().unwrap();
            deep.join().unwrap();
        });
        while ready.load(SeqCst) < 2 {
            yield_now();
        }
        assert_eq!(ended.load(SeqCst), 0);
        family.token().cancel();
        family.join().unwrap();
        assert_eq!(ended.load(SeqCst), 3);
        assert!(!bystander.join().unwrap(), "a bystander was cancelled");
    });
}

/// The parent has ended; whoever still holds its handle or its token reaches its children.
#[rstest]
fn descendants_of_a_thread_that_has_ended(#[values(1, 2)] workers: usize) {
    fn orphan() -> JoinHandle<JoinHandle<bool>> {
        spawn(|_| {
            spawn(|token| {
                // The child has a child of its own, so that links are looked along.
                spawn(|_| yield_now()).join().unwrap();
                let inner = spawn(|token: &CancellationToken| {
                    while !token.is_cancelled() {
                        yield_now();
                    }
                });
                inner.join().unwrap();
                token.is_cancelled()
            })
        })
    }
    let _watchdog = Watchdog::new();
    runtime(workers).block_on(|| {
        for settle in [0, 20] {
            let parent = orphan();
            while !parent.is_finished() {
                yield_now();
            }
            (0..settle).for_each(|_| gvt::sleep_us(100));
            // No token of the parent was ever made; its handle can make one now.
            parent.token().cancel();
            assert!(parent.join().unwrap().join().unwrap());

            let parent = orphan();
            let token = parent.token();
            let child = parent.join().unwrap();
            (0..settle).for_each(|_| gvt::sleep_us(100));
            token.cancel();
            assert!(child.join().unwrap());
        }
    });
}

#[test]
fn tokens_and_handles_outlive_their_runtime() {
    let _watchdog = Watchdog::new();
    for _ in 0..50 {
        let runtime = runtime(2);
        let (result, token, child, grandchild) = runtime.block_on(|| {
            let kept = spawn(|_| String::from("kept"));
            let thread = spawn(|token| (token.clone(), token.child(), spawn(|token| token.clone())));
            let (token, child, grandchild) = thread.join().unwrap();
            (kept, token, child, grandchild.join().unwrap())
        });
        let unread = runtime.handle().spawn(|_| vec![1; 1000]);
        drop(runtime);
        assert!(result.is_finished());
        assert_eq!(result.name(), None);
        assert!(!child.is_cancelled() && !grandchild.is_cancelled());
        std::thread::spawn(move || {
            token.cancel();
            assert!(token.is_cancelled() && child.is_cancelled() && grandchild.is_cancelled());
            drop(grandchild.clone());
            assert_eq!(result.join().unwrap(), "kept");
            drop(unread);
        })
        .join()
        .unwrap();
    }
}

/// The last holder of anything of a runtime frees it, on whatever thread, in any order.
#[test]
fn what_outlives_a_runtime_is_dropped_anywhere() {
    let _watchdog = Watchdog::new();
    let other = runtime(2);
    for _ in 0..100 {
        let mortal = runtime(2);
        let tokens = mortal.block_on(|| {
            let handles: Vec<_> = (0..20).map(|_| spawn(CancellationToken::clone)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
        });
        let handles: Vec<_> = (0..20).map(|n| mortal.handle().spawn(move |_| n)).collect();
        let droppers: Vec<_> =
            tokens.into_iter().map(|token| other.handle().spawn(move |_| token.cancel())).collect();
        let joiners: Vec<_> = handles.into_iter().map(|h| std::thread::spawn(|| h.join().unwrap())).collect();
        drop(mortal);
        droppers.into_iter().for_each(|dropper| dropper.join().unwrap());
        assert_eq!(joiners.into_iter().map(|j| j.join().unwrap()).sum::<i32>(), 190);
    }
}

/// Records of a long chain whose threads were all alive at once, kept by one token outside.
#[test]
fn a_deep_family_is_freed_without_recursion() {
    let _watchdog = Watchdog::new();
    let runtime =
        Runtime::builder().workers(2).slots(gvt::MmapSlots::default().slot_size(64 << 10)).build().unwrap();
    for inside in [false, true] {
        let token = runtime.block_on(|| nested(10_000, CancellationToken::clone));
        assert!(!token.is_cancelled());
        if inside {
            runtime.block_on(|| spawn(move |_| drop(token)).join().unwrap());
        } else {
            // A small stack, so that a recursion shows.
            let dropper = std::thread::Builder::new().stack_size(128 << 10);
            dropper.spawn(move || drop(token)).unwrap().join().unwrap();
        }
    }
}

/// What a link of the chain does besides spawning its successor.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Link {
    Plain,
    /// It goes on for a while, so that its successor runs first.
    Lingers,
    /// It makes tokens.
    Clones,
    /// It has another child, which ends.
    SecondChild,
}

fn link(kind: Link, left: u32, done: Arc<AtomicBool>) {
    if left == 0 {
        return done.store(true, SeqCst);
    }
    let successor = move |token: &CancellationToken| {
        if kind == Link::Clones {
            drop((token.clone(), token.child()));
        }
        if kind == Link::SecondChild && left.is_multiple_of(2) {
            spawn(|_| ()).join().unwrap();
        }
        link(kind, left - 1, done);
        if kind == Link::Lingers && left.is_multiple_of(3) {
            yield_now();
        }
    };
    drop(spawn(successor));
}

/// Each thread spawns the next and ends: what ended long ago must not be kept. A runtime with room for
/// few threads notices.
#[rstest]
fn a_chain_of_successors_keeps_no_records(
    #[values(1, 2, 8)] workers: usize,
    #[values(Link::Plain, Link::Lingers, Link::Clones, Link::SecondChild)] kind: Link,
) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(workers).max_gvthreads(1_000));
    let done = Arc::new(AtomicBool::new(false));
    let first = done.clone();
    runtime.handle().spawn(move |_| link(kind, 100_000, first)).join().unwrap();
    assert!(becomes(|| runtime.live_threads() == 0), "the chain hangs");
    assert!(done.load(SeqCst), "a link was refused: the chain keeps its records");
}

/// Tokens are made and asked while the thread spawns: links are looked along while they change.
#[test]
fn links_change_while_they_are_looked_along() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(4);
    runtime.block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        // Threads that are cancelled all the time; nobody else is their descendant.
        let noise = {
            let stop = stop.clone();
            spawn(move |_| {
                while !stop.load(SeqCst) {
                    spawn(|token| token.cancel()).join().unwrap();
                }
            })
        };
        for _ in 0..2_000 {
            let watched = spawn(|_| {
                spawn(|_| {
                    yield_now();
                    spawn(|_| yield_now()).join().unwrap();
                    yield_now();
                })
            })
            .join()
            .unwrap();
            while !watched.is_finished() {
                assert!(!watched.token().is_cancelled(), "cancelled by a stranger");
                yield_now();
            }
        }
        stop.store(true, SeqCst);
        noise.join().unwrap();
    });
}

#[test]
fn shutdown_cancels_the_root() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let handle: Handle = runtime.handle();
    let outside = CancellationToken::new();
    let aloof = outside.child();
    let threads: Vec<_> = (0..10)
        .map(|_| {
            handle.spawn(|_| {
                nested(5, |token| {
                    while !token.is_cancelled() {
                        gvt::sleep_us(100);
                    }
                })
            })
        })
        .collect();
    runtime.shutdown();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(!aloof.is_cancelled());
}

/// One link of a chain: it spawns the next while the one before still runs, and ends when the next has
/// spawned in its turn.
fn successor(left: u32, named: bool, has_spawned: gvt::Sender<()>, end: gvt::Sender<bool>, cancelled: bool) {
    let token = gvt::current_token().unwrap();
    assert_eq!(token.is_cancelled(), cancelled);
    assert_eq!(token.reason().is_some(), cancelled);
    drop(token);
    if left == 0 {
        end.send(true).unwrap();
        return;
    }
    let (tell, told) = gvt::channel(1);
    let builder = Builder::new();
    let builder = if named { builder.name("link") } else { builder };
    let spawned = builder.spawn(move |_| successor(left - 1, named, tell, end, cancelled));
    drop(spawned.expect("the records of those that have ended are free again"));
    let _ = has_spawned.send(());
    let _ = told.recv();
}

/// A chain of successors keeps few of its records, whatever is known of its threads.
#[rstest]
fn chains_of_successors_do_not_grow(
    #[values(1, 2)] workers: usize,
    #[values(false, true)] named: bool,
    #[values(None, Some(None), Some(Some("words")))] cancelled: Option<Option<&'static str>>,
) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).max_gvthreads(100).build().unwrap();
    let ended = runtime.block_on(|| {
        let (end, ended) = gvt::channel(1);
        let (go, wait) = gvt::channel::<()>(1);
        let (tell, _told) = gvt::channel(1);
        let first = spawn(move |_| {
            wait.recv().unwrap();
            successor(2000, named, tell, end, cancelled.is_some());
        });
        match cancelled {
            None => {}
            Some(None) => first.token().cancel(),
            Some(Some(words)) => first.token().cancel_because(words),
        }
        drop(first);
        go.send(()).unwrap();
        ended.recv()
    });
    assert_eq!(ended, Ok(true));
}

/// A token that is lent to OS threads is looked at by them while its thread passes over ancestors.
#[test]
fn a_lent_token_is_looked_at_while_its_ancestors_go() {
    let _watchdog = Watchdog::new();
    let trial = |token: &CancellationToken| {
        let (stop, looks) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                while !stop.load(SeqCst) {
                    assert!(token.is_cancelled());
                    assert!(token.reason().is_some());
                    looks.store(true, SeqCst);
                }
            });
            while !looks.load(SeqCst) {
                std::thread::yield_now();
            }
            drop(spawn(|_| ()));
            stop.store(true, SeqCst);
            looker.join().is_ok()
        })
    };
    let runtime = Runtime::builder().workers(1).enable_forced_preempt(false).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..2000 {
            let (go, wait) = gvt::channel::<()>(1);
            let outer = spawn(move |_| {
                let inner = spawn(move |_| {
                    spawn(move |token| {
                        wait.recv().unwrap();
                        trial(token)
                    })
                });
                inner.join().unwrap()
            });
            outer.token().cancel();
            let last = outer.join().unwrap();
            go.send(()).unwrap();
            assert!(last.join().unwrap(), "a look at a cancelled token said that it is not");
        }
    });
}
