//! OS threads that carry workers (Go's M and P), and how a worker passes from one to another.
//!
//! An OS thread of the runtime has its own native stack, on which the worker loop runs while there is no
//! green thread to run, and an inbox in which it receives a worker. It is in one of three states:
//!
//! - **spare**: it has nothing to do and waits at its inbox, in the pool (`pool`);
//! - **carrying**: it carries a worker and runs the loop or a green thread;
//! - **detached**: a green thread keeps it (`detach`) while its worker runs others elsewhere. To continue,
//!   the thread needs a worker: its `Runnable` is queued like any other, and the worker that pops it is
//!   passed to the inbox.
//!
//! **Hazard.** A worker's cells are plain. Two OS threads must never both carry it.
//!
//! **Protocol.** **H1** The giver forgets the worker (`worker` null) after its last access. **H2** It stores
//! the worker in the inbox, Release, and wakes the inbox's futex. **H3** The receiver swaps the inbox empty,
//! Acquire, and from there on carries the worker. A worker is in exactly one place: an OS thread's `worker`,
//! an inbox, or a local variable between H1 and H2.
//!
//! **Retaking a worker** from an OS thread that sleeps in the kernel, without a signal, is done by the
//! monitor (`retake`). Without `membarrier` (Linux before 4.14, or a seccomp filter) an OS thread gives its
//! worker away itself, in the handler of the preemption signal (`detach::on_interrupt`).
//!
//! **Limits.** Without `membarrier` and without a preemption signal, threads that block in the kernel keep
//! their worker unless they use `blocking`.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use gvt_traits::Registers;

use crate::kernel::thread::record::Record;
use crate::kernel::worker::home::Home;
use crate::kernel::worker::lag::Lag;
use crate::kernel::worker::wake_affine::Affinity;
use crate::os::{futex_wait_until, futex_wake, membarrier};
use crate::protocol::retake::Carried;
use crate::protocol::turn::{Receiver, Turn};

/// In an inbox: end.
const QUIT: *mut () = ptr::without_provenance_mut(1);

#[repr(C)]
pub(crate) struct OsThread<W> {
    /// The worker that it carries, and its preempt count.
    carried: Carried<W>,
    /// Its residents, and what else `pinned` knows.
    pub(crate) home: Home,
    /// The `Runnable` of the green thread that keeps this OS thread is queued.
    pub(crate) queued: AtomicBool,
    /// Its thread waits for a worker, or runs without one.
    pub(crate) turn: Turn,
    /// Its worker was taken while its green thread was blocked in the kernel, and that thread has not come
    /// back.
    pub(crate) taken: AtomicBool,
    /// The lag of the green thread that computes on it.
    pub(crate) lag: Lag,
    /// Consecutive looks at which the monitor found it running nevertheless.
    pub(crate) running_looks: AtomicU32,
    /// At the next interrupt it gives its worker away and continues without: it sleeps in the kernel.
    pub(crate) gives_worker: AtomicBool,
    /// It does not answer interrupts: a green thread has blocked the signal. Its next maintenance mends that.
    pub(crate) is_deaf: AtomicBool,
    /// The green thread that keeps it while it carries no worker, or null.
    bound_thread: AtomicPtr<Record>,
    /// The registers of the worker loop while a green thread runs.
    pub(crate) native: UnsafeCell<Registers>,
    inbox: AtomicPtr<W>,
    /// Its affinity.
    affinity: Affinity,
    /// Counts deliveries; the receiver sleeps on it.
    deliveries: AtomicU32,
    pub(crate) thread_id: AtomicI32,
    /// The signals that it blocks at its start.
    pub(crate) signal_mask: AtomicU64,
}

// SAFETY: only its own OS thread uses `native`; `affinity` is used as `wake_affine` says; the rest is atomic.
unsafe impl<W> Sync for OsThread<W> {}
// SAFETY: `native` is plain registers; the rest is atomic.
unsafe impl<W> Send for OsThread<W> {}

/// The outcome of a wait at the inbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received<W> {
    Worker(*const W),
    /// Told to end.
    Quit,
    /// Told to run without a worker.
    Free,
    /// The deadline came first.
    Late,
}

impl<W> OsThread<W> {
    pub(crate) fn new() -> Self {
        OsThread {
            // An OS thread starts inside the runtime.
            carried: Carried::new(),
            home: Home::new(),
            queued: AtomicBool::new(false),
            turn: Turn::new(),
            taken: AtomicBool::new(false),
            lag: Lag::default(),
            running_looks: AtomicU32::new(0),
            gives_worker: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            bound_thread: AtomicPtr::new(ptr::null_mut()),
            native: UnsafeCell::new(Registers::default()),
            inbox: AtomicPtr::new(ptr::null_mut()),
            affinity: Affinity::new(),
            deliveries: AtomicU32::new(0),
            thread_id: AtomicI32::new(0),
            signal_mask: AtomicU64::new(0),
        }
    }

    /// Prepares the entry of an ended OS thread for the next one.
    pub(crate) fn reset(&self) {
        self.carried.reset();
        self.queued.store(false, Relaxed);
        self.turn.end();
        self.gives_worker.store(false, Relaxed);
        self.is_deaf.store(false, Relaxed);
        self.thread_id.store(0, Relaxed);
        self.home.reset();
        self.affinity.reset();
    }

    /// [`Carried::enter`].
    #[inline(always)]
    pub(crate) fn enter(&self) -> *const W {
        self.carried.enter()
    }

    /// [`Carried::preempt_disable`].
    #[inline(always)]
    pub(crate) fn preempt_disable(&self) {
        self.carried.preempt_disable();
    }

    /// [`Carried::preempt_enable`].
    #[inline(always)]
    pub(crate) fn preempt_enable(&self) {
        self.carried.preempt_enable();
    }

    pub(crate) fn depth(&self) -> u32 {
        self.carried.depth()
    }

    /// [`Carried::worker`].
    #[inline(always)]
    pub(crate) fn worker(&self) -> *const W {
        self.carried.worker()
    }

    pub(crate) fn set_worker(&self, worker: *const W) {
        self.carried.set_worker(worker);
    }

    /// The green thread that keeps this OS thread while it carries no worker.
    pub(crate) fn bound_thread(&self) -> *const Record {
        self.bound_thread.load(Relaxed)
    }

    pub(crate) fn set_bound_thread(&self, record: *const Record) {
        self.bound_thread.store(record.cast_mut(), Relaxed);
    }

    /// [`Carried::wait_for_decision`].
    pub(crate) fn wait_for_decision(&self) {
        self.carried.wait_for_decision();
    }

    /// [`Carried::detach`] with the process's barrier.
    pub(crate) fn detach(&self, worker: &W, note: impl FnOnce()) -> bool {
        self.carried.detach(worker, membarrier, note)
    }

    /// H2. Async-signal-safe.
    ///
    /// `monitor` is an OS thread that is never confined.
    pub(super) fn give_beside(&self, worker: &W, monitor: i32) {
        self.affinity.release(self.thread_id.load(Relaxed), monitor);
        self.deliver(ptr::from_ref(worker).cast_mut());
    }

    /// H2 by an OS thread that then sleeps: the receiver continues in its place, on its processor, unless it
    /// runs free. Async-signal-safe.
    pub(crate) fn give_place(&self, worker: *const W) {
        if self.turn.give() == Receiver::Sleeps {
            self.affinity.take_over(self.thread_id.load(Relaxed));
        }
        self.deliver(worker.cast_mut());
    }

    /// Lets its green thread run without a worker (`lock_holders`); `false` if it does so already, or does
    /// not wait for a worker.
    ///
    /// Context: the monitor.
    pub(crate) fn set_free(&self) -> bool {
        let went = self.turn.set_free();
        if went {
            self.nudge();
        }
        went
    }

    /// Restores the affinity of this OS thread, the calling one: it runs for longer than to pass a worker on.
    #[inline]
    pub(super) fn settle_beside(&self, monitor: i32) {
        self.affinity.release(0, monitor);
    }

    /// Tells the OS thread to end when it waits at its inbox.
    pub(crate) fn quit(&self) {
        self.deliver(QUIT.cast());
    }

    fn deliver(&self, what: *mut W) {
        // ORDERING O1: Release pairs with the Acquire in `receive`: the receiver sees all that the
        // giver did to the worker.
        let before = self.inbox.swap(what, AcqRel);
        debug_assert!(before.is_null(), "an inbox holds one thing at a time");
        self.nudge();
    }

    /// Makes the receiver look again.
    pub(crate) fn nudge(&self) {
        self.deliveries.fetch_add(1, Release);
        futex_wake(&self.deliveries, 1);
    }

    /// Whether a worker lies in the inbox.
    pub(crate) fn has_delivery(&self) -> bool {
        !self.inbox.load(Relaxed).is_null()
    }

    /// H3: waits for a worker. Async-signal-safe.
    pub(crate) fn receive(&self, deadline_ns: Option<u64>) -> Received<W> {
        loop {
            let seen = self.deliveries.load(Acquire);
            // ORDERING O1: Acquire pairs with the Release in `deliver`.
            let what = self.inbox.swap(ptr::null_mut(), AcqRel);
            if what.cast() == QUIT {
                return Received::Quit;
            }
            if !what.is_null() {
                self.turn.end();
                return Received::Worker(what);
            }
            if self.turn.is_free() {
                return Received::Free;
            }
            if !futex_wait_until(&self.deliveries, seen, deadline_ns) && self.deliveries.load(Acquire) == seen
            {
                return Received::Late;
            }
        }
    }
}
