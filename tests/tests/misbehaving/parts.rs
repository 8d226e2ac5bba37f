//! A ready queue and a timer, in safe code, that misbehave as a script says.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gvt_traits::{
    Factory, GvtId, IdleWait, Metadata, Order, Plan, PushFence, PushKind, ReadyQueue, Runnable, SchedError,
    TimerBackend, TimerEntry, TimerHandle, WakeTicket, WorkerId,
};

use crate::dice::Dice;

/// What may go wrong, a bit each; a script has some of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Fault {
    Lose,
    Drop,
    Stash,
    Unstash,
    Reorder,
    Empty,
    Panic,
    CallBack,
    Lie,
    Upcoming,
    BuildFails,
    Forge,
    Repeat,
    Early,
    Never,
    Clock,
    Wait,
    Share,
}

const FAULTS: u64 = Fault::Share as u64 + 1;

/// One script's dice and faults.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) dice: Dice,
    faults: u64,
    rate: u64,
    /// What two runtimes' parts have in common.
    shared: Mutex<VecDeque<Runnable>>,
    handles: Mutex<Vec<gvt::Handle>>,
    entries: Mutex<Vec<TimerEntry>>,
}

/// Tokens that outlive their script; nobody drops what is in a static.
static STASH: Mutex<VecDeque<Runnable>> = Mutex::new(VecDeque::new());

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Script {
    fn drop(&mut self) {
        lock(&STASH).append(&mut lock(&self.shared));
    }
}

impl Script {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let dice = Dice::new(seed);
        let mut faults = 0;
        for _ in 0..1 + dice.below(4) {
            faults |= 1 << dice.below(FAULTS);
        }
        let rate = 1 << dice.below(7);
        Arc::new(Script {
            dice,
            faults,
            rate,
            shared: Mutex::default(),
            handles: Mutex::default(),
            entries: Mutex::default(),
        })
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults & 1 << fault as u8 != 0
    }

    fn now(&self, fault: Fault) -> bool {
        self.has(fault) && self.dice.hits(self.rate)
    }

    /// What may happen in any method. The caller holds no lock.
    fn anywhere(&self) {
        if self.now(Fault::Panic) {
            panic!("on purpose");
        }
        if self.now(Fault::CallBack) {
            self.call_back();
        }
    }

    pub(crate) fn lend(&self, handle: gvt::Handle) {
        lock(&self.handles).push(handle);
    }

    pub(crate) fn forget_handles(&self) {
        lock(&self.handles).clear();
    }

    /// Calls of the runtime from within one of its parts.
    fn call_back(&self) {
        let handle = {
            let handles = lock(&self.handles);
            let place = self.dice.below(handles.len().max(1) as u64) as usize;
            handles.get(place).cloned()
        };
        match self.dice.below(12) {
            0 => gvt::yield_now(),
            1 => drop(gvt::try_spawn(|_| ())),
            2 => gvt::sleep(Duration::from_micros(20)),
            3 => {
                let (sender, receiver) = gvt::channel::<u32>(1);
                let _ = sender.try_send(1);
                let _ = receiver.recv_timeout(Duration::from_micros(20));
                let _ = receiver.recv_timeout(Duration::from_micros(20));
            }
            4 if self.dice.hits(2) => drop(handle.map(|handle| handle.try_spawn(|_| gvt::yield_now()))),
            5 => drop(gvt::blocking(|| 1)),
            6 => {
                if let Some(token) = gvt::current_token() {
                    token.cancel();
                }
            }
            7 => drop((gvt::current_id(), gvt::current_name(), gvt::current_worker())),
            8 => {
                let mutex = gvt::SchedMutex::new(1);
                *mutex.lock() += 1;
            }
            9 => {
                let runtime = gvt::Runtime::builder().workers(1).max_gvthreads(8).build();
                let _ = runtime.map(|runtime| runtime.try_block_on(|| 1));
            }
            10 => gvt::safepoint!(),
            _ => gvt::scope(|scope| drop(scope.spawn(|_| ()))),
        }
    }
}

/// Builds [`Queue`]s.
#[derive(Clone)]
pub(crate) struct QueueFactory(pub(crate) Arc<Script>);

pub(crate) struct Queue {
    script: Arc<Script>,
    own: Mutex<VecDeque<Runnable>>,
}

impl Factory for QueueFactory {
    type Output = Queue;

    fn build(&self, _: &Plan) -> Result<Queue, SchedError> {
        let script = self.0.clone();
        if script.now(Fault::BuildFails) {
            if script.dice.hits(2) {
                panic!("on purpose, while it is built");
            }
            return Err(SchedError::Config { setting: "queue", problem: "none today".into() });
        }
        Ok(Queue { script, own: Mutex::default() })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !self.script.has(Fault::Drop) {
            lock(&STASH).append(&mut lock(&self.own));
        }
    }
}

impl Queue {
    fn list(&self) -> MutexGuard<'_, VecDeque<Runnable>> {
        lock(if self.script.has(Fault::Share) { &self.script.shared } else { &self.own })
    }

    fn enter(&self, task: Runnable) {
        let script = &self.script;
        if script.now(Fault::Lose) {
            return std::mem::forget(task);
        }
        if script.now(Fault::Drop) {
            return drop(task);
        }
        if script.now(Fault::Stash) {
            return lock(&STASH).push_back(task);
        }
        if script.now(Fault::Reorder) { self.list().push_front(task) } else { self.list().push_back(task) }
    }
}

impl ReadyQueue for Queue {
    type Local = Vec<Runnable>;

    const ORDER: Order = Order::Fair;
    const PUSH_FENCE: PushFence = PushFence::ByRuntime;

    fn local(&self, _: WorkerId) -> Vec<Runnable> {
        Vec::new()
    }

    fn inject(&self, task: Runnable) {
        // Before or after: a panic then loses the token, or leaves it queued.
        if self.script.dice.hits(2) {
            let task = std::mem::ManuallyDrop::new(task);
            self.script.anywhere();
            return self.enter(std::mem::ManuallyDrop::into_inner(task));
        }
        self.enter(task);
        self.script.anywhere();
    }

    fn push(&self, local: &mut Vec<Runnable>, task: Runnable, _: PushKind) {
        local.push(task);
        // With the worker's own list in the middle of a change.
        self.script.anywhere();
        while let Some(task) = local.pop() {
            self.enter(task);
        }
    }

    fn pop(&self, local: &mut Vec<Runnable>) -> Option<Runnable> {
        self.script.anywhere();
        if self.script.now(Fault::Empty) {
            return None;
        }
        if self.script.now(Fault::Unstash)
            && let Some(task) = lock(&STASH).pop_front()
        {
            return Some(task);
        }
        if self.script.now(Fault::Reorder) {
            local.extend(self.list().pop_back());
            self.script.anywhere();
            return local.pop();
        }
        self.list().pop_front()
    }

    fn has_work(&self, _: &Vec<Runnable>) -> bool {
        self.script.anywhere();
        if self.script.now(Fault::Lie) {
            return self.script.dice.hits(2);
        }
        !self.list().is_empty()
    }

    fn upcoming(&self, _: &Vec<Runnable>, distance: usize) -> Option<NonNull<Metadata>> {
        let dice = &self.script.dice;
        if !self.script.now(Fault::Upcoming) {
            return self.list().get(distance).map(Runnable::as_ptr);
        }
        self.script.anywhere();
        let own = self.list().front().map(Runnable::as_ptr);
        let blank = Metadata::new(GvtId::new(dice.below(10) as u32));
        match dice.below(5) {
            0 => Some(NonNull::dangling()),
            1 => NonNull::new(std::ptr::without_provenance_mut(dice.any() as usize)),
            2 => Some(NonNull::from(&blank)),
            // Near a record of the table's, or in its middle.
            3 => own.map(|own| own.map_addr(|addr| addr.saturating_add(dice.below(1 << 16) as usize))),
            _ => own.map(|own| own.map_addr(|addr| addr | 1)),
        }
    }

    fn expedite(&self, _: &mut Vec<Runnable>, thread: &Metadata) {
        std::hint::black_box((thread.id(), thread.priority(), thread.tag(), thread.has_started()));
        self.script.anywhere();
        if self.script.now(Fault::Reorder) {
            let wanted = NonNull::from(thread);
            let mut list = self.list();
            if let Some(place) = list.iter().position(|task| task.as_ptr() == wanted) {
                list.swap(0, place);
            }
        }
    }

    fn len_hint(&self) -> usize {
        self.script.anywhere();
        if self.script.now(Fault::Lie) {
            return self.script.dice.any() as usize;
        }
        self.list().len()
    }
}

/// Builds [`Timer`]s.
#[derive(Clone)]
pub(crate) struct TimerFactory(pub(crate) Arc<Script>);

pub(crate) struct Timer {
    script: Arc<Script>,
    entries: Mutex<Vec<TimerEntry>>,
}

impl Factory for TimerFactory {
    type Output = Timer;

    fn build(&self, _: &Plan) -> Result<Timer, SchedError> {
        Ok(Timer { script: self.0.clone(), entries: Mutex::default() })
    }
}

impl Timer {
    fn forged(&self, entry: TimerEntry) -> TimerEntry {
        let dice = &self.script.dice;
        let sequence = match dice.below(3) {
            0 => entry.ticket.sequence.wrapping_add(dice.below(5)).wrapping_sub(2),
            1 => dice.below(8),
            _ => dice.any(),
        };
        let id = match dice.below(4) {
            0 => entry.ticket.id,
            1 => GvtId::NONE,
            2 => GvtId::new(dice.below(12) as u32),
            _ => GvtId::new(dice.any() as u32),
        };
        let deadline_ns = if dice.hits(2) { entry.deadline_ns } else { dice.any() };
        TimerEntry { ticket: WakeTicket { sequence, id }, deadline_ns, ..entry }
    }

    fn list(&self) -> MutexGuard<'_, Vec<TimerEntry>> {
        lock(if self.script.has(Fault::Share) { &self.script.entries } else { &self.entries })
    }
}

impl TimerBackend for Timer {
    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        self.script.anywhere();
        let mut list = self.list();
        if !self.script.now(Fault::Lose) {
            list.push(entry);
        }
        if self.script.now(Fault::Repeat) {
            list.push(entry);
        }
        if self.script.now(Fault::Forge) {
            list.push(self.forged(entry));
        }
        TimerHandle { place: entry.ticket.id.index().into(), generation: entry.ticket.sequence }
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        self.script.anywhere();
        if self.script.now(Fault::Lie) {
            return None;
        }
        let mut list = self.list();
        let place = list.iter().position(|entry| {
            u64::from(entry.ticket.id.index()) == handle.place && entry.ticket.sequence == handle.generation
        })?;
        Some(list.swap_remove(place))
    }

    fn expire(&self, _: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        self.script.anywhere();
        if self.script.now(Fault::Never) {
            return 0;
        }
        let all = self.script.now(Fault::Early);
        let due: Vec<_> = self.list().extract_if(.., |entry| all || entry.deadline_ns <= now_ns).collect();
        let mut count = 0;
        for entry in due {
            let times = if self.script.now(Fault::Repeat) { 3 } else { 1 };
            for _ in 0..times {
                if self.script.now(Fault::Forge) {
                    sink(self.forged(entry));
                }
                sink(entry);
                count += 1;
            }
            if self.script.now(Fault::Panic) {
                panic!("on purpose, between entries");
            }
        }
        if self.script.now(Fault::Lie) { self.script.dice.any() as usize } else { count }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.script.anywhere();
        if self.script.now(Fault::Lie) {
            return self.script.dice.hits(2).then(|| self.script.dice.any());
        }
        self.list().iter().map(|entry| entry.deadline_ns).min()
    }

    fn idle_wait(&self) -> IdleWait {
        self.script.anywhere();
        if self.script.now(Fault::Wait) {
            return match self.script.dice.below(4) {
                0 => IdleWait::Due,
                1 => IdleWait::Forever,
                2 => IdleWait::Until(self.script.dice.any()),
                _ => IdleWait::Readable(self.script.dice.below(40) as i32 - 2),
            };
        }
        self.next_deadline_ns().map_or(IdleWait::Forever, IdleWait::Until)
    }

    fn now_ns(&self) -> Option<u64> {
        self.script.anywhere();
        self.script.now(Fault::Clock).then(|| self.script.dice.any())
    }

    fn len(&self) -> usize {
        self.list().len()
    }
}
