//! The starter: one OS thread that starts the spare ones which forced preemption needs.
//!
//! **Hazard.** To start an OS thread is to allocate, and the allocator's lock may be held by a thread that was preempted and waits
//! for a worker. Whoever starts one with a worker in hand keeps that worker from it.
//! **Protocol.** Whoever finds too few spares (`Pool::missing`) tells the starter, which has no worker to lose. It starts as many as
//! are missing. Each adds itself to the pool when it has come up: an OS thread that has still to wait for a processor cannot take
//! the place of one that computes. While every processor computes, a new OS thread is started on the starter's own, which then
//! sleeps until the new one has come; and since the starter asks the kernel for short slices, it gets there at once.
//!
//! **Hazard.** The lock of the allocator, or that of the loader, may be held by a preempted thread all the same: the starter waits for it, or
//! the new OS thread does before its first instruction of ours, and with no spare left nobody is taken off to let that thread go on.
//! **Protocol.** The starter waits until those that it has started have come up, however long that takes, and counts as at work
//! meanwhile. The monitor sees a starter at work for long while there is no spare, and lets preempted threads go on (`lock_holders`).
//!
//! **Hazard.** The kernel refuses a new OS thread for a while: no memory, too many processes. **Protocol.** The monitor asks
//! again at each look at which it finds no spare for somebody, and the starter pauses between two attempts that
//! fail: 1 ms, then twice as long each time, 100 ms at the most. Nobody asks while nobody computes.
//!
//! **Rejected.** To start them on arrival of a worker: 100 µs of the worker's time each, and now and then a wait for
//! the allocator, ended by `lock_holders`. To let the monitor do it, which must not wait for anybody. To give up after a while: then
//! nobody is taken off until somebody asks again, and who asks on arrival of a worker does not arrive.
//!
//! Asleep while there are spares enough (`request`).

use std::ptr;
use std::sync::atomic::Ordering::*;

use crate::kernel::sched::start;
use crate::kernel::worker::core::{Core, Parts};
use crate::kernel::worker::wake_affine;
use crate::os::{Processors, Slice, monotonic_ns, processor, set_slice, set_timer_slack};
use crate::protocol::request::Served;

/// After a first attempt that failed, and at the most after one of many.
const PAUSES_NS: (u64, u64) = (1_000_000, 100_000_000);

/// The starter's loop.
pub(crate) fn run<P: Parts>(core: &Core<P>) {
    // SAFETY: the core is freed only after the starter, and those that it starts, have been joined.
    let core: &'static Core<P> = unsafe { &*ptr::from_ref(core) };
    let state = &core.base.starter;
    set_timer_slack();
    set_slice(Slice::Shortest);
    let mut pause_ns = PAUSES_NS.0;
    loop {
        let served = state.request.serve(|| {
            state.starting.store(true, Relaxed);
            let supplied = supply(core);
            state.starting.store(false, Relaxed);
            supplied
        });
        match served {
            Served::Stop => return,
            Served::Idle => state.request.sleep(),
            Served::Asked(true) => pause_ns = PAUSES_NS.0,
            Served::Asked(false) => {
                state.request.pause(monotonic_ns() + pause_ns);
                pause_ns = (pause_ns * 2).min(PAUSES_NS.1);
            }
        }
    }
}

/// Starts spares until there are as many as are wanted; `false` if one could not be started.
fn supply<P: Parts>(core: &'static Core<P>) -> bool {
    loop {
        let missing = core.base.pool.missing();
        if missing == 0 {
            return true;
        }
        let started = (0..missing).all(|_| start_spare(core));
        core.base.starter.wait();
        if !started {
            return false;
        }
    }
}

/// Starts a spare; whether it is on its way.
fn start_spare<P: Parts>(core: &'static Core<P>) -> bool {
    let state = &core.base.starter;
    state.coming.fetch_add(1, Relaxed);
    // On this processor, which whoever is started inherits; where it could run before.
    let before = Processors::of(0)
        .zip(processor())
        .filter(|&(_, here)| Processors::only(here).is_some_and(|here| here.confine(0)));
    let undo = move || {
        before.map(|(before, here)| wake_affine::restore(0, here, before, core.base.monitor.thread_id()))
    };
    let started = start::start_os_thread(core, move |os_thread| {
        set_slice(Slice::Usual);
        undo();
        core.base.pool.add_spare(os_thread);
        state.has_come();
    });
    undo();
    if started.is_err() {
        state.has_come();
    }
    started.is_ok()
}
