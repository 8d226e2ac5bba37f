//! `WaitGroup`: waits until every clone is gone.
//!
//! **Protocol.** **H1** A dropped clone counts down; the last one then takes the list's lock and wakes all.
//! **H2** A waiter takes the list's lock, checks the count, and links itself: either H1 finds it in the list,
//! or it has seen 0.
//!
//! **Evidence.** loom `models::wait_group`; mutant `WaitBlind` (H2 looks before it has the lock) fails.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use gvt_traits::WaitReason;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicUsize, Mutant, mutant};
use crate::wait::host::give_way;
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

/// Waits for other threads: each has a clone, and [`wait`](Self::wait) returns when all are dropped. With the
/// interface of `crossbeam_utils::sync::WaitGroup`; parks the green thread, not its worker.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, WaitGroup, atomic::{AtomicUsize, Ordering}};
/// let group = WaitGroup::new();
/// let sum = Arc::new(AtomicUsize::new(0));
/// for i in 0..10 {
///     let (group, sum) = (group.clone(), sum.clone());
///     gvt::spawn(move |_| {
///         sum.fetch_add(i, Ordering::Relaxed);
///         drop(group);
///     });
/// }
/// group.wait();
/// assert_eq!(sum.load(Ordering::Relaxed), 45);
/// # });
/// ```
pub struct WaitGroup {
    inner: Arc<Inner>,
}

struct Inner {
    count: AtomicUsize,
    waiters: Lock<List<()>>,
}

const POLICY: WaitPolicy<(), List<()>, ()> =
    WaitPolicy { list: |list, _| list, reason: WaitReason::Condvar, abandon: |_, _, _, _, _, _| {} };

impl Inner {
    /// H1; returns whether this was the last clone.
    fn leave(&self) -> bool {
        // ORDERING O1: AcqRel: a thread that is woken, or finds 0, sees what all others did.
        if self.count.fetch_sub(1, AcqRel) != 1 {
            return false;
        }
        let mut wakes = WakeList::new();
        let mut list = self.waiters.lock();
        let here = list.here();
        while let Some(waiter) = list.take() {
            wakes.push(waiter.end(WaitOutcome::Served, here));
        }
        drop(list);
        wakes.fire();
        true
    }
}

impl WaitGroup {
    /// A group of one.
    pub fn new() -> Self {
        WaitGroup { inner: Arc::new(Inner { count: AtomicUsize::new(1), waiters: Lock::new(List::new()) }) }
    }

    /// Drops this clone and waits until all the others are dropped.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    pub fn wait(self) {
        give_way();
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped afterwards.
        let inner = unsafe { std::ptr::read(&this.inner) };
        if inner.leave() {
            return;
        }
        // ORDERING O1: Acquire.
        if mutant(Mutant::WaitBlind) && inner.count.load(Acquire) > 0 {
            wait(&(), inner.waiters.lock(), &POLICY, 0, &mut None, None);
            return;
        }
        // H2.
        let list = inner.waiters.lock();
        if inner.count.load(Acquire) > 0 {
            wait(&(), list, &POLICY, 0, &mut None, None);
        }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        // Relaxed: this clone keeps the count above 0.
        self.inner.count.fetch_add(1, Relaxed);
        WaitGroup { inner: self.inner.clone() }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        self.inner.leave();
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.inner.count.load(Relaxed);
        f.debug_struct("WaitGroup").field("count", &others).finish()
    }
}
