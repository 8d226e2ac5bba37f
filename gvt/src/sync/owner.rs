//! The owner of a lock, to detect a thread that would wait for itself. Empty in builds without debug
//! assertions.
//!
//! Relaxed throughout: a thread sees its own store; any other value it sees is not its own number.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering::*};

pub(super) struct Owner {
    #[cfg(debug_assertions)]
    who: AtomicU64,
}

impl Owner {
    pub(super) const fn nobody() -> Self {
        Owner {
            #[cfg(debug_assertions)]
            who: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn set_me(&self) {
        #[cfg(debug_assertions)]
        self.who.store(crate::wait::host::me(), Relaxed);
    }

    /// The lock is released.
    #[inline]
    pub(super) fn clear(&self) {
        #[cfg(debug_assertions)]
        self.who.store(0, Relaxed);
    }

    #[inline]
    pub(super) fn is_me(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.who.load(Relaxed) == crate::wait::host::me();
        #[cfg(not(debug_assertions))]
        false
    }
}
