//! The ledger of a ready queue: which threads are queued, since when, how urgent.
//!
//! Checked: Q1, Q5 at every call; Q3, Q8 and strict order (Q4) at calls that are alone; that no thread is
//! passed over for ever (Q4) by a bound far above what any fair queue needs.
//!
//! **Hazard.** A thread that was popped may be pushed again by the time its pop is noted. It cannot: pushing
//! it needs the token, which is handed out after the pop was noted.

use std::collections::{BTreeMap, HashMap};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use gvt_traits::{GvtId, Metadata, Order, Priority, PushFence, PushKind, ReadyQueue, Runnable, WorkerId};

use super::{Call, CheckedLocal, CheckedPart, broken, demand, lock, look};

/// Pops that may pass over a thread under a fair or ageing queue: this many, and [`PASSES_EACH`] for each
/// thread that was queued beside it.
const PASSES: u64 = 50_000;
/// See [`PASSES`].
const PASSES_EACH: u64 = 5_000;

#[derive(Debug)]
struct Entry {
    priority: Priority,
    number: u64,
}

/// Who is queued.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    queued: HashMap<GvtId, Entry>,
    /// By the number of their push, with the number of pops before it.
    by_age: BTreeMap<u64, (GvtId, u64)>,
    levels: [usize; 4],
    pushes: u64,
    pops: u64,
    /// The most that were ever queued.
    most: usize,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }

    fn enter(&mut self, task: &Runnable) {
        self.pushes += 1;
        let (id, priority, number) = (task.id(), task.priority(), self.pushes);
        if self.queued.insert(id, Entry { priority, number }).is_some() {
            broken("Q1", &format!("{id:?} is pushed while it is queued: its token was doubled"));
        }
        self.by_age.insert(number, (id, self.pops));
        self.levels[priority as usize] += 1;
        self.most = self.most.max(self.queued.len());
    }

    fn leave(&mut self, id: GvtId) -> Priority {
        self.pops += 1;
        let Some(entry) = self.queued.remove(&id) else {
            broken("Q1", &format!("{id:?} was popped though it is not queued"));
        };
        self.by_age.remove(&entry.number);
        self.levels[entry.priority as usize] -= 1;
        entry.priority
    }

    /// How many are queued that a worker may run.
    fn for_worker(&self, low_only: bool) -> usize {
        if low_only { self.levels[Priority::Low as usize] } else { self.queued.len() }
    }

    fn most_urgent(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|&level| self.levels[level as usize] > 0)
    }

    fn demand_progress(&self) {
        if let Some((number, &(id, pops))) = self.by_age.first_key_value() {
            let passed = self.pops - pops;
            demand(passed <= PASSES + PASSES_EACH * self.most as u64, "Q4", || {
                format!("{id:?}, pushed as number {number}, was passed over by {passed} pops")
            });
        }
    }
}

impl<Q: ReadyQueue> CheckedPart<Q> {
    fn low_only(&self, worker: usize) -> bool {
        self.plan.low_priority_workers > 0 && self.plan.is_low_priority(worker)
    }

    /// Nobody came out for `worker`: there was nobody, or others were at work.
    fn found_nobody(&self, call: &Call<'_>, worker: usize, low_only: bool) {
        let missed = lock(&self.queue).for_worker(low_only);
        demand(missed == 0 || !call.is_alone(), "Q3", || {
            format!("worker {worker} popped nothing while {missed} threads were queued for it")
        });
    }
}

impl<Q: ReadyQueue> ReadyQueue for CheckedPart<Q> {
    type Local = CheckedLocal<Q::Local>;

    const ORDER: Order = Q::ORDER;
    const PUSH_FENCE: PushFence = Q::PUSH_FENCE;

    fn local(&self, worker: WorkerId) -> Self::Local {
        CheckedLocal { local: self.part.local(worker), worker: worker.index().unwrap_or(usize::MAX) }
    }

    fn inject(&self, task: Runnable) {
        let _call = self.calls.begin();
        // A panic must not drop the token: a second one (R2) would follow.
        let task = ManuallyDrop::new(task);
        lock(&self.queue).enter(&task);
        self.part.inject(ManuallyDrop::into_inner(task));
    }

    fn push(&self, local: &mut Self::Local, task: Runnable, kind: PushKind) {
        let _call = self.calls.begin();
        let task = ManuallyDrop::new(task); // As in `inject`.
        lock(&self.queue).enter(&task);
        self.part.push(&mut local.local, ManuallyDrop::into_inner(task), kind);
    }

    fn pop(&self, local: &mut Self::Local) -> Option<Runnable> {
        let call = self.calls.begin();
        let low_only = self.low_only(local.worker);
        let Some(task) = self.part.pop(&mut local.local) else {
            self.found_nobody(&call, local.worker, low_only);
            return None;
        };
        let mut ledger = lock(&self.queue);
        let best = ledger.most_urgent();
        let task = ManuallyDrop::new(task); // As in `inject`.
        let priority = ledger.leave(task.id());
        demand(!low_only || priority == Priority::Low, "Q5", || {
            format!("low-priority worker {} was given a {priority:?} thread", local.worker)
        });
        if Q::ORDER == Order::StrictPriority {
            demand(low_only || Some(priority) == best || !call.is_alone(), "Q4", || {
                format!("{priority:?} was popped while {best:?} was queued")
            });
        } else {
            ledger.demand_progress();
        }
        Some(ManuallyDrop::into_inner(task))
    }

    fn has_work(&self, local: &Self::Local) -> bool {
        let call = self.calls.begin();
        let answer = self.part.has_work(&local.local);
        let low_only = self.low_only(local.worker);
        let queued = lock(&self.queue).for_worker(low_only);
        let clause = if low_only && answer { "Q5" } else { "Q3" };
        demand(answer == (queued > 0) || !call.is_alone(), clause, || {
            format!(
                "`has_work` told worker {} {answer} while {queued} threads were queued for it",
                local.worker
            )
        });
        answer
    }

    fn upcoming(&self, local: &Self::Local, distance: usize) -> Option<NonNull<Metadata>> {
        self.part.upcoming(&local.local, distance)
    }

    fn expedite(&self, local: &mut Self::Local, thread: &Metadata) {
        let _call = self.calls.begin();
        self.part.expedite(&mut local.local, thread);
    }

    fn len_hint(&self) -> usize {
        let call = self.calls.begin();
        let hint = self.part.len_hint();
        // B6: it may be the monitor that asks.
        let Some(ledger) = look(&self.queue) else { return hint };
        let queued = ledger.len();
        drop(ledger);
        demand((hint > 0) == (queued > 0) || !call.is_alone(), "Q8", || {
            format!("`len_hint` was {hint} while {queued} threads were queued")
        });
        hint
    }
}
