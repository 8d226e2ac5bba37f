//! The token from `unpark` to `park`; `thread::unpark` has the protocol.

use std::mem;

use gvt_traits::WaitReason;

use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;

/// A thread's token.
pub(crate) struct Parking(Lock<State>);

struct State {
    is_there: bool,
    waiter: List<()>,
}

const POLICY: WaitPolicy<(), State, ()> = WaitPolicy {
    list: |state, _| &mut state.waiter,
    reason: WaitReason::Park,
    abandon: |_, state, _, outcome, _, _| state.is_there |= outcome == WaitOutcome::Served,
};

impl Default for Parking {
    fn default() -> Self {
        Parking(Lock::new(State { is_there: false, waiter: List::new() }))
    }
}

impl Parking {
    /// U1.
    pub(crate) fn take(&self, deadline_ns: Option<u64>) {
        let mut state = self.0.lock();
        if !mem::take(&mut state.is_there) {
            wait(&(), state, &POLICY, 0, &mut None, deadline_ns);
        }
    }

    /// U2.
    pub(crate) fn give(&self) {
        let mut state = self.0.lock();
        let here = state.here();
        match state.waiter.take() {
            Some(waiter) => {
                let wake = waiter.end(WaitOutcome::Served, here);
                state.wake(wake);
            }
            None => state.is_there = true,
        }
    }
}
