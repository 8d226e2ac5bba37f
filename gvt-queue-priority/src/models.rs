//! loom models of the bitmaps' protocol, on the code itself; each also with planted defects that it must see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p gvt-queue-priority --release --lib --target-dir target-loom`
//!
//! **What they cannot see.** The deques, for which lists behind a lock stand in; more than three OS threads
//! or three preemptions. The runtime's half of the idle protocol is a stand-in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use gvt_traits::{Factory, GvtId, Metadata, Plan, PushFence, PushKind, ReadyQueue, Runnable, WorkerId};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use loom::thread;

use crate::sync::{Mutant, PLANTED, mutant};
use crate::{PriorityLocal, PriorityQueues, Strict, StrictPriorityQueue};

type Queue = PriorityQueues<Strict>;
type Local = PriorityLocal<Strict>;

static RECORDS: [Metadata; 4] = {
    let mut records = [const { Metadata::new(GvtId::new(0)) }; 4];
    let mut index = 0;
    while index < 4 {
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

fn queue(workers: usize) -> (Arc<Queue>, Vec<Local>) {
    let queue = StrictPriorityQueue.build(&Plan::new(workers, 4)).expect("a plan that works");
    let locals = (0..workers).map(|index| queue.local(WorkerId::new(index))).collect();
    (Arc::new(queue), locals)
}

fn drain(queue: &Queue, local: &mut Local) -> Vec<usize> {
    std::iter::from_fn(|| queue.pop(local)).map(whose).collect()
}

/// A worker that goes to sleep announces it, fences, looks, and sleeps; a pusher pushes, fences as Q6
/// demands, and looks for sleepers. Not both may look in vain.
fn nobody_sleeps_beside(
    mutants: &[Mutant],
    push: impl Fn(&Queue, &mut Local) + Copy + Send + Sync + 'static,
) {
    assert_eq!(Queue::PUSH_FENCE, PushFence::ByRuntime);
    holds_but_not_with(mutants, move || {
        let (queue, mut locals) = queue(2);
        let announced = Arc::new(AtomicUsize::new(0));
        let (sleeper, mut pusher) = (locals.pop().expect("two"), locals.pop().expect("two"));
        let idle = thread::spawn({
            let (queue, announced) = (queue.clone(), announced.clone());
            move || {
                announced.store(1, SeqCst);
                fence(SeqCst);
                let sleeps = !queue.has_work(&sleeper);
                (sleeps, sleeper)
            }
        });
        push(&queue, &mut pusher);
        if !mutant(Mutant::NoFence) {
            fence(SeqCst);
        }
        let wakes = announced.load(SeqCst) == 1;
        let (sleeps, sleeper) = idle.join().expect("the sleeper's run");
        let queued = drain(&queue, &mut pusher);
        drop(sleeper);
        assert!(wakes || !sleeps, "Q6: a worker sleeps beside {queued:?}, and nobody wakes it");
    });
}

#[test]
fn nobody_sleeps_beside_a_push() {
    nobody_sleeps_beside(&[Mutant::NotAnnounced, Mutant::NoFence], |queue, local| {
        queue.push(local, token(0), PushKind::Wake);
    });
}

#[test]
fn nobody_sleeps_beside_a_second_push() {
    nobody_sleeps_beside(&[Mutant::StillAnnounced, Mutant::NoFence], |queue, local| {
        queue.push(local, token(0), PushKind::Wake);
        // Found empty once, so that the worker takes its bit back.
        while let Some(task) = queue.pop(local) {
            whose(task);
        }
        queue.push(local, token(1), PushKind::Wake);
    });
}

#[test]
fn nobody_sleeps_beside_what_comes_from_outside() {
    nobody_sleeps_beside(&[Mutant::NoFence], |queue, _| queue.inject(token(0)));
}

/// Owner pushes while a thief finds its deque empty or takes; what is then left each worker finds.
#[test]
fn bits_survive_theft() {
    holds_but_not_with(&[Mutant::ThiefRetracts], || {
        let (queue, mut locals) = queue(2);
        let (mut thief, mut owner) = (locals.pop().expect("two"), locals.pop().expect("two"));
        queue.push(&mut owner, token(0), PushKind::Wake);
        let theft = thread::spawn({
            let queue = queue.clone();
            move || {
                let seen: Vec<usize> = (0..2).filter_map(|_| queue.pop(&mut thief)).map(whose).collect();
                (seen, thief)
            }
        });
        queue.push(&mut owner, token(1), PushKind::Wake);
        queue.push(&mut owner, token(2), PushKind::Wake);
        let (mut seen, mut thief) = theft.join().expect("the thief's run");
        seen.extend(drain(&queue, &mut thief));
        assert!(!queue.has_work(&thief), "Q3");
        let left = drain(&queue, &mut owner);
        assert!(left.is_empty(), "Q3: the thief did not find {left:?}");
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2], "Q1: each token once");
    });
}
