//! A green thread's wait, for the primitives: draws a wait, notes the reason, leaves the stack.

use std::sync::atomic::Ordering::*;

use gvt_traits::{PushKind, TimerEntry, TimerType, WaitReason, WakeTicket, WorkerId};

use crate::kernel::thread::record::{Record, SCOPED, UNWIND};
use crate::kernel::worker::core::{CoreBase, WorkerBase};
use crate::kernel::worker::{joiner, section, tls};
use crate::protocol::wait;
use crate::protocol::wait::Woken;
use crate::wait::cancelled;

/// The payload that unwinds a thread at shutdown. Not a panic: no hook runs and nothing is printed.
pub(crate) struct ShutdownUnwind;

/// The running green thread's record; `None` on an OS thread.
#[inline]
pub(crate) fn current<'a>() -> Option<&'a Record> {
    // SAFETY: the running thread's record stays mapped, and the caller, being that thread, keeps it.
    unsafe { section::current().as_ref() }
}

/// One wait of the running green thread.
///
/// The holder publishes [`waker`](Self::waker), checks its condition once more where needed, and parks. It
/// may also be dropped: the wait is then void, and its wakers have no effect.
pub(crate) struct Wait<'a> {
    record: &'a Record,
    number: u64,
}

/// Ends one particular wait. Copyable, may be kept for ever: a stale one does nothing.
#[derive(Clone, Copy)]
pub(crate) struct WaitWaker {
    record: *const Record,
    number: u64,
}

// SAFETY: records are `Sync` and stay mapped as long as their runtime; wakers are kept only in places that a
// thread of that runtime removes them from before it goes on.
unsafe impl Send for WaitWaker {}
// SAFETY: as above.
unsafe impl Sync for WaitWaker {}

impl WaitWaker {
    /// The runtime of the thread that waits.
    #[inline]
    pub(crate) fn core(self) -> *const CoreBase {
        // SAFETY: see the `Send` impl.
        unsafe { &*self.record }.core()
    }

    /// Ends the wait; returns whether this call did.
    ///
    /// Context: any OS thread or green thread.
    pub(crate) fn wake(self) -> bool {
        // SAFETY: see the `Send` impl.
        joiner::wake_wait(unsafe { &*self.record }, self.number, PushKind::Wake)
    }

    /// [`wake`](Self::wake) by a caller inside the runtime, on a worker of the waiter's runtime.
    #[inline]
    pub(crate) fn wake_from(self, worker: &WorkerBase) {
        // SAFETY: see the `Send` impl.
        let record = unsafe { &*self.record };
        if wait::wake(&record.meta.wait, self.number) == Woken::Queue {
            // SAFETY: this call ended the wait of a parked thread: no token of it exists.
            let task = unsafe { record.runnable() };
            // SAFETY: the caller is inside the runtime, on this worker.
            unsafe { (worker.vtable.push_woken)(worker, task) };
        }
    }
}

impl<'a> Wait<'a> {
    /// Draws a wait of `record`, the running thread's.
    #[inline]
    pub(crate) fn new(record: &'a Record, reason: WaitReason) -> Self {
        record.meta.wait_reason.store(reason as u8, Relaxed);
        Wait { record, number: wait::prepare(&record.meta.wait) }
    }

    #[inline]
    pub(crate) fn waker(&self) -> WaitWaker {
        WaitWaker { record: self.record, number: self.number }
    }

    /// Leaves the stack until the wait ends. Unwinds if the runtime shuts down meanwhile: the publisher of
    /// the waker must take it back in a destructor.
    pub(crate) fn park(self) {
        let record = self.record;
        if record.has_flag(SCOPED) {
            return self.park_scoped(None);
        }
        self.park_shielded();
        unwind_if_asked(record);
    }

    /// [`park`](Self::park) until `awaited`, a thread of the same runtime, ends.
    pub(crate) fn park_for(self, awaited: &Record) {
        let record = self.record;
        self.park_shielded_for(awaited);
        unwind_if_asked(record);
    }

    /// [`park_shielded`](Self::park_shielded) to wait for `awaited`, a thread of the same runtime.
    pub(crate) fn park_shielded_for(self, awaited: &Record) {
        let record = self.record;
        let worker = section::enter_from_outside();
        // SAFETY: a green thread runs on a worker.
        let worker = unsafe { &*worker };
        if !wait::is_notified(&record.meta.wait) {
            // SAFETY: this is the running thread, inside the runtime, with its wait armed.
            unsafe { (worker.vtable.park_for)(worker, awaited) };
        }
        tls::leave();
        record.meta.wait_reason.store(WaitReason::None as u8, Relaxed);
    }

    /// [`park`](Self::park) without unwinding: it may return although its wait has not come true.
    pub(crate) fn park_shielded(self) {
        if wait::is_notified(&self.record.meta.wait) {
            return;
        }
        let worker = section::enter_from_outside();
        // SAFETY: a green thread runs on a worker.
        let worker = unsafe { &*worker };
        // SAFETY: this is the running thread, inside the runtime, with its wait armed.
        unsafe { (worker.vtable.park)(worker) };
        tls::leave();
        self.record.meta.wait_reason.store(WaitReason::None as u8, Relaxed);
    }

    /// [`park`](Self::park) by a caller that is inside the runtime already, on `worker`; leaves the runtime.
    /// Returns whether certainly a waker has ended the wait.
    #[inline]
    pub(crate) fn park_from(self, worker: &WorkerBase) -> bool {
        let record = self.record;
        if record.has_flag(SCOPED) {
            tls::leave();
            self.park_scoped(None);
            return false;
        }
        if !wait::is_notified(&record.meta.wait) {
            // SAFETY: this is the running thread, inside the runtime, with its wait armed.
            unsafe { (worker.vtable.park)(worker) };
        }
        tls::leave();
        record.meta.wait_reason.store(WaitReason::None as u8, Relaxed);
        !unwind_if_asked(record)
    }

    /// [`park`](Self::park) until `deadline_ns` of the runtime's clock at the latest.
    pub(crate) fn park_until(self, deadline_ns: u64, kind: TimerType) {
        if self.record.has_flag(SCOPED) {
            return self.park_scoped(Some(deadline_ns));
        }
        self.park_with_timer(deadline_ns, kind);
    }

    /// [`park`](Self::park) of a thread whose waits end with tokens: returns without a wake-up if one is
    /// cancelled. The caller then checks whether the wait has come true, and if not, calls
    /// `cancelled::unwind_if_cancelled`.
    #[cold]
    fn park_scoped(self, deadline_ns: Option<u64>) {
        let record = self.record;
        // U3, U4 of `token::run`.
        if cancelled::is_pending(record) {
            record.meta.wait_reason.store(WaitReason::None as u8, Relaxed);
            return;
        }
        match deadline_ns.into_iter().chain(cancelled::earliest_deadline_ns(record)).min() {
            Some(deadline_ns) => self.park_with_timer(deadline_ns, TimerType::Deadline),
            None => {
                self.park_shielded();
                unwind_if_asked(record);
            }
        }
    }

    fn park_with_timer(self, deadline_ns: u64, kind: TimerType) {
        let record = self.record;
        let core = record.core();
        let section = section::Section::new();
        // SAFETY: a green thread runs on a worker.
        let worker = unsafe { &*tls::worker() }.index;
        let ticket = WakeTicket { sequence: self.number, id: record.meta.id() };
        let entry = TimerEntry { deadline_ns, ticket, affinity: WorkerId::new(worker), kind };
        // 0 means none. ORDERING O1: Release, here and below, pairs with the Acquire in `fire_timers`.
        record.meta.wake_time_ns.store(deadline_ns.max(1), Release);
        // SAFETY: the table belongs to this core's type.
        let handle = unsafe { (core.vtable.insert_timer)(core, entry) };
        drop(section);
        self.park_shielded();
        record.meta.wake_time_ns.store(0, Release);
        // A sleep ends by its timer, which is out of the backend then; only an early end needs a cancel.
        if kind != TimerType::Sleep || record.has_flag(UNWIND) {
            let _section = section::Section::new();
            // SAFETY: as above.
            unsafe { (core.vtable.cancel_timer)(core, handle) };
        }
        unwind_if_asked(record);
    }
}

/// Unwinds if a shutdown asks for it; returns if the thread unwinds already.
#[inline]
fn unwind_if_asked(record: &Record) -> bool {
    let is_asked = record.has_flag(UNWIND);
    if is_asked {
        unwind(record);
    }
    is_asked
}

#[cold]
fn unwind(record: &Record) {
    // A destructor that waits while its thread already unwinds goes on waiting.
    if !std::thread::panicking() {
        // The flag stays: a thread that catches this and waits again is unwound again.
        let _ = record;
        std::panic::resume_unwind(Box::new(ShutdownUnwind));
    }
}
