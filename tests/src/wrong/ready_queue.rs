//! Ready queues that break one clause each, and the sound ones that they are made from.
//!
//! The sound ones are lists behind one lock, one for each [`Order`]: short, slow, right, and a reference to
//! compare others with.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::mem::{forget, take};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use gvt_traits::{
    Factory, Metadata, Order, Plan, Priority, PushKind, ReadyQueue, Runnable, SchedError, WorkerId,
};

/// What is wrong with a [`Faulty`] queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Nothing.
    None,
    /// Every 97th thread is forgotten (Q1).
    LosesOne,
    /// Every 97th thread's token is dropped, which panics (Q1).
    DropsOne,
    /// Every 97th thread is queued twice (Q1).
    DoublesOne,
    /// `pop` waits for a push when there is nothing (Q2).
    WaitsWhenEmpty,
    /// A worker gets what it pushed itself and what came from outside, no more (Q3).
    NeverSteals,
    /// Every seventh `pop` returns nothing (Q3).
    NothingNowAndThen,
    /// `has_work` looks at what the worker pushed itself (Q3).
    HasWorkOwnOnly,
    /// `has_work` always says yes (Q3).
    HasWorkAlways,
    /// `has_work` says no when the lock is taken (Q3, with others at work).
    HasWorkBlinks,
    /// `pop` carries all threads from one list to another and lets go of the lock in between (Q3, with
    /// others at work).
    HidesWhileMoving,
    /// The last in is the first out (Q4).
    NewestFirst,
    /// Woken and spawned threads always come first, the newest before the others (Q4).
    NextUpUnbounded,
    /// What the worker pushed itself always comes first (Q4).
    OwnFirst,
    /// What came from outside always comes first (Q4).
    OutsideFirst,
    /// Looks at what other workers pushed only when there is nothing else (Q4).
    StealsOnlyWhenIdle,
    /// Levels are ignored (Q4, if it promises them).
    IgnoresLevels,
    /// Woken and spawned threads come first, whatever their level (Q4, if it promises levels).
    FreshBeforeLevels,
    /// The newest of a level comes first (Q4, if it promises arrival within levels).
    NewestInLevel,
    /// Levels are respected among what the worker pushed itself, and only then among the rest (Q4).
    OwnLevelsFirst,
    /// Promises ageing and does not lift anybody (Q4).
    NeverLifts,
    /// Promises ageing and lifts seven times out of eight (Q4).
    LiftsTooOften,
    /// Low-priority workers are given anything (Q5).
    AnythingOnLowWorkers,
    /// `has_work` tells low-priority workers of all threads (Q5).
    HasWorkTellsAll,
    /// `upcoming` takes what it shows (Q7).
    UpcomingTakes,
    /// `upcoming` makes an address up (Q7).
    UpcomingInvents,
    /// `expedite` loses whom it should bring forward (Q7).
    ExpediteLoses,
    /// `expedite` brings whoever it is asked for to the front, and his family always stays there (Q4).
    ExpeditesUnbounded,
    /// Whoever wakes by timer goes first, always (Q4).
    SleepersUnbounded,
    /// `len_hint` is always 0 (Q8).
    HintsNothing,
    /// `len_hint` is never 0 (Q8).
    HintsAlways,
    /// `len_hint` does not count what came from outside (Q8).
    HintForgetsOutside,
    /// `len_hint` does not count Low threads (Q8).
    HintForgetsLow,
    /// `len_hint` takes the lock under which threads are queued (B6).
    HintWaits,
    /// All queues of one factory share their threads (F1).
    SharesBetweenBuilds,
    /// Plans with several workers are refused (F1).
    RefusesWorkers,
    /// Plans with low-priority workers panic (F2).
    PanicsOnLowWorkers,
    /// A worker's threads lie in a thread-local (B4).
    InThreadLocal,
}

/// What a queue promises.
pub trait Promise: Copy + Debug + Default + Send + Sync + 'static {
    /// In which order threads come out.
    const ORDER: Order;
}

macro_rules! promises {
    ($($(#[$doc:meta])* $name:ident),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Promise for $name {
            const ORDER: Order = Order::$name;
        }
    )* };
}

promises! {
    /// Promises [`Order::Fair`].
    Fair,
    /// Promises [`Order::StrictPriority`].
    StrictPriority,
    /// Promises [`Order::AgeingPriority`].
    AgeingPriority,
    /// Promises [`Order::FairByLevel`].
    FairByLevel
}

/// Configures a queue with a given [`Defect`].
#[derive(Clone, Debug)]
pub struct Faulty<P = Fair> {
    defect: Defect,
    shared: Arc<Mutex<Lists>>,
    promise: PhantomData<P>,
}

impl<P: Promise> Faulty<P> {
    /// With this defect.
    pub fn new(defect: Defect) -> Self {
        Faulty { defect, shared: Arc::default(), promise: PhantomData }
    }

    /// Without any: the reference.
    pub fn sound() -> Self {
        Self::new(Defect::None)
    }
}

impl<P: Promise> Factory for Faulty<P> {
    type Output = FaultyQueue<P>;

    fn build(&self, plan: &Plan) -> Result<FaultyQueue<P>, SchedError> {
        if self.defect == Defect::PanicsOnLowWorkers && plan.low_priority_workers > 0 {
            panic!("low-priority workers?");
        }
        if self.defect == Defect::RefusesWorkers && plan.workers > 1 {
            return Err(SchedError::Config { setting: "workers", problem: "one is enough".into() });
        }
        let lists =
            if self.defect == Defect::SharesBetweenBuilds { self.shared.clone() } else { Arc::default() };
        Ok(FaultyQueue {
            defect: self.defect,
            plan: plan.clone(),
            lists,
            hint: AtomicUsize::new(0),
            promise: PhantomData,
        })
    }
}

/// A thread that waits.
#[derive(Debug)]
struct Entry {
    task: Runnable,
    /// The worker that pushed it; `None` if it came from outside.
    from: Option<usize>,
    /// Whether it was woken or spawned.
    fresh: bool,
    /// When it came.
    number: u64,
}

/// A list a level; a queue without levels uses one of them.
#[derive(Debug, Default)]
struct Lists {
    levels: [VecDeque<Entry>; 4],
    pushes: u64,
    pops: u64,
}

impl Lists {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().flatten()
    }
}

/// What [`Faulty`] builds.
#[derive(Debug)]
pub struct FaultyQueue<P> {
    defect: Defect,
    plan: Plan,
    lists: Arc<Mutex<Lists>>,
    /// What `len_hint` says (B6). Relaxed: a gauge, written under the lock.
    hint: AtomicUsize,
    promise: PhantomData<P>,
}

/// The lists, locked; the hint is brought up to date before they are let go.
struct Locked<'a, P: Promise> {
    queue: &'a FaultyQueue<P>,
    lists: MutexGuard<'a, Lists>,
}

impl<P: Promise> Deref for Locked<'_, P> {
    type Target = Lists;

    fn deref(&self) -> &Lists {
        &self.lists
    }
}

impl<P: Promise> DerefMut for Locked<'_, P> {
    fn deref_mut(&mut self) -> &mut Lists {
        &mut self.lists
    }
}

impl<P: Promise> Drop for Locked<'_, P> {
    fn drop(&mut self) {
        self.queue.hint.store(self.queue.count(&self.lists), Relaxed);
    }
}

thread_local! {
    /// For [`Defect::InThreadLocal`]; pointers, since tokens would panic when the OS thread ends.
    static HERE: RefCell<VecDeque<NonNull<Metadata>>> = const { RefCell::new(VecDeque::new()) };
}

/// Which of the threads that may run a defect puts first, if it does: newest or oldest of those that match.
type Preference = (bool, fn(&Entry, usize) -> bool);

impl<P: Promise> FaultyQueue<P> {
    fn lists(&self) -> Locked<'_, P> {
        Locked { queue: self, lists: self.lists.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// What a hint counts.
    fn count(&self, lists: &Lists) -> usize {
        let counts = |entry: &&Entry| match self.defect {
            Defect::HintsNothing => false,
            Defect::HintForgetsOutside => entry.from.is_some(),
            _ => entry.task.priority() != Priority::Low,
        };
        match self.defect {
            Defect::HintsNothing | Defect::HintForgetsOutside | Defect::HintForgetsLow => {
                lists.entries().filter(counts).count()
            }
            _ => lists.levels.iter().map(VecDeque::len).sum(),
        }
    }

    fn may_run(&self, worker: usize, task: &Runnable) -> bool {
        self.plan.low_priority_workers == 0
            || !self.plan.is_low_priority(worker)
            || task.priority() == Priority::Low
            || self.defect == Defect::AnythingOnLowWorkers
    }

    fn has_levels(&self) -> bool {
        P::ORDER != Order::Fair && self.defect != Defect::IgnoresLevels
    }

    fn enter(&self, task: Runnable, from: Option<usize>, kind: Option<PushKind>) {
        let fresh = matches!(kind, Some(PushKind::Spawn | PushKind::Wake));
        let mut lists = self.lists();
        lists.pushes += 1;
        let number = lists.pushes;
        let level = if self.has_levels() { task.priority() as usize } else { 0 };
        if number.is_multiple_of(97) {
            match self.defect {
                Defect::LosesOne => return forget(task),
                Defect::DropsOne => return drop(task),
                Defect::DoublesOne => {
                    // SAFETY: C1 holds. C2 does not: that is the defect. The suite runs no thread, and leaks
                    // what a broken queue holds.
                    let double = unsafe { Runnable::from_raw(task.as_ptr()) };
                    lists.levels[level].push_back(Entry { task: double, from, fresh, number });
                }
                _ => {}
            }
        }
        let entry = Entry { task, from, fresh, number };
        let goes_first = match kind {
            Some(PushKind::Joined) => self.defect == Defect::ExpeditesUnbounded,
            Some(PushKind::Timer) => self.defect == Defect::SleepersUnbounded,
            _ => false,
        };
        if goes_first {
            lists.levels[level].push_front(entry);
        } else {
            lists.levels[level].push_back(entry);
        }
    }

    fn preferences(&self) -> &'static [Preference] {
        match self.defect {
            Defect::NewestFirst | Defect::NewestInLevel => &[(true, |_, _| true)],
            Defect::NextUpUnbounded => {
                &[(true, |entry, worker| entry.fresh && entry.from == Some(worker)), (false, |_, _| true)]
            }
            Defect::OwnFirst => &[(false, |entry, worker| entry.from == Some(worker)), (false, |_, _| true)],
            Defect::OutsideFirst => &[(false, |entry, _| entry.from.is_none()), (false, |_, _| true)],
            Defect::StealsOnlyWhenIdle => {
                &[(false, |entry, worker| entry.from.is_none_or(|from| from == worker)), (false, |_, _| true)]
            }
            Defect::NeverSteals => &[(false, |entry, worker| entry.from.is_none_or(|from| from == worker))],
            Defect::FreshBeforeLevels => &[(false, |entry, _| entry.fresh), (false, |_, _| true)],
            Defect::OwnLevelsFirst => {
                &[(false, |entry, worker| entry.from == Some(worker)), (false, |_, _| true)]
            }
            _ => &[(false, |_, _| true)],
        }
    }

    /// Level and place of who comes next.
    fn choose(&self, lists: &Lists, worker: usize) -> Option<(usize, usize)> {
        let within = |level: usize, (newest, matches): Preference| {
            let list = &lists.levels[level];
            let fits =
                |&place: &usize| matches(&list[place], worker) && self.may_run(worker, &list[place].task);
            let mut places = 0..list.len();
            let place = if newest { places.rev().find(fits) } else { places.find(fits) };
            place.map(|place| (level, place))
        };
        let lifts = matches!(P::ORDER, Order::AgeingPriority | Order::FairByLevel)
            && match self.defect {
                Defect::NeverLifts => false,
                Defect::LiftsTooOften => !lists.pops.is_multiple_of(8),
                _ => lists.pops.is_multiple_of(8),
            };
        self.preferences().iter().find_map(|&preference| {
            let mut firsts = (0..4).filter_map(|level| within(level, preference));
            if lifts {
                firsts.min_by_key(|&(level, place)| lists.levels[level][place].number)
            } else {
                firsts.next()
            }
        })
    }
}

impl<P: Promise> ReadyQueue for FaultyQueue<P> {
    type Local = usize;

    const ORDER: Order = P::ORDER;

    fn local(&self, worker: WorkerId) -> usize {
        worker.index().expect("a worker has a number")
    }

    fn inject(&self, task: Runnable) {
        self.enter(task, None, None);
    }

    fn push(&self, &mut worker: &mut usize, task: Runnable, kind: PushKind) {
        if self.defect == Defect::InThreadLocal {
            return HERE.with_borrow_mut(|here| here.push_back(task.into_raw()));
        }
        self.enter(task, Some(worker), Some(kind));
    }

    fn pop(&self, &mut worker: &mut usize) -> Option<Runnable> {
        if self.defect == Defect::InThreadLocal
            && let Some(here) = HERE.with_borrow_mut(VecDeque::pop_front)
        {
            // SAFETY: C1: records are never freed. C2: `push` took the token apart, and it came out once.
            return Some(unsafe { Runnable::from_raw(here) });
        }
        if self.defect == Defect::HidesWhileMoving {
            let moving = take(&mut self.lists().levels);
            thread::yield_now();
            let mut lists = self.lists();
            for (list, moving) in lists.levels.iter_mut().zip(moving) {
                list.extend(moving);
            }
        }
        loop {
            let mut lists = self.lists();
            if self.defect == Defect::HasWorkBlinks {
                // So that others come upon the lock on one core too.
                thread::yield_now();
            }
            lists.pops += 1;
            if self.defect == Defect::NothingNowAndThen && lists.pops.is_multiple_of(7) {
                return None;
            }
            if let Some((level, place)) = self.choose(&lists, worker) {
                return lists.levels[level].remove(place).map(|entry| entry.task);
            }
            if self.defect != Defect::WaitsWhenEmpty {
                return None;
            }
            drop(lists);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_work(&self, &worker: &usize) -> bool {
        let lists = match self.defect {
            Defect::HasWorkAlways => return true,
            Defect::HasWorkBlinks => match self.lists.try_lock() {
                Ok(lists) => Locked { queue: self, lists },
                Err(_) => return false,
            },
            Defect::InThreadLocal if HERE.with_borrow(|here| !here.is_empty()) => return true,
            _ => self.lists(),
        };
        lists.entries().any(|entry| match self.defect {
            Defect::HasWorkOwnOnly => entry.from == Some(worker),
            Defect::HasWorkTellsAll => true,
            _ => self.may_run(worker, &entry.task),
        })
    }

    fn upcoming(&self, &worker: &usize, _distance: usize) -> Option<NonNull<Metadata>> {
        if self.defect == Defect::UpcomingInvents {
            return Some(NonNull::dangling());
        }
        let mut lists = self.lists();
        let (level, place) = self.choose(&lists, worker)?;
        if self.defect == Defect::UpcomingTakes {
            return lists.levels[level].remove(place).map(|entry| entry.task.into_raw());
        }
        Some(lists.levels[level][place].task.as_ptr())
    }

    fn expedite(&self, _: &mut usize, thread: &Metadata) {
        if !matches!(self.defect, Defect::ExpediteLoses | Defect::ExpeditesUnbounded) {
            return;
        }
        let mut lists = self.lists();
        for list in &mut lists.levels {
            if let Some(place) = list.iter().position(|entry| entry.task.as_ptr() == NonNull::from(thread)) {
                let entry = list.remove(place).expect("just seen");
                if self.defect == Defect::ExpediteLoses {
                    return forget(entry.task);
                }
                list.push_front(entry);
            }
        }
    }

    fn len_hint(&self) -> usize {
        match self.defect {
            Defect::HintWaits => self.count(&self.lists()),
            Defect::HintsAlways => self.hint.load(Relaxed) + 1,
            // A list of two queues has one count.
            Defect::SharesBetweenBuilds => self.count(&self.lists()),
            _ => self.hint.load(Relaxed),
        }
    }
}
