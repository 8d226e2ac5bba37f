//! The shutdown of a runtime.
//!
//! **States.** running → closing (its `Runtime` was dropped or shut down and waits for the remaining threads)
//! → stopping (no thread is left: workers end) → gone, or orphaned: handles and tokens outside still refer to
//! records, and the last of these frees the core.
//!
//! **Waiting for the end.** Nothing on the path of a thread's end tells the closer. Instead a worker that
//! becomes idle while the runtime is closing wakes the closer, which sums the workers' counters
//! (`CoreBase::live`); after the last thread's end its worker becomes idle.
//!
//! **Ordering.** The flags are SeqCst, in one total order with the set of sleepers (`idle`): a worker that
//! announces itself after the closer has looked sees `closing`, and one that looks for `stopping` after its
//! announcement is either notified or sees it. Nothing here is hot.

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

/// The outcome of a wait for the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closed {
    /// No thread is left.
    Empty,
    /// The limit has passed with this many left.
    Left(u64),
}

/// What a closing runtime does with threads that nothing can wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remaining {
    Wait,
    Unwind,
}

/// Whether to unwind waiting threads although others will soon continue by themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    ForShortSleeps,
    None,
}

/// How long a closer waits before it names the remaining threads on stderr.
const PATIENCE: Duration = Duration::from_secs(5);
/// At shutdown a thread whose wait ends by itself within this time is left alone; so are, for as long, the
/// threads that it may wake.
const SOON_NS: u64 = 1_000_000_000;

/// Whether waits can be unwound. Cargo builds a program and its dependencies with one strategy.
#[derive(PartialEq, Eq)]
enum Unwinds {
    AtShutdown,
    /// Unwinding aborts the process.
    Never,
}

const UNWINDS: Unwinds = if cfg!(panic = "abort") { Unwinds::Never } else { Unwinds::AtShutdown };

/// Waits until no thread is left. [`Remaining::Unwind`] unwinds threads that nothing can wake; where
/// unwinding is impossible, it returns [`Closed::Left`] when only such threads are left, unless there is a
/// `limit`.
pub(crate) fn close(core: &CoreBase, remaining: Remaining, limit: Option<Duration>) -> Closed {
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
        let unwind = remaining == Remaining::Unwind;
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
                // Threads in a short sleep may still wake others; wait for them once.
                let patience = match begin.elapsed().as_nanos() < SOON_NS.into() {
                    true => Patience::ForShortSleeps,
                    false => Patience::None,
                };
                unwind_waiters(core, patience);
                guard = lifecycle.closer.lock().unwrap();
            }
            // Look now and then for threads whose long sleep was found meanwhile.
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

/// Ends the waits of threads that nothing else will wake, asking them to unwind. With
/// [`Patience::ForShortSleeps`], does nothing if a thread will soon continue by itself: after a short sleep,
/// or on the OS thread that it keeps.
fn unwind_waiters(core: &CoreBase, patience: Patience) {
    let now = core.now_ns();
    let soon = now.saturating_add(SOON_NS);
    let comes_back = |record: &Record| {
        let due = record.meta.wake_time_ns.load(Relaxed);
        let away = !record.keeper().is_null()
            && now < record.meta.blocked_since_ns.load(Relaxed).saturating_add(SOON_NS);
        record.is_alive() && (away || (due != 0 && due <= soon))
    };
    if patience == Patience::ForShortSleeps && core.table.used().any(comes_back) {
        return;
    }
    for record in core.table.used() {
        if let Some(number) = stuck_in(record, soon) {
            record.meta.flags.fetch_or(UNWIND, Relaxed);
            joiner::wake_wait(record, number, PushKind::Wake);
        }
    }
}

/// The wait of a thread that does not continue by itself before `soon_ns`.
fn stuck_in(record: &Record, soon_ns: u64) -> Option<u64> {
    if record.meta.references.load(Relaxed) == 0 || !wait::is_parked(&record.meta.wait) {
        return None;
    }
    let number = wait::number(&record.meta.wait);
    let due = record.meta.wake_time_ns.load(Relaxed);
    let held = !record.keeper().is_null();
    (!held && (due == 0 || due > soon_ns)).then_some(number)
}

/// Whether no live thread will continue by itself.
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

/// Ends the helpers (monitor, starter) and the workers of a runtime without threads, then the core, unless
/// there are references to its records; the last of those then frees the core.
///
/// # Safety
///
/// **C1**: `core` came from `Box::into_raw`; [`close`] returned [`Closed::Empty`]; nothing can spawn
/// afterwards.
pub(crate) unsafe fn stop<P: Parts>(core: *const Core<P>, helpers: Vec<std::thread::JoinHandle<()>>) {
    // SAFETY: C1: from `Box::into_raw`, not freed yet.
    let this = unsafe { &*core };
    let base = &this.base;
    base.lifecycle.stopping.store(true, SeqCst);
    for index in 0..base.worker_count {
        base.unpark(index);
    }
    // Before the others: both wake or start OS threads.
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
    // The monitor has ended. What the hook captures is dropped here, in its owner's context, not with the
    // last record.
    base.deadlock.end();
    for worker in &this.workers {
        crate::kernel::worker::references::release_deferred(&worker.base);
        // SAFETY: no OS thread carries it at this point.
        base.table.spill_all(unsafe { &mut *worker.base.records.get() });
    }
    // From here on every release counts down; an earlier one is not among the outstanding.
    let outstanding = base.table.close(&base.lifecycle.orphans);
    if outstanding == 0 {
        // SAFETY: C1; there is no reference into it.
        unsafe { crate::kernel::sched::calls::destroy::<P>(core.cast()) };
    }
}
