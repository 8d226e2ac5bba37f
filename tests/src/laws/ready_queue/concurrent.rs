//! Laws that need several OS threads at once: nothing lost or doubled under theft, `has_work` never
//! falsely false.
//!
//! **What they cannot see.** An interleaving rarer than some hundred thousand operations; that is for loom
//! models in the backend's crate.

use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, mpsc};
use std::thread;

use gvt_traits::{Factory, Plan, Priority, PushKind, ReadyQueue, Runnable, SchedError, WorkerId};

use super::rig::{Dice, Rig, demand, from_panic, guarded};
use crate::laws::midway::looks_wait_for_nobody;
use crate::threads::{Threads, put_away};
use crate::{Verdict, Violation};

/// Calls that each worker makes.
const CALLS: usize = if cfg!(debug_assertions) { 6_000 } else { 30_000 };

/// A thread's whereabouts, as the law knows them.
struct Record {
    queued: AtomicBool,
    /// Written by whoever holds the token, by a load and a store: two holders at once, or a holder that
    /// does not see what the one before did, make it wrong.
    runs: AtomicU64,
}

struct Storm {
    threads: Threads,
    records: Vec<Record>,
    /// Pops of all workers.
    pops: AtomicU64,
    broken: Mutex<Option<Violation>>,
}

impl Storm {
    fn new(count: usize) -> Self {
        let record = |_| Record { queued: AtomicBool::new(false), runs: AtomicU64::new(0) };
        Storm {
            threads: Threads::new(count),
            records: (0..count).map(record).collect(),
            pops: AtomicU64::new(0),
            broken: Mutex::new(None),
        }
    }

    fn report(&self, violation: Violation) {
        self.broken.lock().expect("nobody panics with it").get_or_insert(violation);
    }

    fn is_broken(&self) -> bool {
        self.broken.lock().expect("nobody panics with it").is_some()
    }

    /// Notes that a token is about to be pushed.
    fn entering(&self, task: &Runnable) {
        self.records[task.id().index() as usize].queued.store(true, SeqCst);
    }

    /// Notes that a token was popped; `false` if that was wrong.
    fn popped(&self, task: &Runnable, low_worker: bool) -> bool {
        let index = task.id().index() as usize;
        let record = &self.records[index];
        if !record.queued.swap(false, SeqCst) {
            self.report(Violation::new("Q1", format!("thread {index} was popped twice")));
            return false;
        }
        if low_worker && task.priority() != Priority::Low {
            self.report(Violation::new("Q5", format!("a low-priority worker was given {task:?}")));
        }
        // Relaxed: whether the queue orders it is what is being tested.
        record.runs.store(record.runs.load(Relaxed) + 1, Relaxed);
        self.pops.fetch_add(1, Relaxed);
        true
    }
}

/// Workers on OS threads of their own pop, push and steal while others inject. At the end everything
/// must come out once.
fn storm<F: Factory<Output: ReadyQueue>>(factory: &F, plan: &Plan, count: usize) -> Verdict {
    let queue = match factory.build(plan) {
        Ok(queue) => ManuallyDrop::new(queue),
        Err(SchedError::Config { .. }) if plan.low_priority_workers > 0 => return Ok(()),
        Err(error) => return Err(Violation::new("F1", format!("{plan:?} was refused: {error}"))),
    };
    let is_low = |worker| plan.low_priority_workers > 0 && plan.is_low_priority(worker);
    let law = Storm::new(count);
    let mut locals: Vec<_> =
        (0..plan.workers).map(|worker| ManuallyDrop::new(queue.local(WorkerId::new(worker)))).collect();
    for index in 0..count {
        law.threads.set_priority(index, Priority::ALL[index % 4]);
        // SAFETY: C1: each index once.
        let task = unsafe { law.threads.runnable(index) };
        law.entering(&task);
        queue.inject(task);
    }
    let (out, outside) = mpsc::channel::<Runnable>();
    let outside = Mutex::new(outside);
    thread::scope(|scope| {
        let (law, queue, outside, out) = (&law, &*queue, &outside, out);
        let mut running = Vec::new();
        for (worker, local) in locals.iter_mut().enumerate() {
            let out = out.clone();
            running.push(scope.spawn(move || {
                let mut dice = Dice(worker as u64);
                // Whom this worker has just pushed, which others may have taken since.
                let mut pushed: Option<std::ptr::NonNull<gvt_traits::Metadata>> = None;
                for _ in 0..CALLS {
                    if let Some(record) = pushed.take_if(|_| dice.roll(3) == 0) {
                        // SAFETY: records are never freed.
                        queue.expedite(local, unsafe { record.as_ref() });
                    }
                    let Some(task) = queue.pop(local) else {
                        if law.is_broken() {
                            break;
                        }
                        thread::yield_now();
                        continue;
                    };
                    if !law.popped(&task, is_low(worker)) {
                        put_away(task);
                        break;
                    }
                    if dice.roll(6) == 0 {
                        out.send(task).unwrap_or_else(|_| unreachable!("the receiver outlives the senders"));
                        continue;
                    }
                    law.entering(&task);
                    pushed = pushed.or(Some(task.as_ptr()));
                    queue.push(local, task, dice.kind());
                }
            }));
        }
        drop(out);
        for _ in 0..4 {
            running.push(scope.spawn(move || {
                loop {
                    let Ok(task) = outside.lock().expect("nobody panics with it").recv() else { break };
                    law.entering(&task);
                    queue.inject(task);
                }
            }));
        }
        for worker in running {
            if let Err(panic) = worker.join() {
                law.report(from_panic(&*panic));
            }
        }
    });
    if let Some(violation) = law.broken.lock().expect("nobody panics with it").take() {
        return Err(violation);
    }
    let hint = queue.len_hint();
    // The worker that saw the most of it takes all, and nothing is left for the others.
    let mut come_out = 0;
    for (worker, local) in locals.iter_mut().enumerate() {
        while let Some(task) = queue.pop(local) {
            let fine = law.popped(&task, is_low(worker));
            put_away(task);
            come_out += 1;
            demand(worker == 0 || !fine, "Q3", || {
                format!("in the end worker 0 left a thread behind that worker {worker} found")
            })?;
        }
        if let Some(violation) = law.broken.lock().expect("nobody panics with it").take() {
            return Err(violation);
        }
    }
    demand(come_out == count, "Q1", || format!("of {count} threads {} were lost", count - come_out))?;
    demand(hint > 0, "Q8", || format!("`len_hint` was 0 after a storm that left {count} threads queued"))?;
    let runs: u64 = law.records.iter().map(|record| record.runs.load(Relaxed)).sum();
    let pops = law.pops.load(Relaxed);
    demand(runs == pops, "Q1", || {
        format!(
            "{pops} pops, but the threads saw {runs}: two held a token at once, or one missed the last one's work"
        )
    })?;
    let hint = queue.len_hint();
    demand(hint == 0, "Q8", || format!("`len_hint` was {hint} after a storm that left an empty queue"))?;
    for (worker, local) in locals.iter().enumerate() {
        demand(!queue.has_work(local), "Q3", || format!("worker {worker} has work in an empty queue"))?;
    }
    locals.into_iter().for_each(|local| drop(ManuallyDrop::into_inner(local)));
    drop(ManuallyDrop::into_inner(queue));
    Ok(())
}

/// Q1 and Q8 with 16 workers that steal from each other and four OS threads that inject; few threads and
/// many.
pub fn q1_under_theft<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, count) in [(2, 3), (2, 2_000), (16, 20), (16, 1_000)] {
            storm(factory, &Plan::new(workers, count), count)?;
        }
        Ok(())
    })
}

/// Q1 and Q5 with low-priority workers.
pub fn q5_under_theft<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for (workers, low) in [(2, 1), (8, 3)] {
            storm(factory, &Plan::new(workers, 300).with_low_priority_workers(low), 300)?;
        }
        Ok(())
    })
}

/// Q3: `has_work` is not `false` while a thread is queued from before the call until after it, however busily
/// others push, pop and steal.
///
/// An observer may sleep on that answer. It notes who is queued, asks, and counts who has been queued
/// throughout. Each other worker may have popped one that it has not yet noted; one more than that
/// proves the answer wrong.
pub fn q3_never_falsely_false<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    const MOVERS: usize = 3;
    const COUNT: usize = 12;
    let body = || {
        let queue = factory.build(&Plan::new(MOVERS + 1, COUNT));
        let queue = ManuallyDrop::new(queue.map_err(|error| Violation::new("F1", error.to_string()))?);
        let threads = Threads::new(COUNT);
        // Even while a thread is out, odd while it is queued for certain; grows.
        let tenures: Vec<AtomicUsize> = (0..COUNT).map(|_| AtomicUsize::new(0)).collect();
        let mut locals: Vec<_> =
            (0..=MOVERS).map(|worker| ManuallyDrop::new(queue.local(WorkerId::new(worker)))).collect();
        for (index, tenure) in tenures.iter().enumerate() {
            // SAFETY: C1: each index once.
            queue.inject(unsafe { threads.runnable(index) });
            tenure.store(1, SeqCst);
        }
        let over = AtomicBool::new(false);
        let verdict = thread::scope(|scope| {
            let (mine, others) = locals.split_last_mut().expect("at least one");
            let (queue, tenures, over) = (&*queue, &tenures, &over);
            let mut running = Vec::new();
            for (worker, local) in others.iter_mut().enumerate() {
                running.push(scope.spawn(move || {
                    let mut dice = Dice(worker as u64);
                    // Bounded, so that a panic elsewhere cannot make it run for ever.
                    for _ in 0..CALLS * 100 {
                        if over.load(Relaxed) {
                            break;
                        }
                        let Some(task) = queue.pop(local) else { continue };
                        let index = task.id().index() as usize;
                        tenures[index].fetch_add(1, SeqCst);
                        if dice.roll(2) == 0 {
                            queue.inject(task)
                        } else {
                            queue.push(local, task, dice.kind())
                        }
                        tenures[index].fetch_add(1, SeqCst);
                        if dice.roll(16) == 0 {
                            thread::yield_now();
                        }
                    }
                }));
            }
            let mut verdict = Ok(());
            for call in 0..CALLS {
                let before: Vec<_> = tenures.iter().map(|tenure| tenure.load(SeqCst)).collect();
                if queue.has_work(mine) {
                    if call % 64 == 0 {
                        thread::yield_now();
                    }
                    continue;
                }
                let stayed = (0..COUNT)
                    .filter(|&index| before[index] % 2 == 1 && tenures[index].load(SeqCst) == before[index])
                    .count();
                if stayed > MOVERS {
                    verdict = Err(Violation::new(
                        "Q3",
                        format!(
                            "`has_work` was false while {} threads were queued throughout",
                            stayed - MOVERS
                        ),
                    ));
                    break;
                }
            }
            over.store(true, Relaxed);
            for mover in running {
                if let Err(panic) = mover.join() {
                    verdict = Err(from_panic(&*panic));
                }
            }
            verdict
        });
        verdict?;
        for local in &mut locals {
            while let Some(task) = queue.pop(local) {
                put_away(task);
            }
        }
        locals.into_iter().for_each(|local| drop(ManuallyDrop::into_inner(local)));
        drop(ManuallyDrop::into_inner(queue));
        Ok(())
    };
    guarded(body)
}

/// B6: the monitor asks `len_hint` while a worker stands still in the middle of a push or a pop, and is not
/// held up.
pub fn b6_len_hint_waits_for_nobody<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        let mut rig = Rig::normal(factory, 2, 64)?;
        let Rig { queue, locals, threads, .. } = &mut rig;
        let (queue, threads): (&F::Output, &Threads) = (queue, threads);
        let local = &mut *locals[0];
        let work = || {
            for index in 0..64 {
                // SAFETY: all that were pushed are popped below.
                let task = unsafe { threads.runnable(index) };
                if index % 2 == 0 { queue.inject(task) } else { queue.push(local, task, PushKind::Spawn) }
            }
            while let Some(task) = queue.pop(local) {
                put_away(task);
            }
        };
        looks_wait_for_nobody("len_hint", work, || {
            queue.len_hint();
        })?;
        rig.finish()
    })
}
