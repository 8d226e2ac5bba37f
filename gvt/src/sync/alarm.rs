//! Wakes futures at a time.
//!
//! A future may be polled by any executor, on any thread, so its deadline cannot lie in a runtime's timers. One OS thread for the
//! process, started when the first such deadline comes, sleeps until the next one.
//!
//! **Protocol.** An entry is a deadline, a number that tells it from others, and whom to wake. Whoever set it keeps an [`Alarm`];
//! dropping that takes the entry back, so that deadlines which are not reached leave nothing behind.
//!
//! **Limits.** For futures and tokens only: green threads and OS threads wait for deadlines themselves.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::sched::local::Section;

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

/// An entry; dropping it takes it back.
#[derive(Debug)]
pub(crate) struct Alarm(Key);

impl Alarm {
    /// Wakes `waker` when `when` has come.
    ///
    /// # Panics
    ///
    /// If the OS refuses a thread.
    pub(crate) fn set(when: Instant, waker: &Waker) -> Self {
        let waker = waker.clone();
        // Not to be taken off the worker with std's lock: the section ends after the lock.
        let _section = Section::new();
        let mut state = state();
        let key = (when, state.next);
        state.next += 1;
        state.entries.insert(key, waker);
        if !state.started {
            std::thread::Builder::new()
                .name("gvt-alarm".into())
                .spawn(run)
                .expect("a thread that wakes futures at their deadlines");
            state.started = true;
        } else if state.entries.first_key_value().is_some_and(|(first, _)| *first == key) {
            CHANGED.notify_one();
        }
        Alarm(key)
    }

    /// When it wakes.
    pub(crate) fn when(&self) -> Instant {
        self.0.0
    }

    /// From now on wakes `waker` instead; `false`: it has woken somebody already, and wakes nobody any more.
    pub(crate) fn renew(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let section = Section::new();
        let mut state = state();
        let (old, renewed) = match state.entries.get_mut(&self.0) {
            Some(place) => (std::mem::replace(place, waker), true),
            None => (waker, false),
        };
        drop(state);
        drop(section);
        // Somebody else's code.
        drop(old);
        renewed
    }
}

impl Drop for Alarm {
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
                // Somebody else's code; there is nobody to panic to.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
                state = self::state();
            }
            Some(when) => {
                state = CHANGED.wait_timeout(state, when - now).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}
