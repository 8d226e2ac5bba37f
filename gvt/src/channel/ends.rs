//! The two ends of a channel, and when it is freed.
//!
//! **Protocol.** Each side counts its ends. **E1** The last end of a side disconnects the channel. **E2** The
//! second side to go frees it: the one that sets `gone` and finds it set.
//!
//! **Evidence.** loom `models::*`; mutant `CountBlind` (E1 without a read-modify-write) fails.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicBool, AtomicUsize, Mutant, is_failing, mutant};
use std::ptr::NonNull;

pub(super) struct Shared<C> {
    senders: AtomicUsize,
    receivers: AtomicUsize,
    gone: AtomicBool,
    channel: C,
}

/// Which count an end belongs to.
pub(super) trait Side {
    fn count<C>(shared: &Shared<C>) -> &AtomicUsize;
}

pub(super) enum Sending {}
pub(super) enum Receiving {}

impl Side for Sending {
    fn count<C>(shared: &Shared<C>) -> &AtomicUsize {
        &shared.senders
    }
}

impl Side for Receiving {
    fn count<C>(shared: &Shared<C>) -> &AtomicUsize {
        &shared.receivers
    }
}

/// One end. Does not count itself: its owner calls `again` and `release`.
pub(super) struct End<C, S> {
    shared: NonNull<Shared<C>>,
    side: std::marker::PhantomData<S>,
}

pub(super) fn new<C>(channel: C) -> (End<C, Sending>, End<C, Receiving>) {
    let shared = Box::new(Shared {
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
        gone: AtomicBool::new(false),
        channel,
    });
    let shared = NonNull::from(Box::leak(shared));
    (End { shared, side: std::marker::PhantomData }, End { shared, side: std::marker::PhantomData })
}

impl<C, S: Side> End<C, S> {
    fn shared(&self) -> &Shared<C> {
        // SAFETY: E2: freed only when both sides are gone, and this end has not been released.
        unsafe { self.shared.as_ref() }
    }

    /// One more end of this side.
    pub(super) fn again(&self) -> Self {
        // Relaxed: passing an end to another thread orders that by itself.
        let before = S::count(self.shared()).fetch_add(1, Relaxed);
        if before > isize::MAX as usize {
            // Only a program that forgets ends in a loop gets here; the count must not wrap.
            std::process::abort();
        }
        End { shared: self.shared, side: std::marker::PhantomData }
    }

    /// Releases this end.
    ///
    /// # Safety
    ///
    /// **C1**: the end is not used afterwards.
    pub(super) unsafe fn release(&self, disconnect: impl FnOnce(&C)) {
        // ORDERING O1: AcqRel: what every end did happens before the disconnection.
        if is_failing() {
            return;
        }
        let before = if mutant(Mutant::CountBlind) {
            let count = S::count(self.shared());
            let before = count.load(SeqCst);
            count.store(before - 1, SeqCst);
            before
        } else {
            S::count(self.shared()).fetch_sub(1, AcqRel)
        };
        if before != 1 {
            return;
        }
        /// E2, also if a message's destructor panics.
        struct Gone<C>(NonNull<Shared<C>>);
        impl<C> Drop for Gone<C> {
            fn drop(&mut self) {
                // ORDERING O2: AcqRel: what the side that went first did happens before the channel is freed.
                // SAFETY: E2.
                if unsafe { self.0.as_ref() }.gone.swap(true, AcqRel) {
                    // SAFETY: E2; it came from a box.
                    drop(unsafe { Box::from_raw(self.0.as_ptr()) });
                }
            }
        }
        let _gone = Gone(self.shared);
        disconnect(&self.shared().channel);
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.shared == other.shared
    }
}

impl<C, S: Side> std::ops::Deref for End<C, S> {
    type Target = C;
    #[inline]
    fn deref(&self) -> &C {
        &self.shared().channel
    }
}
