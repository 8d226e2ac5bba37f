//! Wake-ups outside or under the lock of a list: N2 of `list`.

use crate::protocol::user;
use crate::wait::host::{GreenWaker, Inside, OsWaker};
use crate::wait::lock::LockGuard;

/// What wakes a waiter.
pub(crate) enum Waker {
    None,
    Green(GreenWaker),
    Os(OsWaker),
    Task(user::Waker),
}

/// A waiter that was taken and must be woken.
#[must_use = "a waiter that was taken sleeps until it is woken"]
pub(crate) struct Wake {
    pub(super) waker: Waker,
    pub(super) foreign: bool,
}

impl Wake {
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Wakes after unlocking, still in the section, and leaves the section.
    #[inline]
    pub(crate) fn fire(self, inside: Inside) {
        match self.waker {
            Waker::Green(waker) => waker.wake_own(&inside),
            other => {
                drop(inside);
                Wake { waker: other, foreign: false }.fire_locked();
            }
        }
    }

    /// Wakes, under the lock or without it. Not a future under the lock: its waker is users' code (`user`).
    pub(crate) fn fire_locked(self) {
        match self.waker {
            Waker::None => {}
            Waker::Green(waker) => waker.wake(),
            // SAFETY: N4: the owner keeps the flag until it is fired.
            Waker::Os(waker) => unsafe { waker.fire() },
            Waker::Task(waker) => waker.wake(),
        }
    }
}

impl<T> LockGuard<'_, T> {
    /// Unlocks and wakes, in the order that N2 of `list` allows.
    #[inline]
    pub(crate) fn wake(self, wake: Wake) {
        if wake.is_foreign() {
            wake.fire_locked();
            drop(self);
        } else {
            wake.fire(self.unlock_inside());
        }
    }
}

/// Waiters to wake after unlocking; foreign ones are woken when they are pushed (N2).
pub(crate) struct WakeList {
    first: Option<Wake>,
    others: Vec<Wake>,
}

impl WakeList {
    pub(crate) const fn new() -> Self {
        WakeList { first: None, others: Vec::new() }
    }

    /// The caller holds the lock.
    pub(crate) fn push(&mut self, wake: Wake) {
        if wake.foreign {
            wake.fire_locked();
        } else if self.first.is_none() {
            self.first = Some(wake);
        } else {
            self.others.push(wake);
        }
    }

    /// After unlocking.
    pub(crate) fn fire(self) {
        for wake in self.first.into_iter().chain(self.others) {
            wake.fire_locked();
        }
    }
}
