//! The beginning and the end of a runtime.
//!
//! **States.** running → closing (its `Runtime` was dropped or shut down and waits for the threads
//! that remain) → stopping (no thread is left: workers end) → gone, or orphaned: records are still
//! referred to by handles and tokens outside, and the last of these frees the core.
//!
//! **Waiting for the end.** Nothing on the path of a thread's end tells the closer. Instead a worker
//! that goes idle while the runtime is closing wakes the closer, which sums the workers' counters
//! (`CoreBase::live`); the last thread's end is followed by its worker going idle.
//!
//! **Ordering.** The flags are SeqCst, in one total order with the set of sleepers (`idle`): a worker that announces
//! itself after the closer has looked sees `closing`, and one that looks for `stopping` after its announcement is either
//! notified or sees it. Nothing here is hot.

use std::ptr::{self};
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use gvt_traits::{Preemptor, PushKind};

use crate::kernel::monitor::report;
use crate::kernel::state::deadlock::lines;
use crate::kernel::thread::record::{Record, UNWIND};
use crate::kernel::worker::core::{Core, CoreBase, Parts};
use crate::kernel::worker::joiner;
use crate::protocol::wait;

/// How a wait for the end came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closed {
    /// No thread is left.
    Empty,
    /// Time ran out with so many left.
    Left(u64),
}

/// How long a closer waits before it names on stderr what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// At shutdown a thread whose wait ends by itself within this time is left to it, and so are, for so long, those that it
/// may wake.
const SOON_NS: u64 = 1_000_000_000;

/// Whether waits can be unwound. Cargo builds a program and its dependencies with one strategy.
#[derive(PartialEq, Eq)]
enum Unwinds {
    AtShutdown,
    /// Unwinding aborts the process.
    Never,
}

const UNWINDS: Unwinds = if cfg!(panic = "abort") { Unwinds::Never } else { Unwinds::AtShutdown };

/// Waits until no thread is left. With `unwind`, threads that nothing can wake any more are unwound; where that cannot be done, it
/// is not waited for them without a limit.
pub(crate) fn close(core: &CoreBase, unwind: bool, limit: Option<Duration>) -> Closed {
    let lifecycle = &core.lifecycle;
    lifecycle.closing.store(true, SeqCst);
    let begin = Instant::now();
    let mut named = false;
    let mut guard = lifecycle.closer.lock().unwrap();
    loop {
        let live = core.live();
        if live == 0 {
            return Closed::Empty;
        }
        let waited = begin.elapsed();
        if limit.is_some_and(|limit| waited >= limit) {
            return Closed::Left(live);
        }
        if waited >= PATIENCE && !named {
            named = true;
            report_remaining(core, waited);
        }
        let mut pause = if named { Duration::from_secs(3600) } else { PATIENCE - waited };
        if unwind && UNWINDS == Unwinds::Never {
            drop(guard);
            if limit.is_none() && core.idle.while_all_sleep(core.worker_count, || all_are_stuck(core)) {
                eprintln!(
                    "gvt: a shutdown leaves {live} green thread{} that nothing in the runtime will wake. A program that is built \
                     with panic = \"abort\" cannot unwind them; have them wait for their tokens.",
                    if live == 1 { "" } else { "s" }
                );
                return Closed::Left(live);
            }
            guard = lifecycle.closer.lock().unwrap();
            pause = pause.min(Duration::from_millis(20));
        } else if unwind {
            if core.are_all_idle() {
                drop(guard);
                // Whoever is away for a short while may wake others when it comes back; but it is not waited for
                // again and again.
                unwind_waiters(core, begin.elapsed().as_nanos() < SOON_NS.into());
                guard = lifecycle.closer.lock().unwrap();
            }
            // A look now and then for threads whose long sleep turned up meanwhile.
            pause = pause.min(Duration::from_millis(20));
        }
        if let Some(limit) = limit {
            pause = pause.min(limit - waited);
        }
        if core.live() != 0 {
            guard = lifecycle.idled.wait_timeout(guard, pause).unwrap().0;
        }
    }
}

/// Ends the waits of threads that nothing else is going to wake, asking them to unwind. With `patience`, only if no thread is
/// about to come back by itself: from a short sleep, or from where it keeps its OS thread.
fn unwind_waiters(core: &CoreBase, patience: bool) {
    let now = core.now_ns();
    let soon = now.saturating_add(SOON_NS);
    let comes_back = |record: &Record| {
        let due = record.meta.wake_time_ns.load(Relaxed);
        let away = !record.keeper().is_null()
            && now < record.meta.blocked_since_ns.load(Relaxed).saturating_add(SOON_NS);
        record.is_alive() && (away || (due != 0 && due <= soon))
    };
    if patience && core.table.used().any(comes_back) {
        return;
    }
    for record in core.table.used() {
        if let Some(number) = stuck_in(record, soon) {
            record.meta.flags.fetch_or(UNWIND, Relaxed);
            joiner::wake_wait(record, number, PushKind::Wake);
        }
    }
}

/// The wait of a thread that will not come back by itself before `soon_ns`.
fn stuck_in(record: &Record, soon_ns: u64) -> Option<u64> {
    if record.meta.references.load(Relaxed) == 0 || !wait::is_parked(&record.meta.wait) {
        return None;
    }
    let number = wait::number(&record.meta.wait);
    let due = record.meta.wake_time_ns.load(Relaxed);
    let held = !record.keeper().is_null();
    (!held && (due == 0 || due > soon_ns)).then_some(number)
}

/// Whether none of the threads that are alive will come back by itself.
fn all_are_stuck(core: &CoreBase) -> bool {
    let soon = core.now_ns() + SOON_NS;
    core.table.used().filter(|record| record.is_alive()).all(|record| stuck_in(record, soon).is_some())
}

fn report_remaining(core: &CoreBase, waited: Duration) {
    let threads = report::threads(core);
    let count = threads.len();
    eprintln!(
        "gvt: the runtime has been waiting for {} s for {count} green thread{} to end:{}",
        waited.as_secs(),
        if count == 1 { "" } else { "s" },
        lines(&threads, 10),
    );
}

/// Ends the helpers (monitor, starter) and the workers of a runtime in which no thread is left, then the core, unless somebody still refers
/// to a record; the last of those then ends the core.
///
/// # Safety
///
/// **C1**: `core` came from `Box::into_raw`; [`close`] answered [`Closed::Empty`]; nobody can spawn any
/// more.
pub(crate) unsafe fn stop<P: Parts>(core: *const Core<P>, helpers: Vec<std::thread::JoinHandle<()>>) {
    // SAFETY: C1.
    let this = unsafe { &*core };
    let base = &this.base;
    base.lifecycle.stopping.store(true, SeqCst);
    for index in 0..base.worker_count {
        base.unpark(index);
    }
    // Before the others: they wake OS threads, and start them.
    base.monitor.stop();
    base.starter.stop();
    for helper in helpers {
        let _ = helper.join();
    }
    for worker in this.base.workers() {
        // SAFETY: workers live as long as the core.
        let offered = unsafe { &**worker }.preempt_spare.swap(ptr::null_mut(), AcqRel);
        // SAFETY: OS threads live until they are joined.
        if let Some(offered) = unsafe { offered.as_ref() } {
            base.pool.add_spare(offered);
        }
    }
    base.pool.join_all();
    this.preempt.detach();
    // Nobody calls it any more; what it has captured goes here, in its owner's hands, not with the last record.
    base.deadlock.end();
    for worker in &this.workers {
        crate::kernel::worker::references::release_deferred(&worker.base);
        // SAFETY: no OS thread carries it any more.
        base.table.spill_all(unsafe { &mut *worker.base.records.get() });
    }
    // From here on every release counts down; one that came before is not among the outstanding.
    let outstanding = base.table.close(&base.lifecycle.orphans);
    if outstanding == 0 {
        // SAFETY: C1; nobody refers to anything in it.
        unsafe { crate::kernel::sched::calls::destroy::<P>(core.cast()) };
    }
}
