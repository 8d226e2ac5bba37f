//! Whether the monitor (`look`) sleeps, and its OS thread.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};

use crate::os::futex_wake;

pub(crate) const AWAKE: u32 = 0;
pub(crate) const ASLEEP: u32 = 1;
pub(crate) const STOP: u32 = 2;

pub(crate) struct MonitorState {
    pub(crate) word: AtomicU32,
    /// Its OS thread; 0: not started. Relaxed: a reader that sees 0 does without.
    pub(crate) thread_id: AtomicI32,
}

impl MonitorState {
    pub(crate) const fn new() -> Self {
        MonitorState { word: AtomicU32::new(AWAKE), thread_id: AtomicI32::new(0) }
    }

    /// The monitor's OS thread; 0: not started.
    pub(crate) fn thread_id(&self) -> i32 {
        self.thread_id.load(Relaxed)
    }

    /// Makes a monitor that sleeps until a certain time look at once. Async-signal-safe.
    pub(crate) fn nudge(&self) {
        futex_wake(&self.word, 1);
    }

    /// G5 of `look`.
    #[inline]
    pub(crate) fn wake_if_asleep(&self) {
        // ORDERING: SeqCst, as all of the word: G1 to G5 of `look` are in one total order.
        if self.word.load(SeqCst) == ASLEEP {
            self.wake();
        }
    }

    #[cold]
    pub(crate) fn wake(&self) {
        if self.word.compare_exchange(ASLEEP, AWAKE, SeqCst, SeqCst).is_ok() {
            futex_wake(&self.word, 1);
        }
    }

    /// Ends the monitor.
    pub(crate) fn stop(&self) {
        self.word.store(STOP, SeqCst);
        futex_wake(&self.word, 1);
    }
}
