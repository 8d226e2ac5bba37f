//! Laws that one OS thread can check: building, completeness, low-priority workers, hints.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gvt_traits::{Factory, Plan, Priority, PushKind, ReadyQueue};

use super::rig::{Dice, KINDS, Rig, demand, from_panic, guarded};
use crate::threads::put_away;
use crate::{Verdict, Violation};

/// Workers, and how many of them run only Low threads.
const PLANS: [(usize, usize); 8] = [(1, 0), (2, 0), (3, 0), (64, 0), (2, 1), (3, 1), (6, 4), (64, 32)];

/// What a scripted law may push: from each worker in each kind, and from outside.
#[derive(Clone, Copy, Debug)]
enum Source {
    Worker(usize, PushKind),
    Outside,
}

fn sources(workers: usize) -> Vec<Source> {
    let workers = [0, 1, workers / 2, workers - 1].into_iter().filter(move |&worker| worker < workers);
    let mut sources: Vec<_> =
        workers.flat_map(|worker| KINDS.map(|kind| Source::Worker(worker, kind))).collect();
    sources.push(Source::Outside);
    sources
}

fn push<Q: ReadyQueue>(rig: &mut Rig<Q>, source: Source, index: usize) {
    match source {
        Source::Worker(worker, kind) => rig.push(worker, index, kind),
        Source::Outside => rig.inject(index),
    }
}

/// F1, F2: a factory builds for any plan, again and again, and what it builds is independent. A plan that
/// it cannot serve is an `Err`; plans with normal workers only can be served.
pub fn f1_builds<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    for (workers, low) in PLANS.into_iter().chain([(0, 0), (65, 0), (1, 1), (2, 5)]) {
        let plan = Plan::new(workers, 10).with_low_priority_workers(low);
        let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| factory.build(&plan)));
        match built {
            Err(panic) => {
                return Err(Violation::new("F2", format!("{plan:?}: {}", from_panic(&*panic).what)));
            }
            Ok(Err(error)) => demand(low > 0 || workers == 0 || workers > 64, "F1", || {
                format!("{plan:?} was refused: {error}")
            })?,
            Ok(Ok(queue)) => drop(queue),
        }
    }
    guarded(|| {
        let mut first = Rig::normal(factory, 2, 4)?;
        let mut second = Rig::normal(factory, 2, 4)?;
        for index in 0..2 {
            first.push(0, index, PushKind::Yield);
            first.inject(index + 2);
        }
        let stray = second.queue.pop(&mut second.locals[1]).map(put_away);
        demand(stray.is_none() && !second.queue.has_work(&second.locals[0]), "F1", || {
            format!("{stray:?}, pushed to one queue, came out of another that the same factory built")
        })?;
        second.inject(0);
        first.finish()?;
        second.finish()
    })
}

/// Q1: whatever is pushed, from wherever, in whatever order, comes out once.
pub fn q1_exactly_once<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in PLANS {
            let Some(mut rig) = Rig::new(factory, workers, low, 700)? else { continue };
            let mut dice = Dice(workers as u64);
            for index in 0..700 {
                rig.threads.set_priority(index, Priority::ALL[dice.roll(4)]);
            }
            for step in 0..20_000 {
                // Waves, so that it runs full and empty by turns.
                let pushing = if step / 2_000 % 2 == 0 { 7 } else { 3 };
                let index = dice.roll(700);
                let worker = dice.roll(workers);
                if dice.roll(4) == 0 {
                    rig.expedite(worker, dice.roll(700));
                }
                if dice.roll(10) >= pushing {
                    rig.pop(worker)?;
                } else if !rig.is_queued(index) {
                    match dice.roll(4) {
                        0 => rig.inject(index),
                        _ => rig.push(worker, index, dice.kind()),
                    }
                }
            }
            rig.finish()?;
        }
        Ok(())
    })
}

/// Q1, Q3: many more than any ring holds, pushed by one worker or from outside, come out once, to the
/// one who pushed and to another.
pub fn q1_floods<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2, 3] {
            for source in sources(workers) {
                let mut rig = Rig::normal(factory, workers, 3_000)?;
                (0..3_000).for_each(|index| push(&mut rig, source, index));
                for _ in 0..500 {
                    rig.pop(0)?;
                }
                rig.drain(workers - 1)?;
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q2: `pop` returns at once when there is nothing: on a fresh queue and on one run empty. Waits
/// `patience` before it says that it does not; a minute is not too long for a queue that is right.
pub fn q2_empty_pop_within<F>(factory: &F, patience: Duration) -> Verdict
where
    F: Factory<Output: ReadyQueue>,
{
    for workers in [1, 4] {
        let mut rig = Rig::normal(factory, workers, 2)?;
        let (report, reports) = mpsc::channel();
        // Not scoped: a thread that never returns from `pop` must not hold up the law.
        thread::spawn(move || {
            let verdict = guarded(|| {
                rig.pop(0)?;
                rig.push(0, 0, PushKind::Wake);
                rig.inject(1);
                for _ in 0..4 {
                    rig.pop(workers - 1)?;
                }
                rig.finish()
            });
            let _ = report.send(verdict);
        });
        match reports.recv_timeout(patience) {
            Ok(verdict) => verdict?,
            Err(_) => {
                return Err(Violation::new(
                    "Q2",
                    format!("`pop` on an empty queue took more than {patience:?}"),
                ));
            }
        }
    }
    Ok(())
}

/// Q2, with the patience of a minute.
pub fn q2_empty_pop<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    q2_empty_pop_within(factory, Duration::from_secs(60))
}

/// Q3: whatever is queued, each worker finds it, wherever it was pushed, few or many, also when its
/// owner has popped some.
pub fn q3_found_by_all<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in PLANS {
            for source in sources(workers) {
                for (count, popped) in [(1, 0), (2, 0), (3, 1), (5, 4), (300, 0), (300, 17)] {
                    let Some(mut rig) = Rig::new(factory, workers, low, count)? else { continue };
                    (0..count).for_each(|index| push(&mut rig, source, index));
                    let owner = match source {
                        Source::Worker(worker, _) if !rig.is_low_worker(worker) => worker,
                        _ => 0,
                    };
                    for _ in 0..popped {
                        rig.pop(owner)?;
                    }
                    let normal = workers - low;
                    let finder = (owner + 1) % normal;
                    rig.has_work(finder)?;
                    rig.drain(finder)?;
                    rig.finish()?;
                }
            }
        }
        Ok(())
    })
}

/// Q3: with no other call under way, `has_work` says for each worker exactly whether something is queued
/// that it may run.
pub fn q3_has_work_exact<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in PLANS {
            let Some(mut rig) = Rig::new(factory, workers, low, 3)? else { continue };
            for source in sources(workers) {
                for pusher_pops in [0, 1] {
                    (0..workers).try_for_each(|worker| rig.has_work(worker))?;
                    for index in 0..3 {
                        push(&mut rig, source, index);
                        (0..workers).try_for_each(|worker| rig.has_work(worker))?;
                    }
                    for step in 0..3 {
                        rig.pop(if pusher_pops == 1 { 0 } else { step % (workers - low) })?;
                        (0..workers).try_for_each(|worker| rig.has_work(worker))?;
                    }
                }
            }
            rig.finish()?;
        }
        Ok(())
    })
}

/// Q5: a low-priority worker is given Low threads and no others, all Low threads find their way to it
/// wherever they were pushed, and `has_work` tells it of them alone.
pub fn q5_low_workers<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in PLANS.into_iter().filter(|&(_, low)| low > 0) {
            for source in sources(workers) {
                let Some(mut rig) = Rig::new(factory, workers, low, 400)? else { continue };
                for index in 0..400 {
                    rig.threads.set_priority(index, Priority::ALL[index % 4]);
                    push(&mut rig, source, index);
                    rig.has_work(workers - 1)?;
                }
                let found = rig.drain(workers - 1)?;
                demand(found.len() == 100, "Q5", || {
                    format!(
                        "of 100 Low threads pushed from {source:?}, a low-priority worker got {}",
                        found.len()
                    )
                })?;
                (0..workers).try_for_each(|worker| rig.has_work(worker))?;
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q5: only low-priority workers are told apart; a plan without them serves Low threads everywhere.
pub fn q5_low_threads_elsewhere<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 3] {
            for source in sources(workers) {
                let mut rig = Rig::normal(factory, workers, 40)?;
                for index in 0..40 {
                    rig.threads.set_priority(index, Priority::Low);
                    push(&mut rig, source, index);
                }
                rig.drain(workers - 1)?;
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q7: `upcoming` and `len_hint` change nothing, and `expedite` nothing but the order, whatever they are
/// asked and whenever; what `upcoming` returns is the record of a thread.
pub fn q7_hints<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    let ask = |rig: &mut Rig<F::Output>| -> Verdict {
        for worker in 0..rig.plan.workers {
            for distance in [0, 1, 2, 3, 7, 63, 64, 255, 256, 257, 1 << 20, usize::MAX] {
                let hint = rig.upcoming(worker, distance);
                let known = |record| (0..rig.threads.len()).any(|index| rig.threads.record(index) == record);
                demand(hint.is_none_or(known), "Q7", || {
                    format!("`upcoming` returned {hint:?}, which is no record")
                })?;
            }
        }
        let _ = rig.queue.len_hint();
        for worker in 0..rig.plan.workers {
            (0..300).step_by(7).for_each(|index| rig.expedite(worker, index));
        }
        Ok(())
    };
    guarded(|| {
        for (workers, low) in [(1, 0), (3, 0), (3, 1)] {
            for source in sources(workers) {
                let Some(mut rig) = Rig::new(factory, workers, low, 300)? else { continue };
                ask(&mut rig)?;
                for index in 0..300 {
                    push(&mut rig, source, index);
                    if index % 50 == 0 {
                        ask(&mut rig)?;
                    }
                }
                for step in 0..300 {
                    if step % 50 == 0 {
                        ask(&mut rig)?;
                    }
                    // What goes missing here, the hints took.
                    let popped = rig.pop(0).map_err(|violation| Violation::new("Q7", violation.what))?;
                    demand(popped.is_some(), "Q7", || "a hint took a thread away".into())?;
                }
                ask(&mut rig)?;
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q8: with no other call under way `len_hint` is 0 exactly when nothing is queued: whoever pushed it, in
/// whatever kind and level, whoever takes it.
pub fn q8_len_hint<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in PLANS {
            let Some(mut rig) = Rig::new(factory, workers, low, 4)? else { continue };
            for source in sources(workers) {
                for popper in [0, workers - low - 1] {
                    rig.len_hint()?;
                    for index in 0..4 {
                        rig.threads.set_priority(index, Priority::ALL[index]);
                        push(&mut rig, source, index);
                        rig.len_hint()?;
                    }
                    for _ in 0..4 {
                        rig.pop(popper)?;
                        rig.len_hint()?;
                    }
                }
            }
            rig.finish()?;
        }
        // Waves that run full and empty by turns, across rings and lists of any size.
        for (workers, low) in [(1, 0), (3, 0), (3, 1)] {
            let Some(mut rig) = Rig::new(factory, workers, low, 1_500)? else { continue };
            let mut dice = Dice(8);
            for wave in 0..6 {
                for index in 0..[1_500, 3, 300][wave % 3] {
                    let from = sources(workers);
                    push(&mut rig, from[dice.roll(from.len())], index);
                    rig.len_hint()?;
                }
                while rig.pop(dice.roll(workers - low))?.is_some() {
                    rig.len_hint()?;
                }
                rig.len_hint()?;
            }
            rig.finish()?;
        }
        Ok(())
    })
}

/// B4: a worker moves from one OS thread to another between two calls.
pub fn b4_workers_move<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            let mut rig = Rig::normal(factory, workers, 400)?;
            let mut dice = Dice(4);
            for step in 0..200 {
                let index = dice.roll(400);
                let worker = step % workers;
                let elsewhere = thread::scope(|scope| {
                    let call = scope.spawn(|| {
                        guarded(|| match dice.roll(8) {
                            0..=3 if !rig.is_queued(index) => {
                                rig.push(worker, index, dice.kind());
                                Ok(())
                            }
                            4 if !rig.is_queued(index) => {
                                rig.inject(index);
                                Ok(())
                            }
                            _ => rig.has_work(worker).and_then(|()| rig.pop(worker)).map(drop),
                        })
                    });
                    call.join().unwrap_or_else(|panic| Err(from_panic(&*panic)))
                });
                elsewhere.map_err(|violation| {
                    Violation::new("B4", format!("when workers moved between OS threads: {violation}"))
                })?;
            }
            rig.finish()?;
        }
        Ok(())
    })
}
