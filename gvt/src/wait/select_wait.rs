//! A thread that waits in several lists (N5 of `list`).

use gvt_traits::WaitReason;

use crate::wait::host::{Green, Inside, OsFlag};
use crate::wait::list::{Claim, wait_until_fired};
use crate::wait::wake::Waker;

/// A thread that is about to wait in several lists (N5).
pub(crate) struct SelectWait<'a> {
    green: Option<Green<'a>>,
    flag: &'a OsFlag,
    claim: &'a Claim,
}

impl<'a> SelectWait<'a> {
    /// Prepares `claim` for nodes; an OS thread sleeps on `flag`.
    pub(crate) fn new(claim: &'a Claim, flag: &'a OsFlag, reason: WaitReason) -> Self {
        let green = Inside::enter().here().green(reason);
        let waker = match &green {
            Some(green) => Waker::Green(green.waker()),
            None => Waker::Os(flag.waker()),
        };
        // SAFETY: no node is linked yet, so the claim is this thread's alone.
        unsafe { *claim.waker.get() = waker };
        SelectWait { green, flag, claim }
    }

    /// Waits until one of the nodes is taken, or until the deadline; the operation, or `None` after having
    /// given up.
    ///
    /// Context: a green thread or an OS thread. Unwinds at shutdown and when it is cancelled; the caller must
    /// take the nodes back.
    pub(crate) fn park(self, deadline_ns: Option<u64>) -> Option<u32> {
        match self.green {
            Some(green) => {
                let parked = green.park(Inside::enter(), deadline_ns);
                let claimed = self.claim.give_up();
                if claimed.is_none() {
                    parked.unless_cancelled(());
                }
                claimed
            }
            None => {
                self.flag.wait(deadline_ns);
                let claimed = self.claim.give_up();
                if claimed.is_some() {
                    wait_until_fired(self.flag);
                }
                claimed
            }
        }
    }

    /// Gives up instead of waiting; returns the operation if a node was taken meanwhile.
    pub(crate) fn give_up(self) -> Option<u32> {
        let claimed = self.claim.give_up();
        if claimed.is_some() && self.green.is_none() {
            wait_until_fired(self.flag);
        }
        claimed
    }
}
