//! The core of `Condvar`.
//!
//! **Hazard.** A notification between the unlocking of the mutex and the sleep must not be lost.
//!
//! **Protocol.** **C1** The waiter links itself, **C2** unlocks the mutex, **C3** sleeps. A notifier that
//! changes the condition under the mutex comes before C1, and then the waiter has seen the change, or after
//! C2, and then it finds the waiter. **C4** A waiter that was notified alone and is then unwound, here or
//! while it locks the mutex again, passes the notification on; one that was notified together with all
//! waiters does not.
//!
//! **Evidence.** loom `models::condvar_*`; mutant `UnlockFirst` (C2 before C1) fails.

use std::time::Instant;

use gvt_traits::WaitReason;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicBool, Mutant, mutant};
use crate::wait::clock::deadline_ns;
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait_then};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

pub(super) struct RawCondvar {
    waiters: Lock<List<()>>,
    /// Whether there may be a waiter; saves notifiers the lock.
    some: AtomicBool,
}

const POLICY: WaitPolicy<RawCondvar, List<()>, ()> = WaitPolicy {
    list: |list, _| list,
    reason: WaitReason::Condvar,
    abandon: |_, list, _, outcome, wakes, here| {
        // C4.
        if outcome == WaitOutcome::Served
            && let Some(waiter) = list.take()
        {
            wakes.push(waiter.end(WaitOutcome::Served, here));
        }
    },
};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Notified {
    /// The deadline came first.
    Not,
    /// This waiter alone was notified.
    Alone,
    /// All waiters were notified.
    WithAll,
}

impl RawCondvar {
    const_fn! {
        pub(super) const fn new() -> Self {
            RawCondvar { waiters: Lock::new(List::new()), some: AtomicBool::new(false) }
        }
    }

    /// C1 to C3. The mutex is not locked again.
    pub(super) fn wait(&self, mut unlock: impl FnMut(), deadline: Option<Instant>) -> Notified {
        let deadline = deadline.map(deadline_ns);
        if mutant(Mutant::UnlockFirst) {
            unlock();
        }
        let list = self.waiters.lock();
        // Relaxed: a notifier that changes the condition under the mutex sees it because of the mutex.
        self.some.store(true, Relaxed);
        let then: Option<&mut dyn FnMut()> =
            if mutant(Mutant::UnlockFirst) { None } else { Some(&mut unlock) };
        match wait_then(self, list, &POLICY, 0, &mut None, deadline, then) {
            WaitOutcome::Served => Notified::Alone,
            WaitOutcome::Again => Notified::WithAll,
            _ => Notified::Not,
        }
    }

    pub(super) fn notify_one(&self) {
        if !self.some.load(Relaxed) {
            return;
        }
        let mut list = self.waiters.lock();
        let here = list.here();
        let waiter = list.take();
        if list.is_empty() {
            self.some.store(false, Relaxed);
        }
        if let Some(waiter) = waiter {
            let wake = waiter.end(WaitOutcome::Served, here);
            list.wake(wake);
        }
    }

    pub(super) fn notify_all(&self) {
        if !self.some.load(Relaxed) {
            return;
        }
        let mut wakes = WakeList::new();
        let mut list = self.waiters.lock();
        let here = list.here();
        while let Some(waiter) = list.take() {
            wakes.push(waiter.end(WaitOutcome::Again, here));
        }
        self.some.store(false, Relaxed);
        drop(list);
        wakes.fire();
    }
}
