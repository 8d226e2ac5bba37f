//! Deadlines of futures.
//!
//! Any executor, on any thread, may poll a future, so its deadline cannot be in a runtime's timers. One OS
//! thread for the process, started for the first such deadline, sleeps until the next one.
//!
//! If the caller's runtime has a clock of its own (virtual time), the deadline is one of that clock, and a
//! green thread of that runtime waits for it (`time::ringer`).
//!
//! If the OS refuses that thread, each new deadline tries again. Until one succeeds, a green thread of the
//! caller's runtime waits instead (`time::ringer`); without a runtime the future is polled again and again
//! until its time has come.
//!
//! **Protocol.** An entry is a deadline, a unique number, and a waker. Its owner keeps an [`Alarm`]; dropping
//! that removes the entry, so that deadlines that are not reached leave nothing behind.
//!
//! **Limits.** For futures and tokens only: green threads and OS threads wait for deadlines themselves.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Instant;

use crate::kernel::state::upper::Ring;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::core::CoreBase;
use crate::kernel::worker::section::Section;
use crate::protocol::user::Waker;
use crate::wait::park;

type Key = (Instant, u64);

struct State {
    entries: BTreeMap<Key, Waker>,
    next: u64,
    started: bool,
}

static STATE: Mutex<State> = Mutex::new(State { entries: BTreeMap::new(), next: 0, started: false });
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A deadline at which a waker is called; dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Alarm {
    when: Instant,
    place: KeptBy,
}

/// What waits for the deadline.
#[derive(Debug)]
enum KeptBy {
    /// The process's thread.
    Process(Entry),
    /// A green thread: in virtual time, or where there is no such thread.
    Runtime(Box<dyn Ring>),
}

/// An entry of the process's thread; dropping it removes the entry.
#[derive(Debug)]
struct Entry(Key);

impl Alarm {
    /// Has the polling task woken when `when` has come, or earlier; `place` keeps its alarm.
    pub(crate) fn wake_at(place: &mut Option<Alarm>, when: Instant, context: &mut Context<'_>) {
        let waker = context.waker();
        let renewed = place.as_ref().is_some_and(|alarm| alarm.when == when && alarm.renew(waker));
        if !renewed {
            let core = park::current().map(Record::core);
            let ring = |core: &CoreBase| core.upper.ring(when, waker).map(KeptBy::Runtime);
            // Only the runtime's timers know a clock of its own.
            let place_of = core.filter(|core| core.scale.is_some()).and_then(ring);
            let place_of = place_of.or_else(|| Entry::set(when, waker).map(KeptBy::Process));
            let place_of = place_of.or_else(|| core.and_then(ring));
            let is_set = place_of.is_some();
            *place = place_of.map(|place| Alarm { when, place });
            if !is_set {
                // Nothing can wait for it: the task is polled again at once.
                Waker::from_ref(waker).wake();
                crate::wait::yielding::yield_now();
            }
        }
    }

    /// Replaces the waker with `waker`; `false`: the old one was called already, and there will be no other
    /// call.
    fn renew(&self, waker: &std::task::Waker) -> bool {
        match &self.place {
            KeptBy::Process(entry) => entry.renew(waker),
            KeptBy::Runtime(ringer) => ringer.renew(waker),
        }
    }
}

impl Entry {
    /// Calls `waker` when `when` has come; `None`: the OS refuses the thread for it.
    fn set(when: Instant, waker: &std::task::Waker) -> Option<Self> {
        let waker = Waker::from_ref(waker);
        // No preemption while std's lock is held: the section ends after the lock.
        let section = Section::new();
        let mut state = state();
        if !state.started {
            state.started = std::thread::Builder::new().name("gvt-alarm".into()).spawn(run).is_ok();
            if !state.started {
                drop(state);
                drop(section);
                // Users' code.
                drop(waker);
                return None;
            }
        }
        let key = (when, state.next);
        state.next += 1;
        state.entries.insert(key, waker);
        if state.entries.first_key_value().is_some_and(|(first, _)| *first == key) {
            CHANGED.notify_one();
        }
        Some(Entry(key))
    }

    /// Replaces the waker with `waker`; `false`: the old one was called already, and there will be no other
    /// call.
    fn renew(&self, waker: &std::task::Waker) -> bool {
        let waker = Waker::from_ref(waker);
        let section = Section::new();
        let mut state = state();
        let (old, renewed) = match state.entries.get_mut(&self.0) {
            Some(place) => (std::mem::replace(place, waker), true),
            None => (waker, false),
        };
        drop(state);
        drop(section);
        // Users' code.
        drop(old);
        renewed
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let section = Section::new();
        let entry = state().entries.remove(&self.0);
        drop(section);
        drop(entry);
    }
}

fn run() {
    crate::os::set_timer_slack();
    let mut state = state();
    loop {
        let now = Instant::now();
        let next = state.entries.first_key_value().map(|(key, _)| key.0);
        match next {
            Some(when) if when <= now => {
                let (_, waker) = state.entries.pop_first().expect("just seen");
                drop(state);
                waker.wake();
                state = crate::wait::alarm::state();
            }
            Some(when) => {
                state = CHANGED.wait_timeout(state, when - now).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}
