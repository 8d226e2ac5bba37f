//! What is shared by all workers: the global list of Normal threads, and a list for each other level.
//!
//! ```text
//!   Critical, High           Normal          Low
//!      │    │                  │              │
//!      ▼    ▼        rings, next-up slots,    ▼
//!     lists here        global list         list here
//!
//!   pop:  1. urgent   2. all that `team` or `solo` shows, for Normal threads   3. Low
//! ```
//!
//! A thread that is not Normal goes to its level's list, whatever pushes it and why. A worker looks at the
//! urgent lists before all else, and from then on at each pop until they are empty,
//!
//! - when it has pushed such a thread itself,
//! - when one has come from outside (the worker's [`Bell`]),
//! - when its own ends are empty,
//! - when the global list has its turn: at the latest [`TURN`] pops after another worker has pushed one.
//!
//! **Cost.** Normal threads pay one comparison a push and one, with the bell, a pop. The worker looks at the
//! lists where it looks at threads that have rested (`turns`). Threads of other levels pay a lock a push and
//! a lock a pop, and from outside an exchange a worker.
//!
//! **Hazard: a bell is cleared that has just been rung**, and its thread waits for the turn. **Protocol.** A
//! bell is rung when the thread is in its list. The owner clears the bell by an exchange before it looks:
//! what rang before is seen, what rings later rings on. **Evidence.** loom `a_bell_that_rings_is_answered`;
//! the mutant `BellClearedLate` fails it.
//!
//! **Hazard: starvation (Q4).** Each less urgent level gets a share, counted by each worker:
//!
//! - of [`URGENT_PAST`] + 1 pops in a row, while others wait, one is not urgent (`turns`);
//! - a High thread that waits is passed over by [`CRITICAL_PAST`] Critical ones in a row;
//! - of the pops that neither urgent threads nor those that have rested get, one of [`TURN`] + 1 is a Low
//!   thread's. The first comes `TURN` of these pops after a turn of the global list at which one waits.
//!
//! Until then the order of levels is exact: a Low thread runs after every Normal one that its worker can find
//! without stealing others' next-up threads, if these are fewer than `TURN`.
//!
//! **Rejected.** *A ring of each level a worker*, with thieves: no lock, but two more rings that each idle
//! worker scans, and urgent threads that lie with a busy worker are found by stealing alone. Here each look
//! finds the most urgent of all. *Looking at the lists at each pop*: three more cache lines. Programs that
//! run most of their threads at other levels choose `gvt-queue-priority`.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use gvt_traits::{Priority, Runnable};

use crate::TURN;
use crate::global::Global;
use crate::sync::AtomicBool;

/// Urgent pops in a row that a worker makes while others wait.
pub(crate) const URGENT_PAST: u32 = if cfg!(loom) { 3 } else { 15 };
/// Critical threads in a row that a worker takes while a High one waits.
const CRITICAL_PAST: u32 = 7;

/// The lists.
pub(crate) struct Shared {
    /// Normal threads from outside, and what does not fit into a ring.
    pub(crate) global: Global,
    critical: Global,
    high: Global,
    /// Also what low-priority workers run, if there are such.
    pub(crate) low: Global,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Shared { global: Global::new(), critical: Global::new(), high: Global::new(), low: Global::new() }
    }

    /// Queues a thread of any level in the list of that level.
    pub(crate) fn push(&self, task: Runnable) {
        let list = match task.priority() {
            Priority::Critical => &self.critical,
            Priority::High => &self.high,
            Priority::Normal => &self.global,
            Priority::Low => &self.low,
        };
        list.push(task);
    }

    /// Whether all lists look empty to a worker that has other things to do.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.global.len_hint() | self.critical.len_hint() | self.high.len_hint() | self.low.len_hint() == 0
    }

    /// Whether a Critical or High thread seems to wait, to a worker that has other things to do.
    #[inline]
    pub(crate) fn has_urgent(&self) -> bool {
        !self.critical.is_empty() || !self.high.is_empty()
    }

    /// Whether there is something for a normal worker; the last look before sleeping (Q6).
    pub(crate) fn has_work(&self) -> bool {
        [&self.global, &self.critical, &self.high, &self.low].into_iter().any(Global::has_work)
    }

    pub(crate) fn len_hint(&self) -> usize {
        [&self.global, &self.critical, &self.high, &self.low].into_iter().map(Global::len_hint).sum()
    }
}

/// Rung by those that queue urgent threads from outside; one a worker.
pub(crate) struct Bell(AtomicBool);

impl Default for Bell {
    fn default() -> Self {
        Bell(AtomicBool::new(false))
    }
}

impl Bell {
    /// Behind the push.
    pub(crate) fn ring(&self) {
        // ORDERING O5: Release pairs with the Acquire of `answer`, behind which the lists are looked at; an
        // exchange, so that one ring that is seen shows those before it.
        self.0.swap(true, Release);
    }

    #[inline(always)]
    pub(crate) fn rings(&self) -> bool {
        // Relaxed: `answer` orders what follows.
        self.0.load(Relaxed)
    }

    /// By the owner, before it looks.
    pub(crate) fn answer(&self) {
        if self.rings() {
            // ORDERING O5: Acquire; an exchange, so that it comes behind each `ring` that it clears.
            self.0.swap(false, Acquire);
        }
    }
}

/// What a worker has counted towards the shares of High and Low threads.
#[derive(Default)]
pub(crate) struct Shares {
    /// Critical pops in a row while a High thread waited.
    criticals: u32,
    /// The number of the pop, of those that no lane is served by, from which on a Low thread is due, if such
    /// have waited at a turn.
    low_due: Option<u32>,
}

impl Shares {
    /// The most urgent Critical or High thread.
    pub(crate) fn pop_urgent(&mut self, shared: &Shared) -> Option<Runnable> {
        if shared.high.is_empty() {
            self.criticals = 0;
        } else if self.criticals >= CRITICAL_PAST {
            self.criticals = 0;
            if let Some(task) = shared.high.pop() {
                return Some(task);
            }
        }
        if let Some(task) = shared.critical.pop() {
            self.criticals += 1;
            return Some(task);
        }
        self.criticals = 0;
        shared.high.pop()
    }

    /// At a turn of the global list, behind `plain` pops that no lane was served by: a Low thread, if one is
    /// due. The turn is then still to come.
    pub(crate) fn pop_low_at_turn(&mut self, shared: &Shared, plain: u32) -> Option<Runnable> {
        if shared.low.is_empty() {
            self.low_due = None;
            return None;
        }
        let due = *self.low_due.get_or_insert(plain.wrapping_add(TURN));
        // Ahead by half the range: still to come.
        if plain.wrapping_sub(due) > u32::MAX / 2 {
            return None;
        }
        self.low_due = Some(plain.wrapping_add(TURN));
        shared.low.pop()
    }

    /// A Low thread, where there is nothing else.
    pub(crate) fn pop_low(&mut self, shared: &Shared) -> Option<Runnable> {
        self.low_due = None;
        shared.low.pop()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use gvt_traits::{Factory, Plan, PushKind, ReadyQueue, WorkerId};

    use super::*;
    use crate::cost::threads;
    use crate::turns::PAST;
    use crate::{GoLocal, GoQueue, GoQueues, STREAK};

    const KINDS: [PushKind; 6] = [
        PushKind::Spawn,
        PushKind::Wake,
        PushKind::Joined,
        PushKind::Yield,
        PushKind::Timer,
        PushKind::TimerBusy,
    ];

    fn at_level(task: &Runnable, level: Priority) {
        // SAFETY: a record made for this test, which lives for ever.
        unsafe { task.as_ptr().as_ref().head() }.priority.store(level as u8, Relaxed);
    }

    fn build(workers: usize, low: usize) -> (GoQueues, GoLocal) {
        let plan = Plan::new(workers, 1_000).with_low_priority_workers(low);
        let queue = GoQueue.build(&plan).expect("a plan that works");
        let local = queue.local(WorkerId::new(0));
        (queue, local)
    }

    fn drain(queue: &GoQueues, local: &mut GoLocal) -> Vec<Priority> {
        std::iter::from_fn(|| {
            let task = queue.pop(local)?;
            let level = task.priority();
            std::mem::forget(task);
            Some(level)
        })
        .collect()
    }

    /// Fewer than `TURN` threads, and no more urgent ones than go ahead in a row, come out strictly by level,
    /// whatever the worker has done before.
    #[test]
    fn few_threads_come_out_by_level() {
        for (workers, low) in [(1, 0), (2, 0), (2, 1), (5, 2)] {
            for kind in KINDS.into_iter().map(Some).chain([None]) {
                let (queue, mut local) = build(workers, low);
                for before in 0..2 * TURN as usize {
                    // The turn of the global list comes at each place by turns.
                    for task in threads(1) {
                        queue.push(&mut local, task, PushKind::Yield);
                    }
                    drain(&queue, &mut local);
                    for (index, task) in threads(55).enumerate() {
                        let level = match index {
                            0..20 => Priority::Low,
                            20..40 => Priority::Normal,
                            40..48 => Priority::High,
                            _ => Priority::Critical,
                        };
                        at_level(&task, level);
                        match kind {
                            Some(kind) => queue.push(&mut local, task, kind),
                            None => queue.inject(task),
                        }
                    }
                    let order = drain(&queue, &mut local);
                    assert_eq!(order.len(), 55);
                    assert!(order.is_sorted(), "{workers}, {low}, {kind:?}, {before}: {order:?}");
                }
            }
        }
    }

    /// Where nothing but Critical and Low threads wait, Low ones get no smaller a share.
    #[test]
    fn low_threads_get_on_beside_critical_ones_alone() {
        for (workers, low) in [(1, 0), (2, 0), (2, 1)] {
            let (queue, mut local) = build(workers, low);
            for (index, task) in threads(8).enumerate() {
                at_level(&task, if index < 4 { Priority::Critical } else { Priority::Low });
                queue.push(&mut local, task, PushKind::Yield);
            }
            let mut since = 0;
            for _ in 0..50_000 {
                let task = queue.pop(&mut local).expect("Q3");
                since = if task.priority() == Priority::Low { 0 } else { since + 1 };
                assert!(since <= 2 * (URGENT_PAST + 1) * (TURN + 1), "{workers}, {low}");
                queue.push(&mut local, task, PushKind::Yield);
            }
            drain(&queue, &mut local);
        }
    }

    /// Beside threads of all levels, some of which sleep, that are ready again at once, each level gets its
    /// share.
    #[test]
    fn no_level_starves_beside_the_others() {
        for (workers, low) in [(1, 0), (2, 0), (2, 1), (5, 2)] {
            let (queue, mut local) = build(workers, low);
            // Three of each level, three Normal ones that sleep, three Normal ones that wake each other.
            let kind_of = |index: usize| match index {
                12..15 => PushKind::Timer,
                15.. => PushKind::Wake,
                _ => PushKind::Yield,
            };
            for (index, task) in threads(18).enumerate() {
                at_level(&task, Priority::ALL.get(index / 3).copied().unwrap_or_default());
                queue.push(&mut local, task, kind_of(index));
            }
            let (mut last, mut longest) = ([0; 6], [0; 6]);
            for pop in 0..100_000 {
                let task = queue.pop(&mut local).expect("Q3");
                let index = task.id().index() as usize;
                let group = index / 3;
                longest[group] = longest[group].max(pop - last[group]);
                last[group] = pop;
                queue.push(&mut local, task, kind_of(index));
            }
            last.iter()
                .zip(&mut longest)
                .for_each(|(last, longest)| *longest = (*longest).max(100_000 - last));
            let [critical, high, normal, low_threads, sleepers, wakers] = longest;
            assert!(critical <= 3, "{longest:?}");
            assert!(high <= 2 * (CRITICAL_PAST as usize + 1), "{longest:?}");
            assert!(sleepers <= 2 * (URGENT_PAST as usize + 1), "{longest:?}");
            let neither = ((URGENT_PAST + 1) * (PAST + 1)) as usize;
            assert!(low_threads <= 2 * (TURN as usize + 2) * neither, "{longest:?}");
            assert!(wakers <= 8 * neither, "{longest:?}");
            assert!(normal <= 4 * (STREAK as usize + 1) * neither, "{longest:?}");
            drain(&queue, &mut local);
        }
    }
}
