//! A queue with its ends and its threads, and a record of who is queued.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use gvt_traits::{Factory, Metadata, Plan, Priority, PushKind, ReadyQueue, SchedError, WorkerId};

use crate::threads::{Threads, put_away};
use crate::{Verdict, Violation};

/// All that says why a thread became ready.
pub(super) const KINDS: [PushKind; 6] = [
    PushKind::Spawn,
    PushKind::Wake,
    PushKind::Yield,
    PushKind::Timer,
    PushKind::Joined,
    PushKind::TimerBusy,
];

/// A small generator, so that a law does the same each time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `bound`.
    pub(super) fn roll(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(super) fn kind(&mut self) -> PushKind {
        KINDS[self.roll(KINDS.len())]
    }
}

/// Runs a law's body; a panic in the backend is a broken contract too: R2 is Q1 from the queue's side,
/// any other is B3.
pub(super) fn guarded(body: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(from_panic(&*panic)))
}

pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Violation {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text");
    Violation::new(if text.starts_with("R2") { "Q1" } else { "B3" }, text)
}

/// A law breaks off here unless `holds`.
pub(super) fn demand(holds: bool, clause: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation::new(clause, what())) }
}

/// A built queue under test.
///
/// Nothing is dropped unless [`finish`](Self::finish) finds it empty: a broken queue's tokens would
/// panic, and a second panic would abort the whole run. What a failed law leaves behind is leaked.
pub(super) struct Rig<Q: ReadyQueue> {
    pub(super) queue: ManuallyDrop<Q>,
    pub(super) locals: Vec<ManuallyDrop<Q::Local>>,
    pub(super) plan: Plan,
    pub(super) threads: Threads,
    queued: Vec<bool>,
    count: usize,
}

impl<Q: ReadyQueue> Rig<Q> {
    /// A queue for `workers` workers of which `low` run only Low threads, and `threads` threads.
    /// `None` if it refuses low-priority workers, as Q5 lets it.
    pub(super) fn new<F: Factory<Output = Q>>(
        factory: &F,
        workers: usize,
        low: usize,
        threads: usize,
    ) -> Result<Option<Self>, Violation> {
        let plan = Plan::new(workers, threads.max(1)).with_low_priority_workers(low);
        let queue = match factory.build(&plan) {
            Ok(queue) => ManuallyDrop::new(queue),
            Err(SchedError::Config { .. }) if low > 0 => return Ok(None),
            Err(error) => return Err(Violation::new("F1", format!("{plan:?} was refused: {error}"))),
        };
        let locals = (0..workers).map(|index| ManuallyDrop::new(queue.local(WorkerId::new(index)))).collect();
        let threads = Threads::new(threads);
        let queued = vec![false; threads.len()];
        Ok(Some(Rig { queue, locals, plan, threads, queued, count: 0 }))
    }

    /// A queue for `workers` normal workers.
    pub(super) fn normal<F: Factory<Output = Q>>(
        factory: &F,
        workers: usize,
        threads: usize,
    ) -> Result<Self, Violation> {
        Ok(Self::new(factory, workers, 0, threads)?.expect("only low-priority workers may be refused"))
    }

    pub(super) fn is_low_worker(&self, worker: usize) -> bool {
        self.plan.low_priority_workers > 0 && self.plan.is_low_priority(worker)
    }

    pub(super) fn is_queued(&self, index: usize) -> bool {
        self.queued[index]
    }

    pub(super) fn priority(&self, index: usize) -> Priority {
        self.threads.priority(index)
    }

    /// How many are queued that `worker` may run.
    pub(super) fn count_for(&self, worker: usize) -> usize {
        if self.is_low_worker(worker) {
            let low = |&index: &usize| self.queued[index] && self.priority(index) == Priority::Low;
            (0..self.queued.len()).filter(low).count()
        } else {
            self.count
        }
    }

    fn enter(&mut self, index: usize) -> gvt_traits::Runnable {
        assert!(!std::mem::replace(&mut self.queued[index], true), "the law pushes thread {index} twice");
        self.count += 1;
        // SAFETY: C1: it was not queued, and popped tokens are put away at once.
        unsafe { self.threads.runnable(index) }
    }

    /// Queues thread `index` from `worker`.
    pub(super) fn push(&mut self, worker: usize, index: usize, kind: PushKind) {
        let task = self.enter(index);
        self.queue.push(&mut self.locals[worker], task, kind);
    }

    /// Queues thread `index` from outside.
    pub(super) fn inject(&mut self, index: usize) {
        let task = self.enter(index);
        self.queue.inject(task);
    }

    /// Pops for `worker` and checks what holds of each pop: who comes out was queued (Q1), and may run
    /// there (Q5); nobody comes out only if there is nobody (Q3).
    pub(super) fn pop(&mut self, worker: usize) -> Result<Option<usize>, Violation> {
        let Some(task) = self.queue.pop(&mut self.locals[worker]) else {
            let missed = self.count_for(worker);
            return if missed == 0 { Ok(None) } else { Err(self.diagnose(worker, missed)) };
        };
        let record = task.as_ptr();
        let index = put_away(task).index() as usize;
        demand(index < self.threads.len() && record == self.threads.record(index), "Q1", || {
            format!("a thread {index} was popped that was never pushed here")
        })?;
        demand(std::mem::replace(&mut self.queued[index], false), "Q1", || {
            format!("thread {index} was popped though it was not queued")
        })?;
        self.count -= 1;
        demand(!self.is_low_worker(worker) || self.priority(index) == Priority::Low, "Q5", || {
            format!("low-priority worker {worker} was given a thread of priority {:?}", self.priority(index))
        })?;
        Ok(Some(index))
    }

    /// `worker` popped nothing while threads were queued: are they lost (Q1) or only out of its reach (Q3)?
    fn diagnose(&mut self, worker: usize, missed: usize) -> Violation {
        let workers = self.plan.workers;
        let what =
            format!("worker {worker} of {workers} popped nothing while {missed} threads were queued for it");
        for other in (0..workers).chain(0..workers) {
            if let Some(task) = self.queue.pop(&mut self.locals[other]) {
                let id = put_away(task);
                return Violation::new("Q3", format!("{what}; worker {other} then got {id:?}"));
            }
        }
        Violation::new("Q1", format!("{what}; nobody else got them either"))
    }

    /// Asks whether `worker` has work and checks the answer, which must be exact here since no other
    /// call is under way (Q3).
    pub(super) fn has_work(&mut self, worker: usize) -> Verdict {
        let queued = self.count_for(worker);
        let answer = self.queue.has_work(&self.locals[worker]);
        if answer == (queued > 0) {
            return Ok(());
        }
        let clause = if self.is_low_worker(worker) && answer { "Q5" } else { "Q3" };
        let what =
            format!("`has_work` told worker {worker} {answer} while {queued} threads were queued for it");
        Err(self.miscounted(clause, what))
    }

    /// Asks how many are queued and checks the answer as far as it must be exact: whether any is (Q8).
    pub(super) fn len_hint(&mut self) -> Verdict {
        let hint = self.queue.len_hint();
        if (hint > 0) == (self.count > 0) {
            return Ok(());
        }
        let what = format!("`len_hint` was {hint} while {} threads were queued", self.count);
        Err(self.miscounted("Q8", what))
    }

    /// A count that differs from ours: is it wrong (`clause`), or is it right and threads are lost or doubled
    /// (Q1)?
    fn miscounted(&mut self, clause: &'static str, what: String) -> Violation {
        let workers = self.plan.workers;
        let mut out = 0;
        // More than once round, for queues that now and then give out nothing.
        for worker in (0..workers).cycle().take(3 * workers) {
            while let Some(task) = self.queue.pop(&mut self.locals[worker]) {
                put_away(task);
                out += 1;
            }
        }
        if out == self.count {
            return Violation::new(clause, what);
        }
        Violation::new("Q1", format!("{what}; {out} came out of the {} that were queued", self.count))
    }

    pub(super) fn upcoming(&self, worker: usize, distance: usize) -> Option<NonNull<Metadata>> {
        self.queue.upcoming(&self.locals[worker], distance)
    }

    pub(super) fn expedite(&mut self, worker: usize, index: usize) {
        let record = self.threads.record(index);
        // SAFETY: records are never freed.
        self.queue.expedite(&mut self.locals[worker], unsafe { record.as_ref() });
    }

    /// All that `worker` can get, in order.
    pub(super) fn drain(&mut self, worker: usize) -> Result<Vec<usize>, Violation> {
        let mut order = Vec::new();
        while let Some(index) = self.pop(worker)? {
            order.push(index);
        }
        Ok(order)
    }

    /// Takes everything out, checks that nothing is missing (Q1), and drops the queue.
    pub(super) fn finish(mut self) -> Verdict {
        self.drain(0)?;
        for worker in 0..self.plan.workers {
            self.has_work(worker)?;
        }
        self.locals.into_iter().for_each(|local| drop(ManuallyDrop::into_inner(local)));
        drop(ManuallyDrop::into_inner(self.queue));
        Ok(())
    }
}
