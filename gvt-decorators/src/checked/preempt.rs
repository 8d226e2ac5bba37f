//! A preemptor's calls: P1, and that it is attached when it interrupts.

use std::sync::atomic::Ordering::SeqCst;

use gvt_traits::{InterruptHook, OsThreadId, Preemptor, Strength, WorkerError};

use super::{CheckedPart, demand};

// SAFETY: P2 to P4 are the wrapped preemptor's: hook, threads and answers are passed on unchanged.
unsafe impl<P: Preemptor> Preemptor for CheckedPart<P> {
    fn strength(&self) -> Strength {
        let (first, second) = (self.part.strength(), self.part.strength());
        demand(first == second, "P1", || format!("its strength was {first:?}, then {second:?}"));
        first
    }

    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError> {
        // SAFETY: the caller's C1.
        unsafe { self.part.attach(hook)? };
        // ORDERING O1: SeqCst: pairs with the other accesses of `attached`; nothing here is hot.
        self.attached.fetch_add(1, SeqCst);
        Ok(())
    }

    fn enter_thread(&self) {
        self.part.enter_thread();
    }

    fn detach(&self) {
        // ORDERING O1: as in `attach`.
        let before = self.attached.fetch_sub(1, SeqCst);
        demand(before > 0, "P6", || "it is detached more often than it was attached".into());
        self.part.detach();
    }

    fn interrupt(&self, thread: OsThreadId) -> bool {
        let done = self.part.interrupt(thread);
        demand(!done || self.part.strength() == Strength::Anywhere, "P1", || {
            format!("it interrupts {thread:?}, and its strength is {:?}", self.part.strength())
        });
        done
    }
}
