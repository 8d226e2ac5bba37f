//! The monitor: one OS thread that looks after what busy workers do not see.
//!
//! A worker that runs one thread for long looks neither at timers nor at its queue. While any
//! worker is busy the monitor looks at the worker table once a tick:
//!
//! - **M1** a worker that has made no scheduling decision for a time slice gets its thread's preempt flag
//!   set. Safepoints are no decisions: a thread that passes them holds its worker all the same;
//! - **M2** a deadline has passed and nobody has fired it: a sleeping worker is woken for it, or, if
//!   all are busy, every worker is asked for its rounds and the thread of a stuck one is flagged;
//! - **M3** a worker is stuck, threads are queued, and another worker sleeps: that one is woken (the
//!   thread woken first is kept by its waker, see `schedule::push_here`).
//!
//! While all workers sleep the monitor sleeps too, without a time limit.
//!
//! **Hazard.** The monitor falls asleep while a worker becomes busy.
//! **Protocol.** Monitor: **G1** `asleep` = 1, **G2** fence, **G3** looks at the sleepers again, sleeps only if all
//! sleep. Worker that wakes up: **G4** leaves the set of sleepers (a `SeqCst` exchange), **G5** reads
//! `asleep`. It is the protocol of `idle` with the roles swapped.

use std::sync::atomic::{AtomicU32, Ordering::*, fence};

use gvt_traits::{GvtId, MAX_WORKERS, ReadyQueue, Strength, TimerBackend};

use super::core::{Core, Parts};
use super::schedule::ROUNDS;
use crate::os::{futex_wait_until, futex_wake, monotonic_ns};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const STOP: u32 = 2;

/// Ticks with every worker asleep before the monitor sleeps too.
const QUIET_TICKS: u32 = 2;

pub(crate) struct MonitorState {
    word: AtomicU32,
}

impl MonitorState {
    pub(crate) const fn new() -> Self {
        MonitorState { word: AtomicU32::new(AWAKE) }
    }

    /// G5.
    #[inline]
    pub(crate) fn wake_if_asleep(&self) {
        if self.word.load(SeqCst) == ASLEEP {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
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

/// What the monitor remembers of a worker.
#[derive(Clone, Copy)]
struct Seen {
    /// Scheduling decisions, modulo [`ROUNDS`]: as much of them as the activity counter tells apart from
    /// safepoints. Should a whole number of rounds pass between two ticks, the worst is a flag too many.
    decisions: u32,
    since_ns: u64,
    flagged: bool,
}

/// The periods that the monitor works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Periods {
    pub(crate) time_slice_ns: u64,
    pub(crate) timer_interval_ns: u64,
}

/// The monitor's loop.
pub(crate) fn run<P: Parts>(core: &Core<P>, periods: Periods) {
    let base = &core.base;
    let everyone = if base.worker_count == MAX_WORKERS { u64::MAX } else { (1 << base.worker_count) - 1 };
    let mut seen = [Seen { decisions: 0, since_ns: 0, flagged: false }; MAX_WORKERS];
    let mut quiet = 0;
    while base.monitor.word.load(SeqCst) != STOP {
        if base.idle.sleepers() == everyone {
            quiet += 1;
        } else {
            quiet = 0;
            tick(core, periods, &mut seen);
        }
        if quiet > QUIET_TICKS {
            // G1 to G3.
            if base.monitor.word.compare_exchange(AWAKE, ASLEEP, SeqCst, SeqCst).is_ok() {
                fence(SeqCst);
                if base.idle.sleepers() == everyone {
                    futex_wait_until(&base.monitor.word, ASLEEP, None);
                }
                let _ = base.monitor.word.compare_exchange(ASLEEP, AWAKE, SeqCst, SeqCst);
            }
            quiet = 0;
        } else {
            futex_wait_until(&base.monitor.word, AWAKE, Some(monotonic_ns() + periods.timer_interval_ns));
        }
    }
}

fn tick<P: Parts>(core: &Core<P>, periods: Periods, seen: &mut [Seen; MAX_WORKERS]) {
    let base = &core.base;
    let now = monotonic_ns();
    let overdue = core.timer.next_deadline_ns().is_some_and(|deadline| deadline < core.now_ns());
    let sleepers = base.idle.sleepers();
    let mut stuck = false;
    for (index, seen) in seen.iter_mut().enumerate().take(base.worker_count) {
        if sleepers & (1 << index) != 0 {
            continue;
        }
        let row = &base.rows.rows[index];
        // Relaxed: gauges.
        let decisions = row.activity_counter.load(Relaxed) % ROUNDS;
        if decisions != seen.decisions {
            *seen = Seen { decisions, since_ns: now, flagged: false };
            row.start_time_ns.store(now, Relaxed);
            continue;
        }
        stuck = true;
        let over = now.saturating_sub(seen.since_ns) >= periods.time_slice_ns;
        if (over || overdue) && !seen.flagged && core.preempt_strength() >= Strength::AtSafepoints {
            // M1, and M2's second half.
            let current = GvtId::new(row.current_gvthread.load(Relaxed));
            if current.is_some() {
                // The thread may have left meanwhile; a flag too many costs a yield.
                base.table.get(current).meta.preempt_flag.store(1, Relaxed);
                seen.flagged = true;
            }
        }
    }
    if overdue {
        // M2.
        if sleepers != 0 {
            base.unpark(sleepers.trailing_zeros() as usize);
        } else {
            for worker in 0..base.worker_count {
                base.worker(worker).poke.store(true, Relaxed);
            }
        }
    }
    // M3.
    if stuck && sleepers != 0 && core.queue.len_hint() > 0 {
        super::schedule::wake_one(base);
    }
}

impl<P: Parts> Core<P> {
    fn preempt_strength(&self) -> Strength {
        use gvt_traits::Preemptor;
        self.preempt.strength()
    }
}
