//! Trees of threads are walked depth first, whichever way their threads are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{CancellationToken, Runtime, SchedulerConfig, TaskSet, join_all, scope};
use gvt_conformance::process::Watchdog;
use rstest::rstest;

/// Threads that have started and not ended, each with a stack.
#[derive(Default)]
struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Waits {
    /// Joins, the newest thread first.
    Joins,
    /// The scope; handles go at once.
    Scope,
    /// The scope; handles go when its closure ends.
    ScopeLate,
    JoinAll,
    /// The destructor of a `TaskSet`.
    SetDropped,
}

/// A tree of threads with `arity` children each.
fn grow(alive: &Arc<Alive>, levels: u32, arity: usize, waits: Waits) {
    if levels == 0 {
        return;
    }
    let child = || {
        let alive = alive.clone();
        move |_: &CancellationToken| {
            alive.most.fetch_max(alive.now.fetch_add(1, SeqCst) + 1, SeqCst);
            grow(&alive, levels - 1, arity, waits);
            alive.now.fetch_sub(1, SeqCst);
            alive.all.fetch_add(1, SeqCst);
        }
    };
    let children = (0..arity).map(|_| child());
    match waits {
        Waits::Joins => scope(|s| {
            let handles: Vec<_> = children.map(|child| s.spawn(child)).collect();
            handles.into_iter().rev().for_each(|handle| handle.join().unwrap());
        }),
        Waits::Scope => scope(|s| children.for_each(|child| drop(s.spawn(child)))),
        Waits::ScopeLate => scope(|s| {
            let _handles: Vec<_> = children.map(|child| s.spawn(child)).collect();
        }),
        Waits::JoinAll => {
            let results = join_all(children.map(|child| gvt::spawn(child)));
            assert!(results.iter().all(Result::is_ok));
        }
        Waits::SetDropped => {
            let mut set = TaskSet::<(), ()>::new();
            for child in children {
                set.spawn(move |token| {
                    child(token);
                    Ok(())
                });
            }
        }
    }
}

#[rstest]
fn depth_first(
    #[values(1, 2)] workers: usize,
    #[values((15, 2), (5, 8))] (levels, arity): (u32, usize),
    #[values(Waits::Scope, Waits::ScopeLate, Waits::JoinAll, Waits::SetDropped)] waits: Waits,
) {
    let most = |waits| {
        let _watchdog = Watchdog::new();
        let alive = Arc::new(Alive::default());
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(workers));
        runtime.block_on(|| grow(&alive, levels, arity, waits));
        let threads: usize = (1..=levels).map(|level| arity.pow(level)).sum();
        assert_eq!(alive.all.load(SeqCst), threads);
        alive.most.load(SeqCst)
    };
    let (joins, others) = (most(Waits::Joins), most(waits));
    assert!(others <= 4 * joins, "{waits:?}: {others} stacks; with joins, {joins}");
}
