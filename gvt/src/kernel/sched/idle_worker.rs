//! What a worker does when there is nothing to run.
//!
//! It fires due timers, announces itself idle (`idle`), looks for work again, and sleeps: until it is woken,
//! until the next deadline if no other idle worker watches it, or in the timer backend's file descriptor.
//!
//! **Moderation.** With many timers due at short intervals, each would cost a sleep and a wake-up, some 5 µs,
//! and as much again in cache misses that are cheaper in a batch. So an idle worker that has just fired
//! timers sleeps at least for `timer_moderation`'s pause, and then fires all that are due.
//!
//! **Naps.** If a worker is often woken in vain, for threads whose spawners wait for them at once, it wakes
//! by itself for a while (`idle`). Not in virtual time, where chance would then decide what runs when.
//!
//! **Virtual time** moves only when a worker asks the backend how to wait. The last worker that announces
//! itself does so; the others sleep until woken. Announcements are in one total order, so there is a last
//! one. It does not ask while a thread settles (`settle`): if the settling threads were not woken, some
//! thread is away from all workers and comes back through one.
//!
//! **The clock watcher.** One idle worker at a time watches the earliest deadline (`timer_watch_ns`); the
//! others sleep until woken. A watcher that is woken for work leaves the watch to the next worker that
//! becomes idle, to the maintenance of busy workers, and at the latest to the monitor, which is awake while
//! any worker is busy.

use std::sync::atomic::Ordering::*;

use gvt_traits::{IdleWait, ReadyQueue, TimerBackend};

use crate::kernel::sched::timers::fire_timers;
use crate::kernel::sched::wakeup::wake_one;
use crate::kernel::worker::core::{Parts, Worker};
use crate::kernel::worker::quiet::settle_if_quiet;
use crate::kernel::worker::references::release_deferred;
use crate::os::monotonic_ns;
use crate::protocol::idle::{Errand, NAP_NS, Retracted, Role};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slept {
    /// There may be a thread to run.
    Awake,
    /// The runtime ends.
    Stop,
}

/// # Safety
///
/// **C1**: called from the scheduler's loop of the OS thread that carries `worker`.
pub(crate) unsafe fn sleep<P: Parts>(worker: &Worker<P>) -> Slept {
    let core = worker.core();
    let base = &worker.base;
    release_deferred(base);
    // SAFETY: C1: this OS thread carries `worker`.
    if unsafe { fire_timers(worker) } > 0 {
        return Slept::Awake;
    }
    base.moderation.idle(|| core.now_ns());
    let row = base.row();
    row.current_gvthread.store(u32::MAX, Relaxed);
    let idle = &core.base.idle;
    if let Some(since_ns) = base.errand_ns.take() {
        let has_found = !base.searching.get();
        idle.has_worked(has_found.then(|| core.now_ns().saturating_sub(since_ns)));
    }
    let naps = !core.base.is_virtual && idle.begin_nap(base.index);
    let role = if base.searching.replace(false) { Role::Searcher } else { Role::Runner };
    idle.announce(base.index, role);
    row.is_parked.store(1, Relaxed);

    let mut stop = false;
    let mut has_waited = false;
    if core.base.lifecycle.is_stopping() {
        stop = true;
    // SAFETY: C1: called from the worker loop.
    } else if !idle.rescans() || !unsafe { has_work(worker) } {
        core.base.lifecycle.note_idle();
        if !settle_if_quiet(&core.base) {
            wait(worker, naps.then(|| monotonic_ns() + NAP_NS));
            has_waited = true;
        }
    }

    let now_ns = core.now_ns();
    base.coarse_ns.store(now_ns, Relaxed);
    row.is_parked.store(0, Relaxed);
    if core.base.is_virtual {
        // The number of earlier searches is chance, and maintenance is due by this count.
        row.activity_counter.store(0, Relaxed);
    }
    let retracted = idle.retract(base.index);
    let mut searches = retracted != Retracted::Alone;
    let is_owed = naps && idle.end_nap(&mut searches);
    base.searching.set(searches);
    if is_owed || retracted == Retracted::Chosen(Errand::Child) {
        base.errand_ns.set(Some(now_ns));
    } else if naps && has_waited {
        idle.stop_napping();
    }
    core.base.monitor.wake_if_asleep();
    if stop {
        if base.searching.replace(false) {
            // The wake-up is meant for a thread that some worker has to find.
            idle.found(base.index);
            wake_one(&core.base, idle.class_of(base.index));
        }
        return Slept::Stop;
    }
    Slept::Awake
}

/// The second look (I7 of `idle`).
///
/// # Safety
///
/// C1 of [`sleep`].
unsafe fn has_work<P: Parts>(worker: &Worker<P>) -> bool {
    let core = worker.core();
    // SAFETY: C1: carried here; no other borrow.
    core.queue.has_work(unsafe { worker.queue() })
        || crate::kernel::worker::binding::is_awaited()
        // The fence in its `push` pairs with `announce`'s.
        || core.base.returning.has_any()
}

/// Sleeps; at most until `nap_ends_ns`, if that is given.
fn wait<P: Parts>(worker: &Worker<P>, nap_ends_ns: Option<u64>) {
    let core = worker.core();
    let base = &worker.base;
    if core.base.is_virtual && (!core.base.are_all_idle() || core.base.upper.has_settlers()) {
        base.parker.sleep(None);
        return;
    }
    let watch = &core.base.timer_watch_ns;
    match core.timer.idle_wait() {
        IdleWait::Due => {}
        // Relaxed: a hint that saves needless watchers. If two workers watch, one wakes for nothing; if a
        // watcher leaves, the module head says which worker takes over.
        IdleWait::Until(deadline) if deadline < watch.load(Relaxed) => {
            watch.store(deadline, Relaxed);
            let until = deadline.max(base.moderation.resumes_ns());
            base.parker.sleep(Some(nap_ends_ns.map_or(until, |ends| ends.min(until))));
            let _ = watch.compare_exchange(deadline, u64::MAX, Relaxed, Relaxed);
        }
        // A napping worker leaves the descriptor to others, or to its own next sleep if there are none.
        IdleWait::Readable(descriptor) if nap_ends_ns.is_none() => {
            let me = base.index as u32 + 1;
            if core.base.poller.compare_exchange(0, me, Relaxed, Relaxed).is_ok() {
                base.parker.poll(descriptor, &core.base.wake_descriptor);
                core.base.poller.store(0, Relaxed);
            } else {
                base.parker.sleep(None);
            }
        }
        _ => {
            base.parker.sleep(nap_ends_ns);
        }
    }
}
