//! Any script of calls against a naive model: the set of queued threads.

use std::cell::RefCell;

use gvt_traits::{Factory, Order, Priority, PushKind, ReadyQueue};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::rig::{KINDS, Rig, demand, guarded};
use crate::{Verdict, Violation};

/// One call; the worker's number is taken modulo how many there are.
#[derive(Clone, Debug)]
enum Call {
    Push { worker: usize, kind: PushKind, level: Priority },
    Inject { level: Priority },
    Pop { worker: usize, times: usize },
    HasWork { worker: usize },
    Upcoming { worker: usize, distance: usize },
    LenHint,
}

fn call() -> impl Strategy<Value = Call> {
    let level = || prop::sample::select(Priority::ALL.to_vec());
    prop_oneof![
        5 => (0..8usize, prop::sample::select(KINDS.to_vec()), level())
            .prop_map(|(worker, kind, level)| Call::Push { worker, kind, level }),
        2 => level().prop_map(|level| Call::Inject { level }),
        5 => (0..8usize, 1..4usize).prop_map(|(worker, times)| Call::Pop { worker, times }),
        1 => (0..8usize).prop_map(|worker| Call::HasWork { worker }),
        1 => (0..8usize, 0..400usize).prop_map(|(worker, distance)| Call::Upcoming { worker, distance }),
        1 => Just(Call::LenHint),
    ]
}

fn plan() -> impl Strategy<Value = (usize, usize)> {
    prop::sample::select(vec![(1, 0), (2, 0), (3, 0), (7, 0), (2, 1), (4, 2)])
}

/// Pops in a row that a worker may make before a Critical thread that it pushed or that came from outside.
const FEW: usize = 2;

/// The rig is the model: it knows who is queued, and checks Q1, Q3, Q5 and Q8 at each call. Strict order is
/// checked here, and of other orders of levels what a worker passes over.
fn agrees<F: Factory<Output: ReadyQueue>>(factory: &F, plan: (usize, usize), script: &[Call]) -> Verdict {
    guarded(|| {
        let (workers, low) = plan;
        let Some(mut rig) = Rig::new(factory, workers, low, script.len())? else { return Ok(()) };
        let order = <F::Output as ReadyQueue>::ORDER;
        let strict = order == Order::StrictPriority;
        // Who pushed each, if a worker did; and how many others each worker has popped since it last popped a
        // Critical one.
        let mut pushed_by = vec![None; script.len()];
        let mut passed = vec![0; workers];
        for (index, call) in script.iter().enumerate() {
            match *call {
                Call::Push { worker, kind, level } => {
                    rig.threads.set_priority(index, level);
                    pushed_by[index] = Some(worker % workers);
                    rig.push(worker % workers, index, kind);
                }
                Call::Inject { level } => {
                    rig.threads.set_priority(index, level);
                    rig.inject(index);
                }
                Call::Pop { worker, times } => {
                    let worker = worker % workers;
                    for _ in 0..times {
                        let best = (0..index)
                            .filter(|&other| rig.is_queued(other))
                            .map(|other| rig.priority(other))
                            .min();
                        let critical = (0..index).any(|other| {
                            rig.is_queued(other)
                                && rig.priority(other) == Priority::Critical
                                && pushed_by[other].is_none_or(|by| by == worker)
                        });
                        let popped = rig.pop(worker)?.map(|other| rig.priority(other));
                        let passes = critical && popped != Some(Priority::Critical);
                        passed[worker] = if passes { passed[worker] + 1 } else { 0 };
                        let heeds = order != Order::Fair && !rig.is_low_worker(worker);
                        demand(!heeds || passed[worker] <= FEW, "Q4", || {
                            format!("worker {worker} popped {} others before a Critical one", passed[worker])
                        })?;
                        demand(!strict || popped == best || rig.is_low_worker(worker), "Q4", || {
                            format!("{popped:?} was popped while {best:?} was queued")
                        })?;
                    }
                }
                Call::HasWork { worker } => rig.has_work(worker % workers)?,
                Call::Upcoming { worker, distance } => {
                    let _ = rig.upcoming(worker % workers, distance);
                }
                Call::LenHint => rig.len_hint()?,
            }
        }
        rig.finish()
    })
}

/// Q1, Q3–Q5, Q7, Q8: whatever is called in whatever order, the queue agrees with a set.
///
/// A failure names the shortest script that proptest found, which is enough to repeat it.
pub fn agrees_with_model<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let scripts = (plan(), prop::collection::vec(call(), 1..600));
    let last = RefCell::new(None);
    let outcome = TestRunner::new(config).run(&scripts, |(plan, script)| {
        agrees(factory, plan, &script).map_err(|violation| {
            let reason = violation.to_string();
            *last.borrow_mut() = Some(violation);
            TestCaseError::fail(reason)
        })
    });
    match (outcome, last.into_inner()) {
        (Err(TestError::Fail(_, (plan, script))), Some(violation)) => Err(Violation::new(
            violation.clause,
            format!("{}; workers, low-priority workers: {plan:?}; script: {script:?}", violation.what),
        )),
        (Err(error), _) => Err(Violation::new("B3", error.to_string())),
        (Ok(()), _) => Ok(()),
    }
}
