//! Wakes futures at a time.
//!
//! A future may be polled by any executor, on any thread, so its deadline cannot lie in a runtime's timers. One OS thread for the
//! process, started when the first such deadline comes, sleeps until the next one.
//!
//! **Limits.** For futures only: green threads and OS threads wait for deadlines themselves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::sched::local::Section;

struct Entry {
    when: Instant,
    waker: Waker,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

struct State {
    entries: BinaryHeap<Reverse<Entry>>,
    started: bool,
}

static STATE: Mutex<State> = Mutex::new(State { entries: BinaryHeap::new(), started: false });
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes `waker` when `when` has come; perhaps once more than needed, if the future has gone or waits for something else.
///
/// # Panics
///
/// If the OS refuses a thread.
pub(crate) fn set(when: Instant, waker: Waker) {
    // Not to be taken off the worker with std's lock: the section ends after the lock.
    let _section = Section::new();
    let mut state = state();
    let first = state.entries.peek().is_none_or(|Reverse(entry)| when < entry.when);
    state.entries.push(Reverse(Entry { when, waker }));
    if !state.started {
        std::thread::Builder::new()
            .name("gvt-alarm".into())
            .spawn(run)
            .expect("a thread that wakes futures at their deadlines");
        state.started = true;
    } else if first {
        CHANGED.notify_one();
    }
}

fn run() {
    crate::os::set_timer_slack();
    let mut state = state();
    loop {
        let now = Instant::now();
        let next = state.entries.peek().map(|Reverse(entry)| entry.when);
        match next {
            Some(when) if when <= now => {
                let entry = state.entries.pop().expect("just seen");
                drop(state);
                entry.0.waker.wake();
                state = self::state();
            }
            Some(when) => {
                state = CHANGED.wait_timeout(state, when - now).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}
