//! The spare starter (Go's `templateThread`): one OS thread that starts the spare ones that forced preemption
//! needs.
//!
//! **Hazard.** Starting an OS thread allocates, and a preempted thread that waits for a worker may hold the
//! allocator's lock. A starter with a worker of its own would keep that worker from it.
//! **Protocol.** Code that finds too few spares (`Pool::missing`) asks the starter, which has no worker. It
//! starts as many as are missing. Each adds itself to the pool when it runs: an OS thread that still waits
//! for a processor cannot replace one that computes. While every processor computes, the new OS thread is
//! started on the starter's own processor, and the starter then sleeps until it runs. The starter asks the
//! kernel for short slices, so that it gets that processor at once.
//!
//! **Hazard.** A preempted thread may hold the lock of the allocator, or of the loader, all the same. The
//! starter waits for it, or the new OS thread does before its first instruction of ours; and with no spare
//! left no thread is preempted to let the holder run.
//! **Protocol.** The starter waits until every OS thread that it has started runs, however long that takes,
//! and counts as working meanwhile. A monitor that sees the starter at work for long, without a spare, lets
//! preempted threads run (`lock_holders`).
//!
//! **Hazard.** The kernel refuses a new OS thread for a while: no memory, too many processes.
//! **Protocol.** The monitor asks again at each look that needs a spare and finds none. After a failure the
//! starter pauses: 1 ms, then twice as long each time, 100 ms at most. While nothing computes, nothing asks.
//!
//! **Rejected.** Starting them when a worker arrives: 100 µs of the worker's time each, and sometimes a wait
//! for the allocator, ended by `lock_holders`. Starting them in the monitor, which must not wait for a lock.
//! Giving up after a while: then no thread is preempted until a spare is requested again, and where arriving
//! workers request it, none arrives.
//!
//! It sleeps while there are enough spares (`request`).

use std::ptr;
use std::sync::atomic::Ordering::*;

use crate::kernel::sched::start;
use crate::kernel::worker::core::{Core, Parts};
use crate::kernel::worker::wake_affine;
use crate::os::{Processors, Slice, monotonic_ns, processor, set_slice, set_timer_slack};
use crate::protocol::request::Served;

/// The pause after a first failure, and the longest one.
const PAUSES_NS: (u64, u64) = (1_000_000, 100_000_000);

/// The starter's loop.
pub(crate) fn run<P: Parts>(core: &Core<P>) {
    // SAFETY: the core is freed only after the starter and those that it starts have been joined.
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

/// Starts spares until there are as many as are wanted; `false` after a failure.
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

/// Starts a spare; whether it will run.
fn start_spare<P: Parts>(core: &'static Core<P>) -> bool {
    let state = &core.base.starter;
    state.coming.fetch_add(1, Relaxed);
    // Confines this OS thread to its processor, which the new one inherits; keeps the affinity that it had.
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
