//! The backend: each worker's local end, and where each push goes.

use std::fmt;
use std::ptr::NonNull;
use std::sync::PoisonError;

use gvt_traits::{
    Factory, MAX_WORKERS, Metadata, Order, Plan, Priority, PushFence, PushKind, ReadyQueue, Runnable,
    SchedError, WorkerId,
};

use crate::GoQueue;
use crate::levels::Shared;
use crate::solo::{Gauge, SingleWorker};
use crate::sync::{Arc, Padded};
use crate::team::{Peer, TeamMember, member};

/// The ready queue that [`GoQueue`] builds.
///
/// **The fence (Q6).** [`PushFence::ByQueue`] holds for each push that adds to the number of queued threads:
///
/// | push | published by |
/// |---|---|
/// | `Wake`, `Spawn` to the next-up slot | `SeqCst` swap of its pointer |
/// | `Wake`, `Spawn` behind a long streak; `Timer`, `TimerBusy` | `SeqCst` swap of a ring's tail |
/// | `inject`, threads that are not Normal | `SeqCst` swap of the list's length |
/// | `Yield` of a Normal thread | `Release` store of the ring's tail |
///
/// A thread that yields was running, and its worker has taken another off the queues or takes this one
/// again: the number of queued threads does not grow, and this queue relies on the runtime not looking
/// for sleepers after such a push. A worker that falls asleep between the two may sleep beside one
/// queued thread until the next push of another kind; the thread itself has a worker that is awake.
pub struct GoQueues {
    shared: Shared,
    /// Workers that run normal threads, if there are several.
    team: Box<[Peer]>,
    /// How many threads the only such worker has, roughly.
    solo: Arc<Padded<Gauge>>,
    /// The local ends that have not been handed out.
    ends: std::sync::Mutex<Vec<Option<GoLocal>>>,
}

/// One worker's end of [`GoQueues`].
pub struct GoLocal(End);

/// `repr`: a tag of its own is told apart in one comparison, one hidden in a variant's field in four
/// instructions.
#[repr(u8)]
#[allow(clippy::large_enum_variant, reason = "one a worker, and its first lines are the hot ones")]
enum End {
    SingleWorker(SingleWorker),
    TeamMember(TeamMember),
    /// Of a low-priority worker, which has no local end.
    Low,
}

impl fmt::Debug for GoQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoQueues").field("len_hint", &self.len_hint()).finish_non_exhaustive()
    }
}

impl fmt::Debug for GoLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            End::SingleWorker(_) => "solo",
            End::TeamMember(_) => "member",
            End::Low => "only low threads",
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
            vec![End::SingleWorker(SingleWorker::new(solo.clone()))]
        } else {
            let sides = (0..normal).map(|me| member(me, normal));
            sides
                .map(|(member, peer)| {
                    team.push(peer);
                    End::TeamMember(member)
                })
                .collect()
        };
        ends.resize_with(plan.workers, || End::Low);
        Ok(GoQueues {
            shared: Shared::new(),
            team: team.into(),
            solo,
            ends: std::sync::Mutex::new(ends.into_iter().map(|end| Some(GoLocal(end))).collect()),
        })
    }
}

impl GoQueues {
    /// `push` of a Normal thread, where there is more than one worker.
    #[inline(never)]
    fn push_several(&self, end: &mut End, task: Runnable, kind: PushKind) {
        match end {
            End::SingleWorker(solo) => solo.push(task, kind),
            End::TeamMember(member) => member.push(task, kind, &self.shared.global),
            End::Low => self.shared.push(task),
        }
    }

    /// `push` of a thread that is not Normal.
    #[cold]
    #[inline(never)]
    fn push_level(&self, end: &mut End, task: Runnable) {
        let is_urgent = task.priority() < Priority::Normal;
        self.shared.push(task);
        match end {
            End::SingleWorker(solo) if is_urgent => solo.look_next(),
            End::TeamMember(member) if is_urgent => member.look_next(),
            _ => {}
        }
    }

    /// `pop`, where there is more than one worker.
    #[inline(never)]
    fn pop_several(&self, end: &mut End) -> Option<Runnable> {
        match end {
            End::SingleWorker(solo) => solo.pop(&self.shared),
            End::TeamMember(member) => member.pop(&self.team, &self.shared),
            End::Low => self.shared.low.pop(),
        }
    }

    /// `upcoming`, where there is more than one worker.
    #[inline(never)]
    fn upcoming_of_several(end: &End, distance: usize) -> Option<NonNull<Metadata>> {
        match end {
            End::SingleWorker(solo) => solo.upcoming(distance),
            End::TeamMember(member) => member.upcoming(distance),
            End::Low => None,
        }
    }
}

impl ReadyQueue for GoQueues {
    type Local = GoLocal;

    const ORDER: Order = Order::FairByLevel;
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
        let is_urgent = task.priority() < Priority::Normal;
        self.shared.push(task);
        if is_urgent {
            self.team.iter().for_each(Peer::ring);
            self.solo.0.bell.ring();
        }
    }

    #[inline(always)]
    fn push(&self, local: &mut GoLocal, task: Runnable, kind: PushKind) {
        if task.priority() != Priority::Normal {
            return self.push_level(&mut local.0, task);
        }
        match &mut local.0 {
            End::SingleWorker(solo) => solo.push(task, kind),
            end => self.push_several(end, task, kind),
        }
    }

    #[inline(always)]
    fn pop(&self, local: &mut GoLocal) -> Option<Runnable> {
        match &mut local.0 {
            End::SingleWorker(solo) => solo.pop(&self.shared),
            end => self.pop_several(end),
        }
    }

    fn has_work(&self, local: &GoLocal) -> bool {
        match &local.0 {
            End::SingleWorker(solo) => solo.has_work() || self.shared.has_work(),
            End::TeamMember(member) => member.has_work(&self.team, &self.shared),
            End::Low => self.shared.low.has_work(),
        }
    }

    #[inline(always)]
    fn upcoming(&self, local: &GoLocal, distance: usize) -> Option<NonNull<Metadata>> {
        match &local.0 {
            End::SingleWorker(solo) => solo.upcoming(distance),
            end => Self::upcoming_of_several(end, distance),
        }
    }

    fn expedite(&self, local: &mut GoLocal, thread: &Metadata) {
        let thread = NonNull::from(thread);
        match &mut local.0 {
            End::SingleWorker(solo) => solo.expedite(thread),
            End::TeamMember(member) => member.expedite(thread, &self.shared.global),
            End::Low => {}
        }
    }

    fn len_hint(&self) -> usize {
        self.shared.len_hint() + self.team.iter().map(Peer::len_hint).sum::<usize>() + self.solo.0.len()
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
