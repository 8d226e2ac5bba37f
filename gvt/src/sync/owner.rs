//! Who has a lock: to tell a thread that it would wait for itself. Nothing in builds without debug assertions.
//!
//! Relaxed throughout: a thread sees its own store; whatever else it sees is not its own number.

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

    /// The lock is let go of.
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
