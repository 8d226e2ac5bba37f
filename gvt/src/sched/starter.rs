//! The starter: one OS thread that starts the spare ones which forced preemption needs.
//!
//! **Hazard.** To start an OS thread is to allocate, and the allocator's lock may be held by a thread that was preempted and waits
//! for a worker. Whoever starts one with a worker in hand keeps that worker from it.
//! **Protocol.** Whoever finds too few spares (`Pool::is_short`) tells the starter, which has no worker to lose. It adds a
//! spare to the pool only when that has come up: an OS thread that has still to wait for a processor cannot take the
//! place of one that computes. While every processor computes, a new OS thread is started on the starter's own, which then
//! sleeps until the new one has come; and since the starter asks the kernel for short slices, it gets there at once.
//!
//! **Hazard.** The allocator's lock may be held by a preempted thread all the same, and with no spare left nobody is taken off
//! to let that thread go on. **Protocol.** The monitor sees a starter at work for long while there is no spare, and lets preempted
//! threads go on (`rescue`).
//!
//! **Rejected.** To start them on arrival of a worker, as it was: 100 µs of the worker's time each, and now and then a wait for
//! the allocator, ended by `rescue`. To let the monitor do it, which must not wait for anybody.
//!
//! Asleep while there are spares enough.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use super::core::{Core, Parts};
use super::lifecycle;
use crate::os::{
    Processors, Slice, futex_wait_until, futex_wake, monotonic_ns, processor, set_slice, set_timer_slack,
};

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const STOP: u32 = 2;

/// How long a new OS thread may take to come up before the next is started.
const PATIENCE_NS: u64 = 10_000_000;

pub(crate) struct StarterState {
    word: AtomicU32,
    /// OS threads that are coming up.
    coming: AtomicU32,
    /// It is at work.
    starting: AtomicBool,
}

impl StarterState {
    pub(crate) const fn new() -> Self {
        StarterState {
            word: AtomicU32::new(IDLE),
            coming: AtomicU32::new(0),
            starting: AtomicBool::new(false),
        }
    }

    /// Sees to it that there are spares enough, before long.
    pub(crate) fn ask(&self) {
        // Relaxed: the pool's lock orders what the starter looks at; the word alone decides whether it sleeps.
        if self.word.compare_exchange(IDLE, ASKED, Relaxed, Relaxed).is_ok() {
            futex_wake(&self.word, 1);
        }
    }

    /// Whether a spare is to come.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting.load(Relaxed)
    }

    /// Ends the starter.
    pub(crate) fn stop(&self) {
        self.word.store(STOP, Relaxed);
        futex_wake(&self.word, 1);
    }

    /// A new OS thread has come up, or will not.
    fn has_come(&self) {
        self.coming.fetch_sub(1, Relaxed);
        futex_wake(&self.coming, 1);
    }

    /// Waits until none is coming up any more; `false` if that takes too long.
    fn wait(&self, deadline_ns: u64) -> bool {
        loop {
            match self.coming.load(Relaxed) {
                0 => return true,
                coming if !futex_wait_until(&self.coming, coming, Some(deadline_ns)) => return false,
                _ => {}
            }
        }
    }
}

/// The starter's loop.
pub(crate) fn run<P: Parts>(core: &Core<P>) {
    // SAFETY: the core is freed only after the starter, and those that it starts, have been joined.
    let core: &'static Core<P> = unsafe { &*ptr::from_ref(core) };
    let state = &core.base.starter;
    let pool = &core.base.pool;
    set_timer_slack();
    set_slice(Slice::Shortest);
    loop {
        match state.word.compare_exchange(ASKED, IDLE, Relaxed, Relaxed) {
            Ok(_) => {}
            Err(STOP) => return,
            Err(word) => {
                futex_wait_until(&state.word, word, None);
                continue;
            }
        }
        state.starting.store(true, Relaxed);
        while pool.is_short() && start_spare(core) {}
        state.starting.store(false, Relaxed);
    }
}

/// Starts a spare; whether it has come up.
fn start_spare<P: Parts>(core: &'static Core<P>) -> bool {
    let state = &core.base.starter;
    state.coming.fetch_add(1, Relaxed);
    // On this processor, which whoever is started inherits; where it could run before.
    let before = Processors::of(0)
        .filter(|_| processor().and_then(Processors::only).is_some_and(|here| here.confine(0)));
    let undo = move || before.map(|before| before.confine(0));
    let started = lifecycle::start_os_thread(core, move |os_thread| {
        set_slice(Slice::Usual);
        undo();
        core.base.pool.add_spare(os_thread);
        state.has_come();
    });
    let has_come = started.is_ok() && state.wait(monotonic_ns() + PATIENCE_NS);
    if started.is_err() {
        state.has_come();
    }
    undo();
    has_come
}
