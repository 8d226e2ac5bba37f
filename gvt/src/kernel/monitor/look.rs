//! The monitor (Go's `sysmon`): one OS thread that sees what busy workers do not.
//!
//! A worker that runs one thread for long looks neither at timers nor at its queue. While any worker is busy
//! the monitor looks at the worker table, at least once every `timer_interval`, and exactly when something
//! that it watches is due:
//!
//! - **M1** A thread has run for a time slice, or a timer is overdue: sets its preempt flag. A slice lasts
//!   until the worker makes a scheduling decision; passing safepoints does not end it. Slices are CPU time:
//!   time for which the kernel kept the OS thread off the processors does not count, but sleep in the kernel
//!   does.
//! - **M2** It still runs a grace period later and a thread waits for the worker (or the overdue timer has
//!   waited for `wake_wait`, and the thread has had `min_run`). If its OS thread sleeps in the kernel,
//!   retakes the worker (`detach::take_from_blocked`); else interrupts the OS thread, with a spare ready
//!   (`detach::on_interrupt`). The next slice makes up for what this one took too much or too little (`lag`).
//!   An OS thread that computes in spite of interrupts is *deaf*: it loses its worker as if it slept, and
//!   answers again from its next maintenance on. A preempted thread may hold a lock that is waited for by: a
//!   worker that stands still inside the runtime, asleep or spinning; an OS thread that does not yet run and
//!   is to take a worker over; the starter, if there is no spare for long; a thread that sleeps in a futex
//!   (`lock_holders`).
//! - **M3** A deadline has passed and its timer was not fired: wakes a sleeping worker for it, or, if all are
//!   busy, asks every worker for maintenance.
//! - **M4** Threads are queued while another worker sleeps, and a worker is stuck or that has lasted for
//!   [`SPREAD_LOOKS`] looks: wakes the sleeper. The waker keeps the first thread that it wakes
//!   (`enqueue::push_here`), so no worker is woken for it if both then take turns by yielding. The queue
//!   itself says whether a thread is queued (Q8).
//! - **M5** Unused stacks lose their memory, a few at a time (`SlotAllocator::decay`). This continues while
//!   all workers sleep, until there is nothing left to return.
//! - **M6** A thread computes for `min_run` and longer without a break: notes that, and at its next wake-up
//!   by timer the thread goes behind those that wait (`PushKind::TimerBusy`), since it needs more than a
//!   moment.
//!
//! The monitor itself allocates nothing and waits for no lock that is held over an allocation (`pool`), so
//! that it works whatever lock a preempted thread holds.
//!
//! It also tells workers the time, roughly (`coarse_ns`), so that they need not read the clock for reports.
//!
//! While all workers sleep the monitor sleeps too, without a limit, unless it reports deadlocks (`report`).
//!
//! **Hazard.** The monitor falls asleep while a worker becomes busy.
//! **Protocol.** Monitor: **G1** `asleep` = 1, **G2** fence, **G3** looks at the sleepers again, sleeps only
//! if all sleep. Worker that wakes up: **G4** leaves the set of sleepers (a `SeqCst` exchange), **G5** reads
//! `asleep`. It is the protocol of `idle` with the roles swapped.
//!
//! **Ordering.** The word is accessed SeqCst throughout, in one total order with the set of sleepers and the
//! fence of G2; none of it is hot. The gauges of the worker table are Relaxed: the monitor acts on what it
//! sees twice.

use std::ptr;
use std::sync::atomic::{Ordering::*, fence};

use gvt_traits::{
    GvtId, MAX_WORKERS, OsThreadId, Preemptor, ReadyQueue, SlotAllocator, Strength, TimerBackend,
};

use crate::kernel::monitor::lock_holders::LockHolders;
use crate::kernel::monitor::report;
use crate::kernel::monitor::report::Reported;
use crate::kernel::monitor::rt_priority::RtPriority;
use crate::kernel::sched::detach;
use crate::kernel::state::monitor::{ASLEEP, AWAKE, STOP};
use crate::kernel::thread::record::FAST;
use crate::kernel::worker::core::{Core, MAINTENANCE, OsThread, Parts, WorkerBase};
use crate::kernel::worker::counters::Counters;
use crate::kernel::worker::lag::Charge;
use crate::kernel::worker::no_unwind::NoUnwind;
use crate::kernel::worker::section;
use crate::os::{
    Slice, cpu_time_ns, futex_wait_until, is_asleep_in_futex, is_asleep_in_kernel, is_runnable, monotonic_ns,
    set_slice, set_timer_slack, thread_id,
};
use crate::protocol::idle::Class;

/// Looks with every worker asleep before the monitor sleeps too.
const QUIET_LOOKS: u32 = 2;
/// An action that is due within this time, or a sixteenth of a slice, is done at once.
const SOON_NS: u64 = 100_000;
/// The monitor's shortest sleep.
const MIN_PAUSE_NS: u64 = 20_000;

/// The monitor's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Periods {
    pub(crate) time_slice_ns: u64,
    pub(crate) grace_ns: u64,
    pub(crate) timer_interval_ns: u64,
    pub(crate) wake_wait_ns: u64,
    pub(crate) min_run_ns: u64,
    pub(crate) strength: Strength,
    /// Whether to ask for real-time priority.
    pub(crate) is_urgent: bool,
}

/// What the monitor remembers of a worker.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Scheduling decisions, modulo [`MAINTENANCE`], which is as much as the activity counter distinguishes
    /// from safepoints. If a multiple of that passes between two looks, the worst result is a needless
    /// request.
    decisions: u32,
    /// When that count was first seen, or brought about by an interrupt.
    start_ns: u64,
    /// When the slice counts as begun (`lag`).
    since_ns: u64,
    /// How long the OS thread was kept off the processors since then, as far as measured. Slices are CPU
    /// time.
    off_ns: u64,
    /// The OS thread that was measured, and its CPU time when the slice began.
    clock: (i32, u64),
    /// When the thread was asked to yield; 0: not asked.
    asked_ns: u64,
    /// `off_ns` at that time.
    asked_off_ns: u64,
    /// Its slice is cut for its lag.
    had_too_much: bool,
    /// It was found to compute for long (M6).
    is_busy: bool,
    /// When its OS thread was last interrupted; 0: not since that count was first seen.
    forced_ns: u64,
    /// The number of interrupts since then.
    interrupts: u32,
    /// The OS thread's CPU time at the first of them.
    forced_cpu_ns: u64,
    /// When a look first found it held up: its OS thread asleep inside the runtime, or none; 0: not at the
    /// last look.
    held_up_ns: u64,
    /// The CPU time of its OS thread when a look first found it computing inside the runtime; 0: not at the
    /// last look.
    inside_cpu_ns: u64,
    /// It was held up, or has computed inside the runtime, for so long that a preempted thread may hold what
    /// it waits for.
    is_stuck: bool,
}

struct Monitor<'a, P: Parts> {
    core: &'a Core<P>,
    periods: Periods,
    seen: [Seen; MAX_WORKERS],
    rt_priority: RtPriority,
    /// The latest time of the next look.
    next_ns: u64,
    /// Where the next look begins among the threads whose worker was taken.
    taken_from: usize,
    /// Consecutive looks that found threads queued beside a sleeping worker.
    queued_looks: u32,
    /// When to look for unused memory again.
    decay_ns: u64,
    /// Since when there has been no spare although the starter works; 0: there is one.
    starved_since_ns: u64,
    lock_holders: LockHolders,
}

/// How often a busy monitor checks whether stacks came back, if there were none.
const DECAY_LOOK_NS: u64 = 1_000_000_000;

/// Looks after which threads that are queued beside a sleeping worker are offered to it though no worker is
/// stuck.
const SPREAD_LOOKS: u32 = 3;

/// The monitor's loop.
pub(crate) fn run<P: Parts>(core: &Core<P>, periods: Periods) {
    // It calls backends, and without it threads would wait for ever, without a message.
    let no_unwind = NoUnwind;
    set_timer_slack();
    // In case real-time priority is not granted.
    set_slice(Slice::Shortest);
    let base = &core.base;
    let word = &base.monitor.word;
    base.monitor.thread_id.store(thread_id(), Relaxed);
    let everyone = if base.worker_count == MAX_WORKERS { u64::MAX } else { (1 << base.worker_count) - 1 };
    let mut monitor = Monitor {
        core,
        periods,
        rt_priority: RtPriority::new(periods.is_urgent),
        seen: [Seen::default(); MAX_WORKERS],
        next_ns: 0,
        queued_looks: 0,
        decay_ns: 0,
        starved_since_ns: 0,
        lock_holders: LockHolders::default(),
        taken_from: 0,
    };
    // What begins between two looks is seen at the second: longer intervals would make slices longer than
    // requested.
    let interval_ns = match periods.strength {
        Strength::Never => periods.timer_interval_ns,
        _ => periods.timer_interval_ns.min(periods.time_slice_ns),
    };
    let mut quiet = 0;
    let mut reported = Reported::default();
    while word.load(SeqCst) != STOP {
        let now = monotonic_ns();
        monitor.next_ns = now + interval_ns;
        if base.idle.sleepers() == everyone {
            quiet += 1;
        } else {
            quiet = 0;
            reported.stir();
            monitor.rt_priority.look(now);
            monitor.look(now);
        }
        if quiet > QUIET_LOOKS {
            // M5; the workers have slept for a while by then and are not looked at.
            let until = monitor.decay(now);
            // G1 to G3.
            if word.compare_exchange(AWAKE, ASLEEP, SeqCst, SeqCst).is_ok() {
                fence(SeqCst);
                if base.idle.sleepers() == everyone {
                    report::sleep(core, word, until, &mut reported);
                }
                let _ = word.compare_exchange(ASLEEP, AWAKE, SeqCst, SeqCst);
            }
            // Another look or two, unless it woke for M5 only.
            quiet = if base.idle.sleepers() == everyone { QUIET_LOOKS } else { 0 };
        } else {
            let until = monitor.next_ns.max(now + MIN_PAUSE_NS);
            futex_wait_until(word, AWAKE, Some(until));
        }
    }
    std::mem::forget(no_unwind);
}

impl<P: Parts> Monitor<'_, P> {
    fn look(&mut self, now: u64) {
        let core = self.core;
        let base = &core.base;
        if now >= self.decay_ns {
            self.decay_ns = self.decay(now).unwrap_or(now + DECAY_LOOK_NS);
        }
        let clock = core.now_ns();
        let deadline = core.timer.next_deadline_ns();
        let overdue_since = deadline
            .filter(|&deadline| deadline <= clock && !base.is_virtual)
            .map(|deadline| now - (clock - deadline).min(now));
        if let Some(deadline) = deadline.filter(|&deadline| deadline > clock) {
            self.look_again(now.saturating_add(deadline - clock));
        }
        let queued = self.somebody_waits();
        let sleepers = base.idle.sleepers();
        let mut stuck = false;
        let busy = (0..base.worker_count).filter(|index| sleepers & (1 << index) == 0);
        for index in busy.clone() {
            base.worker(index).coarse_ns.store(clock, Relaxed);
            stuck |= self.look_at(index, now, overdue_since, queued);
        }
        let is_stuck = self.is_starved(now) || busy.into_iter().any(|index| self.seen[index].is_stuck);
        self.lock_holders.look(core, is_stuck, now);
        for thread in detach::back_from_kernel(base, &mut self.taken_from, TAKEN_LOOKS) {
            core.preempt.interrupt(OsThreadId(thread));
        }
        if overdue_since.is_some() {
            // M3.
            if sleepers != 0 {
                base.unpark(sleepers.trailing_zeros() as usize);
            } else {
                for worker in 0..base.worker_count {
                    base.worker(worker).need_resched.store(true, Relaxed);
                }
            }
        }
        // M4.
        self.queued_looks = if queued && sleepers != 0 { self.queued_looks + 1 } else { 0 };
        if sleepers != 0 && ((stuck && queued) || self.queued_looks >= SPREAD_LOOKS) {
            self.queued_looks = 0;
            crate::kernel::sched::wakeup::wake_one(base, Class::Normal);
            if base.idle.has_classes() {
                crate::kernel::sched::wakeup::wake_one(base, Class::Low);
            }
        }
    }

    /// Whether a thread is queued. A preempted thread is, or will be soon; and it may hold the lock that a
    /// queue waits for in `len_hint` against B6, its own or the allocator's. So the queue is asked only if
    /// there is no preempted thread.
    fn somebody_waits(&self) -> bool {
        let base = &self.core.base;
        base.returning.has_any()
            || self.seen[..base.worker_count].iter().any(|seen| seen.forced_ns != 0)
            || base.pool.each().any(detach::is_or_will_be_queued)
            || self.core.queue.len_hint() > 0
    }

    /// M5, with ordinary priority, since it takes longer than a look.
    fn decay(&mut self, now: u64) -> Option<u64> {
        let slots = &self.core.slots;
        self.rt_priority.without(|| slots.decay(now))
    }

    fn look_again(&mut self, at_ns: u64) {
        self.next_ns = self.next_ns.min(at_ns);
    }

    /// M1 and M2 for one worker; whether it is stuck with one thread.
    fn look_at(&mut self, index: usize, now: u64, overdue_since: Option<u64>, queued: bool) -> bool {
        let worker = self.core.base.worker(index);
        let row = worker.row();
        // Relaxed: gauges.
        let decisions = row.activity_counter.load(Relaxed) % MAINTENANCE;
        // SAFETY: an entry outlives its OS thread.
        let carrier = unsafe { worker.carrier().as_ref() };
        let seen = &mut self.seen[index];
        if decisions != seen.decisions || seen.since_ns == 0 {
            // One decision after an interrupt is the one that the interrupt brought about, at once: so slices
            // of computing threads have their proper length, without the time until this look.
            let forced = seen.forced_ns != 0 && decisions == (seen.decisions + 1) % MAINTENANCE;
            let start_ns = if forced { seen.forced_ns } else { now };
            row.start_time_ns.store(start_ns, Relaxed);
            let advance_ns = advance(worker, &self.periods);
            let since_ns = start_ns.saturating_add_signed(-advance_ns);
            let had_too_much = advance_ns > 0;
            let clock = Seen::clock_at(carrier, now - start_ns);
            *seen = Seen { decisions, start_ns, since_ns, had_too_much, clock, ..Seen::default() };
            if !forced {
                self.look_again(since_ns + self.periods.time_slice_ns);
                return false;
            }
        }
        let periods = self.periods;
        // In virtual time the order of threads does not depend on how long they compute.
        if !self.core.base.is_virtual && seen.is_found_busy(carrier, &periods) {
            // The thread may have left meanwhile; then another goes behind once.
            let current = GvtId::new(row.current_gvthread.load(Relaxed));
            if current.is_some() {
                self.core.base.table.get(current).note_busy();
            }
        }
        if periods.strength == Strength::Never {
            return true;
        }
        let is_awaited = overdue_since.is_some() || queued || is_awaited(worker);
        let may_force = periods.strength == Strength::Anywhere && is_awaited;
        if may_force {
            seen.look_inside(carrier, now, self.core.base.pool.is_any_coming());
        } else {
            seen.set_free();
        }
        // An action due in a moment is done at once: a monitor that wakes again so soon may have to wait for
        // a processor (`lag`).
        let soon = now + SOON_NS.min(periods.time_slice_ns / 16);
        let (mut ask_at, mut force_at) = seen.dues(&periods, overdue_since, now);
        if soon >= if seen.asked_ns == 0 { ask_at } else { force_at } {
            seen.measure(carrier, now);
            (ask_at, force_at) = seen.dues(&periods, overdue_since, now);
        }
        let blocked_at = seen.start_ns + BLOCKED_NS;
        if may_force && now >= blocked_at && force_at > soon && carrier.is_some_and(is_blocked) {
            self.force(index, worker, now);
            return true;
        }
        if seen.asked_ns == 0 {
            if soon < ask_at {
                self.look_again(ask_at);
                return true;
            }
            let slice_over = seen.slice_over(&periods);
            seen.asked_ns = if seen.had_too_much { slice_over } else { now };
            seen.asked_off_ns = seen.off_ns;
            (_, force_at) = seen.dues(&periods, overdue_since, now);
        }
        // At each look: a thread that was asked before may have left, and the counter may have wrapped to the
        // same value.
        self.ask(worker);
        if soon < force_at {
            self.look_again(force_at);
        } else if is_awaited {
            let counters = &self.core.base.counters;
            let overrun_ns = now.saturating_sub(self.seen[index].slice_over(&periods));
            counters.longest_overrun_ns.fetch_max(overrun_ns, Relaxed);
            Counters::add(&counters.grace_expired);
            self.force(index, worker, now);
        }
        true
    }

    /// Whether there has been no spare for long, although the starter works.
    fn is_starved(&mut self, now: u64) -> bool {
        let base = &self.core.base;
        if !base.starter.is_starting() || base.pool.spares() > 0 {
            self.starved_since_ns = 0;
            return false;
        }
        if self.starved_since_ns == 0 {
            self.starved_since_ns = now;
        }
        now - self.starved_since_ns >= STARVED_NS
    }

    /// Whether the running thread can be preempted without a spare.
    fn runs_reentrant(&self, worker: &WorkerBase) -> bool {
        let current = GvtId::new(worker.row().current_gvthread.load(Relaxed));
        current.is_some() && self.core.base.table.get(current).has_flag(FAST)
    }

    /// M1.
    fn ask(&self, worker: &WorkerBase) {
        let current = GvtId::new(worker.row().current_gvthread.load(Relaxed));
        if !current.is_some() {
            return;
        }
        section::expect_looks();
        // The thread may have left meanwhile; a surplus flag costs a yield.
        if self.core.base.table.get(current).ask() {
            Counters::add(&self.core.base.counters.asked);
        }
    }

    /// M2.
    fn force(&mut self, index: usize, worker: &WorkerBase, now: u64) {
        let core = self.core;
        if self.periods.strength < Strength::Anywhere {
            return;
        }
        // SAFETY: an entry outlives its OS thread.
        let Some(carrier) = (unsafe { worker.carrier().as_ref() }) else {
            return;
        };
        if carrier.depth() != 0 {
            return;
        }
        let thread = carrier.thread_id.load(Relaxed);
        let cpu_ns = cpu_time_ns(thread);
        if !is_running(thread, cpu_ns) && is_asleep_in_kernel(thread) {
            if is_asleep_in_futex(thread) {
                self.lock_holders.owe_each_a_turn(&core.base);
            }
            if core.base.has_membarrier {
                detach::take_from_blocked(core, worker, carrier);
            } else if offer_spare(core, worker) {
                carrier.gives_worker.store(true, Relaxed);
                core.preempt.interrupt(OsThreadId(thread));
            }
            return;
        }
        let seen = &mut self.seen[index];
        if seen.is_deaf(cpu_ns) {
            carrier.is_deaf.store(true, Relaxed);
            worker.need_resched.store(true, Relaxed);
            detach::take_from_blocked(core, worker, carrier);
        } else if offer_spare(core, worker) || self.runs_reentrant(worker) {
            let seen = &mut self.seen[index];
            let due_ns = self.periods.time_slice_ns + self.periods.grace_ns;
            let wall_ns = now.saturating_sub(seen.start_ns);
            let current = GvtId::new(worker.row().current_gvthread.load(Relaxed));
            let charge = if seen.forced_ns == 0 { Charge::First } else { Charge::Again };
            carrier.lag.charge(current, cpu_ns, wall_ns, due_ns, charge);
            if seen.forced_ns == 0 {
                seen.forced_cpu_ns = cpu_ns;
            }
            seen.forced_ns = now;
            seen.interrupts += 1;
            carrier.gives_worker.store(false, Relaxed);
            core.preempt.interrupt(OsThreadId(thread));
            self.look_again(now + self.periods.time_slice_ns);
        }
    }
}

/// How much before now the slice begins of the thread that `worker` has just begun to run.
fn advance(worker: &WorkerBase, periods: &Periods) -> i64 {
    let current = GvtId::new(worker.row().current_gvthread.load(Relaxed));
    // SAFETY: an entry outlives its OS thread.
    unsafe { worker.carrier().as_ref() }
        .map_or(0, |carrier| carrier.lag.advance(current, periods.time_slice_ns, periods.grace_ns))
}

/// Whether an OS thread, whose CPU time is `cpu_ns`, is on a processor. Cheaper than [`is_asleep_in_kernel`],
/// and most often decides.
fn is_running(thread: i32, cpu_ns: u64) -> bool {
    cpu_time_ns(thread) != cpu_ns
}

/// Whether a resident waits for the OS thread that carries `worker`.
fn is_awaited(worker: &WorkerBase) -> bool {
    // SAFETY: an entry outlives its OS thread.
    unsafe { worker.carrier().as_ref() }.is_some_and(|carrier| carrier.home.has_bound())
}

/// Number of OS threads that each look checks for a return from the kernel.
const TAKEN_LOOKS: usize = 4;

/// A runtime is starved after this time without a spare, though one is being started.
const STARVED_NS: u64 = 10_000_000;

/// How long a worker is held up before preempted threads may run: most such sleeps are short.
const HELD_UP_NS: u64 = 4_000_000;

/// How long a worker computes inside the runtime, without a scheduling decision, before preempted threads may
/// run: it may spin for a lock. A long section gains nothing by that, and loses little.
const INSIDE_NS: u64 = 8_000_000;

/// A thread that sleeps in the kernel for so long loses its worker, whatever its slice: it may wait for a
/// lock that a preempted thread holds.
const BLOCKED_NS: u64 = 20_000_000;

/// So many interrupts, and so much CPU time since the first of them, show that an OS thread is deaf.
const DEAF: (u32, u64) = (4, 2_000_000);

impl Seen {
    /// Whether its OS thread, whose CPU time is `cpu_ns`, computes in spite of interrupts: a green thread has
    /// blocked the signal there, or runs in another signal's handler that blocks it.
    fn is_deaf(&self, cpu_ns: u64) -> bool {
        self.interrupts >= DEAF.0 && cpu_ns.saturating_sub(self.forced_cpu_ns) >= DEAF.1
    }

    /// The CPU clock of the OS thread that carries the worker, as of `ago_ns` ago if it has run since.
    fn clock_at(carrier: Option<&OsThread>, ago_ns: u64) -> (i32, u64) {
        let thread = carrier.map_or(0, |carrier| carrier.thread_id.load(Relaxed));
        (thread, if thread == 0 { 0 } else { cpu_time_ns(thread).saturating_sub(ago_ns) })
    }

    /// Measures how long the kernel has kept the OS thread off the processors. One that is asleep at this
    /// look keeps itself off, as far as the kernel tells.
    fn measure(&mut self, carrier: Option<&OsThread>, now: u64) {
        let (thread, cpu_ns) = Seen::clock_at(carrier, 0);
        if thread != self.clock.0 {
            // Another OS thread carries it.
            self.clock = (thread, cpu_ns);
        }
        let off_ns = (now - self.start_ns).saturating_sub(cpu_ns.saturating_sub(self.clock.1));
        if off_ns > self.off_ns + SOON_NS && thread != 0 && is_runnable(thread) {
            self.off_ns = off_ns;
        }
    }

    /// M6: whether it is now first found to have computed for long. By the CPU clock, since the kernel may
    /// have kept it waiting.
    fn is_found_busy(&mut self, carrier: Option<&OsThread>, periods: &Periods) -> bool {
        let was_busy = self.is_busy;
        if !was_busy {
            let (thread, cpu_ns) = Seen::clock_at(carrier, 0);
            let long_ns = periods.min_run_ns.min(periods.time_slice_ns / 2).max(SOON_NS);
            self.is_busy = thread == self.clock.0 && cpu_ns.saturating_sub(self.clock.1) >= long_ns;
        }
        self.is_busy && !was_busy
    }

    /// When the slice ends, if the OS thread is not kept off any longer.
    fn slice_over(&self, periods: &Periods) -> u64 {
        self.since_ns + periods.time_slice_ns + self.off_ns
    }

    /// When to ask the thread to yield, and when to preempt it, at the latest.
    fn dues(&self, periods: &Periods, overdue_since: Option<u64>, now: u64) -> (u64, u64) {
        let slice_over = self.slice_over(periods);
        let asked_ns = self.asked_ns + (self.off_ns - self.asked_off_ns);
        match overdue_since {
            Some(overdue) => {
                let min_run_over = self.start_ns + self.off_ns + periods.min_run_ns;
                (now, (overdue + periods.wake_wait_ns).max(min_run_over))
            }
            None => (slice_over, asked_ns.max(slice_over) + periods.grace_ns),
        }
    }

    /// Notes whether its OS thread has been inside the runtime for too long, or it has had no OS thread for
    /// too long.
    fn look_inside(&mut self, carrier: Option<&OsThread>, now: u64, is_any_coming: bool) {
        let Some(carrier) = carrier else {
            // On its way to an OS thread, which may wait for a lock if it does not run yet.
            self.hold_up(now);
            self.is_stuck &= is_any_coming;
            return;
        };
        if carrier.depth() == 0 {
            return self.set_free();
        }
        let thread = carrier.thread_id.load(Relaxed);
        let cpu_ns = cpu_time_ns(thread);
        if !is_running(thread, cpu_ns) && is_asleep_in_kernel(thread) {
            return self.hold_up(now);
        }
        // Not by wall time: an OS thread that is kept off the processors is not helped by more computing
        // threads.
        if self.inside_cpu_ns == 0 {
            self.inside_cpu_ns = cpu_ns.max(1);
        }
        self.held_up_ns = 0;
        self.is_stuck = cpu_ns.saturating_sub(self.inside_cpu_ns) >= INSIDE_NS;
    }

    fn set_free(&mut self) {
        (self.held_up_ns, self.inside_cpu_ns, self.is_stuck) = (0, 0, false);
    }

    fn hold_up(&mut self, now: u64) {
        if self.held_up_ns == 0 {
            self.held_up_ns = now;
        }
        self.inside_cpu_ns = 0;
        self.is_stuck = now - self.held_up_ns >= HELD_UP_NS;
    }
}

/// Whether an OS thread outside the runtime sleeps in the kernel.
fn is_blocked(carrier: &OsThread) -> bool {
    let thread = carrier.thread_id.load(Relaxed);
    carrier.depth() == 0 && !is_running(thread, cpu_time_ns(thread)) && is_asleep_in_kernel(thread)
}

/// Puts a spare OS thread where the signal handler finds it; whether there is one.
fn offer_spare<P: Parts>(core: &Core<P>, worker: &WorkerBase) -> bool {
    if !worker.preempt_spare.load(Relaxed).is_null() {
        return true;
    }
    let Some(spare) = detach::idle_spare(&core.base) else {
        return false;
    };
    // ORDERING O1: Release pairs with the Acquire in `detach::preempt`.
    worker.preempt_spare.store(ptr::from_ref::<OsThread>(spare).cast_mut(), Release);
    true
}
