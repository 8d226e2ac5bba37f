//! Who is handed a worker goes on where the giver was.
//!
//! When an OS thread passes its worker on and sleeps, its processor becomes free. The kernel does not know that when it
//! chooses a processor for the one that is woken: it takes the one where that ran last, where another worker may be computing,
//! and there the two take turns for milliseconds while the giver's processor idles. (Measured with 1,000 threads that
//! compute on 2 workers of 2 processors: a fifth of the CPU time was lost, slices were 0.8 to 10 ms instead of 2.)
//!
//! **Protocol.** **P1** The giver confines the receiver, which sleeps, to the processor that the giver is on, having noted where
//! the receiver may run, and wakes it (`os_thread` H2). **P2** The receiver undoes that before it goes on for longer than to pass
//! the worker on, and a giver that stays does before it wakes it. So who relays a worker and sleeps again costs nothing.
//! `allowed` is written by a giver while the receiver sleeps and nobody else can give to it; H2 and H3 order it.
//!
//! **Limits.** Who changes where the process may run (`taskset -a -p`) at that moment may find one OS thread unchanged. A set of
//! more than 1,024 processors does not fit, and nobody is confined. Nor where the kernel forbids it.
//!
//! **Rejected.** To leave each OS thread confined for good: the kernel could not balance load any more. To wake through a pipe,
//! whose readers the kernel places on the writer's processor: two descriptors for each OS thread.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::os::{Processors, processor};

/// Where an OS thread may run.
pub(crate) struct Place {
    /// Before it was confined.
    allowed: UnsafeCell<Processors>,
    /// The processor that it is confined to, plus one; 0: it is not.
    confined: AtomicU32,
}

impl Place {
    pub(crate) const fn new() -> Self {
        Place { allowed: UnsafeCell::new(Processors::NONE), confined: AtomicU32::new(0) }
    }

    /// For the next OS thread.
    pub(crate) fn reset(&self) {
        self.confined.store(0, Relaxed);
    }

    /// P1, of the OS thread `thread_id`. Async-signal-safe.
    pub(crate) fn take_over(&self, thread_id: i32) {
        // Who has only just been started has no number yet.
        let Some(here) = processor().filter(|_| thread_id != 0) else {
            return;
        };
        let confined = self.confined.load(Relaxed);
        if confined == here + 1 {
            return;
        }
        if confined == 0 {
            let Some(allowed) = Processors::of(thread_id) else {
                return;
            };
            // SAFETY: the receiver sleeps and has one giver.
            unsafe { *self.allowed.get() = allowed };
        }
        if Processors::only(here).is_some_and(|only| only.confine(thread_id)) {
            self.confined.store(here + 1, Relaxed);
        }
    }

    /// P2, of the OS thread `thread_id`; 0 for the calling one. Async-signal-safe.
    #[inline]
    pub(crate) fn release(&self, thread_id: i32) {
        if self.confined.load(Relaxed) != 0 {
            self.undo(thread_id);
        }
    }

    #[cold]
    fn undo(&self, thread_id: i32) {
        self.confined.store(0, Relaxed);
        // SAFETY: called by the receiver, or by its one giver while it sleeps.
        unsafe { *self.allowed.get() }.confine(thread_id);
    }
}
