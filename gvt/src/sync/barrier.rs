//! `Barrier`: std's, for green threads.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use gvt_traits::WaitReason;

use crate::wait::host::give_way;
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

/// Lets a number of threads wait for each other, with the interface of [`std::sync::Barrier`]; parks the
/// green thread, not its worker.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let barrier = gvt::sync::Barrier::new(3);
/// let leaders = gvt::scope(|scope| {
///     let threads: Vec<_> = (0..3).map(|_| scope.spawn(|_| barrier.wait().is_leader())).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).filter(|leads| *leads).count()
/// });
/// assert_eq!(leaders, 1);
/// # });
/// ```
pub struct Barrier {
    needed: usize,
    state: Lock<State>,
}

// Like std's: its state is never broken.
impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

struct State {
    come: usize,
    waiters: List<()>,
}

const POLICY: WaitPolicy<(), State, ()> = WaitPolicy {
    list: |state, _| &mut state.waiters,
    reason: WaitReason::Condvar,
    abandon: |_, state, _, outcome, _, _| {
        // It is not counted after all.
        if outcome == WaitOutcome::Waiting {
            state.come -= 1;
        }
    },
};

impl Barrier {
    /// A barrier for `n` threads; 0 means 1.
    pub const fn new(n: usize) -> Self {
        let needed = if n == 0 { 1 } else { n };
        Barrier { needed, state: Lock::new(State { come: 0, waiters: List::new() }) }
    }

    /// Waits until as many threads have called this as the barrier is for. Then all go on, one of them as the
    /// leader, and the barrier starts anew.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Unwinds at shutdown, and then
    /// does not count.
    pub fn wait(&self) -> BarrierWaitResult {
        give_way();
        let mut state = self.state.lock();
        state.come += 1;
        if state.come < self.needed {
            wait(&(), state, &POLICY, 0, &mut None, None);
            return BarrierWaitResult(false);
        }
        state.come = 0;
        let here = state.here();
        let mut wakes = WakeList::new();
        while let Some(waiter) = state.waiters.take() {
            wakes.push(waiter.end(WaitOutcome::Served, here));
        }
        drop(state);
        wakes.fire();
        BarrierWaitResult(true)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

/// Whether a thread is the leader of those that left a [`Barrier`] with it.
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether it is the leader: true for exactly one of them.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.0).finish()
    }
}
