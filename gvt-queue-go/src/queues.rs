//! The backend: who has which end, and what goes where.

use std::fmt;
use std::ptr::NonNull;
use std::sync::PoisonError;

use gvt_traits::{
    Factory, MAX_WORKERS, Metadata, Order, Plan, Priority, PushFence, PushKind, ReadyQueue, Runnable,
    SchedError, WorkerId,
};

use crate::GoQueue;
use crate::global::Global;
use crate::solo::{Gauge, Solo};
use crate::sync::{Arc, Padded};
use crate::team::{Member, Peer, member};

/// The ready queue that [`GoQueue`] builds.
///
/// **Q6.** [`PushFence::ByQueue`] holds for each push that adds to the number of queued threads:
///
/// | push | published by |
/// |---|---|
/// | `Wake`, `Spawn` to the next-up place | `SeqCst` swap of its pointer |
/// | `Wake`, `Spawn` behind a long streak; `Timer`, `TimerBusy` | `SeqCst` swap of a ring's tail |
/// | `inject`, Low threads of a plan with low-priority workers | `SeqCst` swap of the list's length |
/// | `Yield` | `Release` store of the ring's tail |
///
/// A thread that yields was running, and its worker has taken another off the queues or takes this one
/// again: the number of queued threads does not grow, and this queue relies on the runtime not looking
/// for sleepers after such a push. A worker that fell asleep between the two may then sleep beside one
/// queued thread until the next push of another kind; the thread itself has a worker that is awake.
pub struct GoQueues {
    global: Global,
    /// Low threads, if some workers run only these.
    low: Option<Global>,
    /// Workers that run normal threads, if there are several.
    team: Box<[Peer]>,
    /// What the only such worker has, roughly.
    solo: Arc<Padded<Gauge>>,
    /// The local ends that were not yet asked for.
    ends: std::sync::Mutex<Vec<Option<GoLocal>>>,
}

/// One worker's end of [`GoQueues`].
pub struct GoLocal(End);

/// The variants that plans without low-priority workers have come without a further look. `repr`: a tag of its
/// own is told apart in one comparison, one hidden in a variant's field in four instructions.
#[repr(u8)]
#[allow(clippy::large_enum_variant, reason = "one a worker, and its first lines are the hot ones")]
enum End {
    Solo(Solo),
    Member(Member),
    /// Low threads go to a list of their own, which this worker serves last or, if it has no other
    /// end, alone.
    Apart(Option<Box<End>>),
}

impl fmt::Debug for GoQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoQueues").field("len_hint", &self.len_hint()).finish_non_exhaustive()
    }
}

impl fmt::Debug for GoLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            End::Solo(_) => "solo",
            End::Member(_) => "member",
            End::Apart(Some(_)) => "low threads apart",
            End::Apart(None) => "only low threads",
        };
        f.debug_tuple("GoLocal").field(&kind).finish()
    }
}

impl Factory for GoQueue {
    type Output = GoQueues;

    fn build(&self, plan: &Plan) -> Result<GoQueues, SchedError> {
        if plan.workers == 0 || plan.workers > MAX_WORKERS {
            return Err(SchedError::Config {
                setting: "workers",
                problem: format!("asked for {}; 1 to {MAX_WORKERS} would work", plan.workers),
            });
        }
        if plan.low_priority_workers >= plan.workers {
            return Err(SchedError::Config {
                setting: "num_low_priority_workers",
                problem: format!(
                    "asked for {} of {} workers; at least one must be left for other threads",
                    plan.low_priority_workers, plan.workers
                ),
            });
        }
        let normal = plan.workers - plan.low_priority_workers;
        let solo = Arc::new(Padded(Gauge::default()));
        let mut team = Vec::new();
        let mut ends: Vec<End> = if normal == 1 {
            vec![End::Solo(Solo::new(solo.clone()))]
        } else {
            let sides = (0..normal).map(|me| member(me, normal));
            sides
                .map(|(member, peer)| {
                    team.push(peer);
                    End::Member(member)
                })
                .collect()
        };
        let low_apart = plan.low_priority_workers > 0;
        if low_apart {
            ends = ends.into_iter().map(|end| End::Apart(Some(Box::new(end)))).collect();
            ends.resize_with(plan.workers, || End::Apart(None));
        }
        Ok(GoQueues {
            global: Global::new(),
            low: low_apart.then(Global::new),
            team: team.into(),
            solo,
            ends: std::sync::Mutex::new(ends.into_iter().map(|end| Some(GoLocal(end))).collect()),
        })
    }
}

impl GoQueues {
    /// `push`, where there is more than one worker.
    #[inline(never)]
    fn push_several(&self, end: &mut End, task: Runnable, kind: PushKind) {
        match end {
            End::Solo(solo) => solo.push(task, kind),
            End::Member(member) => member.push(task, kind, &self.global),
            End::Apart(end) => self.push_apart(end.as_deref_mut(), task, kind),
        }
    }

    /// `pop`, where there is more than one worker.
    #[inline(never)]
    fn pop_several(&self, end: &mut End) -> Option<Runnable> {
        match end {
            End::Solo(solo) => solo.pop(&self.global),
            End::Member(member) => member.pop(&self.team, &self.global),
            End::Apart(end) => self.pop_apart(end.as_deref_mut()),
        }
    }

    /// `upcoming`, where there is more than one worker.
    #[inline(never)]
    fn upcoming_of_several(end: &End, distance: usize) -> Option<NonNull<Metadata>> {
        match end {
            End::Solo(solo) => solo.upcoming(distance),
            End::Member(member) => member.upcoming(distance),
            End::Apart(end) => Self::upcoming_of_several(end.as_deref()?, distance),
        }
    }

    #[inline(never)]
    fn push_apart(&self, end: Option<&mut End>, task: Runnable, kind: PushKind) {
        match end {
            Some(End::Solo(solo)) if task.priority() != Priority::Low => solo.push(task, kind),
            Some(End::Member(member)) if task.priority() != Priority::Low => {
                member.push(task, kind, &self.global)
            }
            _ => self.inject(task),
        }
    }

    #[inline(never)]
    fn pop_apart(&self, end: Option<&mut End>) -> Option<Runnable> {
        let task = match end {
            Some(End::Solo(solo)) => solo.pop(&self.global),
            Some(End::Member(member)) => member.pop(&self.team, &self.global),
            _ => None,
        };
        if task.is_none() { self.low.as_ref().and_then(Global::pop) } else { task }
    }

    fn work_for(&self, end: &End) -> bool {
        match end {
            End::Solo(solo) => solo.has_work() || self.global.has_work(),
            End::Member(member) => member.has_work(&self.team, &self.global),
            End::Apart(end) => {
                self.low.as_ref().is_some_and(Global::has_work)
                    || end.as_deref().is_some_and(|end| self.work_for(end))
            }
        }
    }
}

impl ReadyQueue for GoQueues {
    type Local = GoLocal;

    const ORDER: Order = Order::Fair;
    const PUSH_FENCE: PushFence = PushFence::ByQueue;

    /// # Panics
    ///
    /// If the plan has no such worker, or its end was given out before: with two owners a ring would
    /// hand out a token twice.
    fn local(&self, worker: WorkerId) -> GoLocal {
        let index = worker.index().unwrap_or(usize::MAX);
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match ends.get_mut(index).map(Option::take) {
            Some(Some(local)) => local,
            Some(None) => panic!("the end of {worker:?} was asked for twice"),
            None => panic!("{worker:?} is not in the plan of this queue, which has {} workers", ends.len()),
        }
    }

    fn inject(&self, task: Runnable) {
        match &self.low {
            Some(low) if task.priority() == Priority::Low => low.push(task),
            _ => self.global.push(task),
        }
    }

    #[inline(always)]
    fn push(&self, local: &mut GoLocal, task: Runnable, kind: PushKind) {
        match &mut local.0 {
            End::Solo(solo) => solo.push(task, kind),
            end => self.push_several(end, task, kind),
        }
    }

    #[inline(always)]
    fn pop(&self, local: &mut GoLocal) -> Option<Runnable> {
        match &mut local.0 {
            End::Solo(solo) => solo.pop(&self.global),
            end => self.pop_several(end),
        }
    }

    fn has_work(&self, local: &GoLocal) -> bool {
        self.work_for(&local.0)
    }

    #[inline(always)]
    fn upcoming(&self, local: &GoLocal, distance: usize) -> Option<NonNull<Metadata>> {
        match &local.0 {
            End::Solo(solo) => solo.upcoming(distance),
            end => Self::upcoming_of_several(end, distance),
        }
    }

    fn expedite(&self, local: &mut GoLocal, thread: &Metadata) {
        let thread = NonNull::from(thread);
        let end = match &mut local.0 {
            End::Apart(Some(end)) => &mut **end,
            end => end,
        };
        match end {
            End::Solo(solo) => solo.expedite(thread),
            End::Member(member) => member.expedite(thread, &self.global),
            End::Apart(_) => {}
        }
    }

    fn len_hint(&self) -> usize {
        self.global.len_hint()
            + self.low.as_ref().map_or(0, Global::len_hint)
            + self.team.iter().map(Peer::len_hint).sum::<usize>()
            + self.solo.0.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use gvt_traits::GvtState;

    use super::*;
    use crate::cost::threads;

    /// The monitor preempts only if the hint says that somebody waits.
    #[test]
    fn the_hint_is_exact_while_nobody_else_is_at_work() {
        for workers in [1, 2] {
            let queue = GoQueue.build(&Plan::new(workers, 3)).expect("a plan that works");
            let mut local = queue.local(WorkerId::new(0));
            for (count, task) in threads(3).enumerate() {
                assert_eq!(queue.len_hint(), count);
                queue.push(&mut local, task, PushKind::Spawn);
            }
            for _ in 0..200 {
                assert_eq!(queue.len_hint(), 3);
                let task = queue.pop(&mut local).expect("Q3");
                assert_eq!(queue.len_hint(), 2);
                queue.push(&mut local, task, PushKind::Yield);
            }
            while let Some(task) = queue.pop(&mut local) {
                std::mem::forget(task);
            }
            assert_eq!(queue.len_hint(), 0);
        }
    }

    /// Threads whose time has come do not wait for all that were spawned before them, nor these for ever.
    #[test]
    fn sleepers_overtake_a_flood() {
        const FLOOD: usize = 20_000;
        const SLEEPERS: usize = 1_000;
        for workers in [1, 2] {
            let queue = GoQueue.build(&Plan::new(workers, FLOOD + SLEEPERS)).expect("a plan that works");
            let mut local = queue.local(WorkerId::new(0));
            for task in threads(FLOOD + SLEEPERS) {
                let kind = if task.id().index() < FLOOD as u32 {
                    PushKind::Spawn
                } else {
                    // SAFETY: a record made for this test, which lives for ever.
                    unsafe { task.as_ptr().as_ref().head() }.state.store(GvtState::Blocked as u8, Relaxed);
                    PushKind::Timer
                };
                queue.push(&mut local, task, kind);
            }
            let mut popped = Vec::new();
            while let Some(task) = queue.pop(&mut local) {
                popped.push(task.id().index() as usize);
                std::mem::forget(task);
            }
            assert_eq!(popped.len(), FLOOD + SLEEPERS);
            let last = popped.iter().rposition(|&index| index >= FLOOD).expect("the sleepers");
            assert!(last < 3 * SLEEPERS, "{workers} workers: the last sleeper was popped as number {last}");
            let new = popped[..last].iter().filter(|&&index| index < FLOOD).count();
            assert!(new > last / 8, "{workers} workers: {new} of {last} were new threads");
        }
    }

    #[test]
    #[should_panic(expected = "was asked for twice")]
    fn an_end_has_one_owner() {
        let queue = GoQueue.build(&Plan::new(2, 1)).expect("a plan that works");
        let _first = queue.local(WorkerId::new(1));
        let _second = queue.local(WorkerId::new(1));
    }
}
