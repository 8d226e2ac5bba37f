//! loom models of the protocols, on the code itself; each also with planted defects that it must see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p gvt-queue-go --release --lib --target-dir target-loom`
//!
//! **What they cannot see.** Rings have 4 places, inboxes 2; three OS threads; at most three
//! preemptions in a run. The runtime's half of the idle protocol is a stand-in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use gvt_traits::{Factory, GvtId, Metadata, Plan, Priority, PushKind, ReadyQueue, Runnable, WorkerId};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::ring::{Publish, Stolen};
use crate::sync::{Mutant, PLANTED};
use crate::{GoLocal, GoQueue, GoQueues, next_up, ring};

static RECORDS: [Metadata; 8] = {
    let mut records = [const { Metadata::new(GvtId::new(0)) }; 8];
    let mut index = 0;
    while index < 8 {
        records[index] = Metadata::new(GvtId::new(index as u32));
        index += 1;
    }
    records
};

/// Thread `index`'s token; each model makes it once a run.
fn token(index: usize) -> Runnable {
    // SAFETY: C1: static. C2: the runs of a model, one after the other, make one each.
    unsafe { Runnable::from_raw(NonNull::from(&RECORDS[index])) }
}

static CRITICAL: [Metadata; 2] = [
    Metadata::new(GvtId::new(100)).with_priority(Priority::Critical),
    Metadata::new(GvtId::new(101)).with_priority(Priority::Critical),
];

/// The token of Critical thread `100 + index`, as [`token`].
fn critical(index: usize) -> Runnable {
    // SAFETY: as in `token`.
    unsafe { Runnable::from_raw(NonNull::from(&CRITICAL[index])) }
}

/// Puts a token away and says whose it was.
fn whose(task: Runnable) -> usize {
    let id = task.id().index() as usize;
    let _ = task.into_raw();
    id
}

/// The model must hold, and must fail with each of `mutants`.
fn holds_but_not_with(mutants: &[Mutant], model: impl Fn() + Copy + Send + Sync + 'static) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = move |planted: usize| {
        PLANTED.store(planted, Relaxed);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        catch_unwind(AssertUnwindSafe(|| builder.check(model)))
    };
    let verdict = run(0);
    let survivors: Vec<_> = mutants.iter().filter(|&&mutant| run(mutant as usize).is_ok()).collect();
    PLANTED.store(0, Relaxed);
    if let Err(panic) = verdict {
        std::panic::resume_unwind(panic);
    }
    assert!(survivors.is_empty(), "the model does not see these defects: {survivors:?}");
}

fn each_once(mut seen: Vec<usize>, count: usize) {
    seen.sort_unstable();
    assert_eq!(seen, (0..count).collect::<Vec<_>>(), "Q1: each token once");
}

/// A thief's catch, with what lies in its own ring.
fn catch<const N: usize, const M: usize>(victim: &ring::Stealer<N>, mine: &mut ring::Owner<M>) -> Vec<usize> {
    match victim.steal_into(mine) {
        Stolen::Got(first) => {
            std::iter::once(first).chain(std::iter::from_fn(|| mine.pop())).map(whose).collect()
        }
        Stolen::Nothing | Stolen::Raced => Vec::new(),
    }
}

/// Owner pops while a thief takes half.
#[test]
fn ring_pop_against_steal() {
    use Mutant::{PopWithoutCas, StealRelaxed, StealWithoutCas, TailRelaxed};
    holds_but_not_with(&[PopWithoutCas, StealWithoutCas, StealRelaxed, TailRelaxed], || {
        let (mut owner, stealer) = ring::ring::<4>();
        let thief = thread::spawn(move || catch(&stealer, &mut ring::ring::<2>().0));
        for index in 0..3 {
            owner.push(token(index), Publish::Plainly).expect("room for four");
        }
        let mut seen: Vec<usize> = owner.pop().into_iter().map(whose).collect();
        seen.extend(thief.join().expect("the thief's run"));
        seen.extend(std::iter::from_fn(|| owner.pop()).map(whose));
        each_once(seen, 3);
    });
}

/// The owner takes the newest entry back, and reuses its slot, while a thief takes half.
#[test]
fn ring_newest_against_steal() {
    holds_but_not_with(&[Mutant::NewestWithoutCas], || {
        let (mut owner, stealer) = ring::ring::<2>();
        for index in 0..2 {
            owner.push(token(index), Publish::Plainly).expect("room for two");
        }
        let thief = thread::spawn(move || {
            let mut mine = ring::ring::<2>().0;
            let mut caught = catch(&stealer, &mut mine);
            caught.extend(catch(&stealer, &mut mine));
            caught
        });
        let mut seen: Vec<usize> = owner.take_newest().into_iter().map(whose).collect();
        match owner.push(token(2), Publish::Plainly) {
            Ok(()) => {}
            Err(task) => seen.push(whose(task)),
        }
        seen.extend(owner.take_newest().map(whose));
        seen.extend(thief.join().expect("the thief's run"));
        seen.extend(std::iter::from_fn(|| owner.pop()).map(whose));
        each_once(seen, 3);
    });
}

/// The owner writes into slots that a thief is reading.
#[test]
fn ring_reuse_against_steal() {
    holds_but_not_with(&[Mutant::RoomUnchecked], || {
        let (mut owner, stealer) = ring::ring::<2>();
        for index in 0..2 {
            owner.push(token(index), Publish::Plainly).expect("room for two");
        }
        let thief = thread::spawn(move || catch(&stealer, &mut ring::ring::<2>().0));
        let mut seen = Vec::new();
        if let Err(task) = owner.push(token(2), Publish::Plainly) {
            seen.push(whose(task));
        }
        seen.extend(thief.join().expect("the thief's run"));
        seen.extend(std::iter::from_fn(|| owner.pop()).map(whose));
        each_once(seen, 3);
    });
}

/// Owner empties half of a full ring into the global list while a thief takes half.
#[test]
fn ring_overflow_against_steal() {
    holds_but_not_with(&[Mutant::StealWithoutCas], || {
        let (mut owner, stealer) = ring::ring::<4>();
        for index in 0..4 {
            owner.push(token(index), Publish::Plainly).expect("room for four");
        }
        let thief = thread::spawn(move || catch(&stealer, &mut ring::ring::<2>().0));
        let mut seen = Vec::new();
        match owner.push(token(4), Publish::Plainly) {
            Ok(()) => {}
            Err(task) => {
                seen.push(whose(task));
                if let Some(half) = owner.detach_half() {
                    seen.extend(half.map(whose));
                }
            }
        }
        seen.extend(thief.join().expect("the thief's run"));
        seen.extend(std::iter::from_fn(|| owner.pop()).map(whose));
        each_once(seen, 5);
    });
}

/// Owner puts, displaces and takes while a thief takes.
#[test]
fn next_up_take_against_steal() {
    use Mutant::{NextUpStealWithoutCas, TakeWithoutSwap};
    holds_but_not_with(&[TakeWithoutSwap, NextUpStealWithoutCas], || {
        let (mut owner, stealer) = next_up::next_up();
        let thief = thread::spawn(move || stealer.steal().into_iter().map(whose).collect::<Vec<_>>());
        let mut seen = Vec::new();
        seen.extend(owner.put(token(0)).map(whose));
        seen.extend(owner.put(token(1)).map(whose));
        seen.extend(owner.take().map(whose));
        seen.extend(thief.join().expect("the thief's run"));
        seen.extend(owner.take().map(whose));
        each_once(seen, 2);
    });
}

/// A queue for `workers` workers with their ends.
fn queue(workers: usize) -> (Arc<GoQueues>, Vec<GoLocal>) {
    let queue = GoQueue.build(&Plan::new(workers, 8)).expect("a plan that works");
    let locals = (0..workers).map(|index| queue.local(WorkerId::new(index))).collect();
    (Arc::new(queue), locals)
}

/// All that a worker can get.
fn drain(queue: &GoQueues, local: &mut GoLocal) -> Vec<usize> {
    std::iter::from_fn(|| queue.pop(local)).map(whose).collect()
}

/// A worker that goes to sleep announces it, looks, and sleeps; a pusher pushes and looks for
/// sleepers. Not both may look in vain (Q6).
fn nobody_sleeps_beside(push: impl Fn(&GoQueues, &mut GoLocal) + Copy + Send + Sync + 'static) {
    holds_but_not_with(&[Mutant::PublishWeak, Mutant::LookWeak], move || {
        let (queue, mut locals) = queue(2);
        let announced = Arc::new(AtomicUsize::new(0));
        let (sleeper, mut pusher) = (locals.pop().expect("two"), locals.pop().expect("two"));
        let idle = thread::spawn({
            let (queue, announced) = (queue.clone(), announced.clone());
            move || {
                announced.store(1, SeqCst);
                let sleeps = !queue.has_work(&sleeper);
                (sleeps, sleeper)
            }
        });
        push(&queue, &mut pusher);
        let wakes = announced.load(SeqCst) == 1;
        let (sleeps, sleeper) = idle.join().expect("the sleeper's run");
        let queued = drain(&queue, &mut pusher);
        drop(sleeper);
        assert!(!queued.is_empty(), "Q1");
        assert!(wakes || !sleeps, "Q6: a worker sleeps beside {queued:?}, and nobody wakes it");
    });
}

#[test]
fn idle_against_wake() {
    nobody_sleeps_beside(|queue, local| queue.push(local, token(0), PushKind::Wake));
}

#[test]
fn idle_against_displacing_wakes() {
    nobody_sleeps_beside(|queue, local| {
        (0..2).for_each(|index| queue.push(local, token(index), PushKind::Wake));
    });
}

#[test]
fn idle_against_timer() {
    nobody_sleeps_beside(|queue, local| queue.push(local, token(0), PushKind::Timer));
}

#[test]
fn idle_against_inject() {
    nobody_sleeps_beside(|queue, _| queue.inject(token(0)));
}

#[test]
fn idle_against_critical() {
    nobody_sleeps_beside(|queue, local| queue.push(local, critical(0), PushKind::Wake));
}

/// A Critical thread comes from outside while a worker takes another: once it has come it is popped next.
#[test]
fn a_bell_that_rings_is_answered() {
    holds_but_not_with(&[Mutant::BellClearedLate], || {
        let (queue, mut locals) = queue(2);
        (0..2).for_each(|index| queue.push(&mut locals[0], token(index), PushKind::Yield));
        queue.inject(critical(0));
        let outside = thread::spawn({
            let queue = queue.clone();
            move || queue.inject(critical(1))
        });
        let first = whose(queue.pop(&mut locals[0]).expect("Q3"));
        outside.join().expect("the push");
        let second = whose(queue.pop(&mut locals[0]).expect("Q3"));
        assert_eq!((first, second), (100, 101), "Q4: a Critical thread was passed over");
        drain(&queue, &mut locals[0]);
    });
}

/// While `mover` moves threads that were all queued before, `taker` takes some away and an observer
/// asks: as long as one of them has been queued throughout, there is work (Q3).
fn has_work_sees(
    mutants: &[Mutant],
    takes: usize,
    prepare: impl Fn(&GoQueues, &mut [GoLocal]) -> usize + Copy + Send + Sync + 'static,
    mover: impl Fn(&GoQueues, &mut GoLocal) -> Vec<usize> + Copy + Send + Sync + 'static,
) {
    holds_but_not_with(mutants, move || {
        let (queue, mut locals) = queue(3);
        let before = prepare(&queue, &mut locals);
        let (observer, mut taker, mut moving) =
            (locals.pop().expect("three"), locals.pop().expect("three"), locals.pop().expect("three"));
        let observed = thread::spawn({
            let queue = queue.clone();
            move || {
                let answer = queue.has_work(&observer);
                (answer, observer)
            }
        });
        let taken = thread::spawn({
            let queue = queue.clone();
            move || {
                let tasks: Vec<_> = (0..takes).filter_map(|_| queue.pop(&mut taker)).map(whose).collect();
                (tasks, taker)
            }
        });
        let mut gone = mover(&queue, &mut moving);
        let (answer, observer) = observed.join().expect("the observer's run");
        let (tasks, mut taker) = taken.join().expect("the taker's run");
        gone.extend(tasks);
        let left = (0..before).filter(|index| !gone.contains(index)).count();
        gone.extend(drain(&queue, &mut taker));
        gone.extend(drain(&queue, &mut moving));
        drop(observer);
        assert!(answer || left == 0, "Q3: `has_work` was false while {left} were queued throughout");
    });
}

const MOVES: [Mutant; 2] = [Mutant::MoveUnannounced, Mutant::MovesUnchecked];

#[test]
fn has_work_sees_a_displaced_thread() {
    has_work_sees(
        &MOVES,
        1,
        |queue, locals| {
            queue.push(&mut locals[0], token(0), PushKind::Wake);
            1
        },
        |queue, local| {
            queue.push(local, token(1), PushKind::Wake);
            Vec::new()
        },
    );
}

#[test]
fn has_work_sees_a_stolen_thread() {
    has_work_sees(
        &MOVES,
        1,
        |queue, locals| {
            (0..3).for_each(|index| queue.push(&mut locals[1], token(index), PushKind::Yield));
            3
        },
        |queue, local| queue.pop(local).into_iter().map(whose).collect(),
    );
}

#[test]
fn has_work_sees_a_thread_that_overflows() {
    has_work_sees(
        &MOVES,
        2,
        |queue, locals| {
            (0..4).for_each(|index| queue.push(&mut locals[0], token(index), PushKind::Yield));
            4
        },
        |queue, local| {
            queue.push(local, token(4), PushKind::Yield);
            Vec::new()
        },
    );
}

/// No defect to plant: the scan comes to the global list first, and that shrinks last.
#[test]
fn has_work_sees_a_batch_from_the_global_list() {
    has_work_sees(
        &[],
        1,
        |queue, _| {
            (0..3).for_each(|index| queue.inject(token(index)));
            3
        },
        |queue, local| queue.pop(local).into_iter().map(whose).collect(),
    );
}
