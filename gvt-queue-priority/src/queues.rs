//! The backend: each worker's local end.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use gvt_traits::{
    Factory, MAX_WORKERS, Metadata, Order, Plan, Priority, PushKind, ReadyQueue, Runnable, SchedError,
    WorkerId,
};

use crate::PriorityQueue;
use crate::lists::Lists;
use crate::policy::Policy;
use crate::solo::Solo;
use crate::team::{Board, Member};

/// The ready queue that [`PriorityQueue`] builds.
pub struct PriorityQueues<P> {
    global: Lists,
    board: Board,
    /// What an only worker has.
    solo_len: Arc<AtomicUsize>,
    /// The ends that were not yet asked for.
    ends: Mutex<Vec<Option<PriorityLocal<P>>>>,
    policy: PhantomData<P>,
}

/// One worker's end of [`PriorityQueues`].
pub struct PriorityLocal<P>(End<P>);

#[allow(clippy::large_enum_variant, reason = "one a worker")]
enum End<P> {
    Solo(Solo<P>, Arc<AtomicUsize>),
    Member(Member<P>),
}

impl<P: Policy> fmt::Debug for PriorityQueues<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriorityQueues").field("len_hint", &self.len_hint()).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for PriorityLocal<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PriorityLocal").finish_non_exhaustive()
    }
}

impl<P: Policy> Factory for PriorityQueue<P> {
    type Output = PriorityQueues<P>;

    fn build(&self, plan: &Plan) -> Result<PriorityQueues<P>, SchedError> {
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
        let mut board = Board::new();
        let solo_len = Arc::new(AtomicUsize::new(0));
        let ends = if plan.workers == 1 {
            vec![End::Solo(Solo::new(), solo_len.clone())]
        } else {
            // Where some workers serve Low threads alone, the others need not lift these.
            let lifted = if plan.low_priority_workers > 0 { Priority::Normal } else { Priority::Low };
            let only_low = |index| plan.low_priority_workers > 0 && plan.is_low_priority(index);
            (0..plan.workers)
                .map(|index| End::Member(Member::join(&mut board, only_low(index), lifted)))
                .collect()
        };
        Ok(PriorityQueues {
            global: Lists::default(),
            board,
            solo_len,
            ends: Mutex::new(ends.into_iter().map(|end| Some(PriorityLocal(end))).collect()),
            policy: PhantomData,
        })
    }
}

impl<P: Policy> ReadyQueue for PriorityQueues<P> {
    type Local = PriorityLocal<P>;

    const ORDER: Order = P::ORDER;

    /// # Panics
    ///
    /// If the plan has no such worker, or its end was given out before.
    fn local(&self, worker: WorkerId) -> PriorityLocal<P> {
        let index = worker.index().unwrap_or(usize::MAX);
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match ends.get_mut(index).map(Option::take) {
            Some(Some(local)) => local,
            Some(None) => panic!("the end of {worker:?} was asked for twice"),
            None => panic!("{worker:?} is not in the plan of this queue, which has {} workers", ends.len()),
        }
    }

    fn inject(&self, task: Runnable) {
        self.global.push(task);
    }

    #[inline]
    fn push(&self, local: &mut PriorityLocal<P>, task: Runnable, _kind: PushKind) {
        match &mut local.0 {
            End::Solo(solo, len) => {
                solo.push(task);
                len.store(solo.len(), Relaxed); // Relaxed: a gauge (Q8).
            }
            End::Member(member) => member.push(task, &self.board, &self.global),
        }
    }

    #[inline]
    fn pop(&self, local: &mut PriorityLocal<P>) -> Option<Runnable> {
        match &mut local.0 {
            End::Solo(solo, len) => {
                let task = solo.pop(&self.global);
                len.store(solo.len(), Relaxed); // Relaxed: a gauge (Q8).
                task
            }
            End::Member(member) => member.pop(&self.board, &self.global),
        }
    }

    fn has_work(&self, local: &PriorityLocal<P>) -> bool {
        match &local.0 {
            End::Solo(solo, _) => solo.has_work() || self.global.levels() != 0,
            End::Member(member) => member.has_work(&self.board, &self.global),
        }
    }

    #[inline]
    fn upcoming(&self, local: &PriorityLocal<P>, distance: usize) -> Option<NonNull<Metadata>> {
        match &local.0 {
            End::Solo(solo, _) => solo.upcoming(distance),
            End::Member(_) => None,
        }
    }

    fn len_hint(&self) -> usize {
        self.global.len() + self.board.len() + self.solo_len.load(Relaxed) // Relaxed: a gauge (Q8).
    }
}
