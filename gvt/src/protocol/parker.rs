//! How a worker sleeps: on a futex, or in a backend's file descriptor.
//!
//! **Protocol.** The word says what the sleeper does. A waker swaps NOTIFIED in and acts on the old value:
//! SLEEPING: futex wake; POLLING: a write to the runtime's eventfd, which the sleeper polls beside the
//! backend's descriptor. **K1** The sleeper enters SLEEPING or POLLING by compare-exchange from EMPTY, so
//! that it finds an earlier notification instead of sleeping over it. **K2** On the way out it swaps EMPTY
//! in, and so learns of a notification that came with the time-out.
//!
//! **Evidence.** loom `parker::*`; mutant `ParkBlind` (K1 by a plain store) fails.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, Mutant, mutant};

const EMPTY: u32 = 0;
const SLEEPING: u32 = 1;
const POLLING: u32 = 2;
const NOTIFIED: u32 = 3;

pub(crate) struct Parker {
    word: AtomicU32,
}

/// How a worker sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Sleep {
    /// On the parker's futex.
    Futex = SLEEPING,
    /// In a poll of a backend's descriptor and the runtime's eventfd.
    Poll = POLLING,
}

/// What a waker must do after [`Parker::notify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nudge {
    /// Nothing: the worker is awake, or was notified already.
    None,
    /// A futex wake.
    Futex,
    /// A write to the eventfd.
    Descriptor,
}

impl Parker {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Parker { word: AtomicU32::new(EMPTY) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Parker { word: AtomicU32::new(EMPTY) }
    }

    /// The waker's side.
    pub(crate) fn notify(&self) -> Nudge {
        // ORDERING O1: Release pairs with the Acquire in `enter` and `exit`.
        match self.word.swap(NOTIFIED, AcqRel) {
            SLEEPING => Nudge::Futex,
            POLLING => Nudge::Descriptor,
            _ => Nudge::None,
        }
    }

    /// K1: `false` if a notification is there already.
    pub(crate) fn enter(&self, how: Sleep) -> bool {
        let how = how as u32;
        if mutant(Mutant::ParkBlind) {
            self.word.store(how, SeqCst);
            return true;
        }
        // ORDERING O1: Acquire pairs with the Release in `notify`.
        self.word.compare_exchange(EMPTY, how, AcqRel, Acquire).is_ok()
    }

    /// K2: whether a notification came.
    pub(crate) fn exit(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release in `notify`.
        self.word.swap(EMPTY, AcqRel) == NOTIFIED
    }
}

#[cfg(not(loom))]
mod os {
    use super::*;
    use crate::os::{EventFd, futex_wait_until, futex_wake, poll_two};

    impl Parker {
        /// Sleeps until notified, or until `deadline_ns` (`CLOCK_MONOTONIC`). Returns whether it
        /// was notified.
        pub(crate) fn sleep(&self, deadline_ns: Option<u64>) -> bool {
            if self.enter(Sleep::Futex) {
                while self.word.load(Relaxed) == SLEEPING {
                    if !futex_wait_until(&self.word, SLEEPING, deadline_ns) {
                        break;
                    }
                }
            }
            self.exit()
        }

        /// Sleeps until notified or until `descriptor` is readable. Returns whether it was
        /// notified.
        pub(crate) fn poll(&self, descriptor: i32, wake: &EventFd) -> bool {
            if self.enter(Sleep::Poll) {
                while self.word.load(Relaxed) == POLLING {
                    let (readable, woken) = poll_two(descriptor, wake.raw());
                    if woken {
                        wake.drain();
                    }
                    if readable {
                        break;
                    }
                }
            }
            self.exit()
        }

        /// Wakes the sleeper, whichever way it sleeps.
        pub(crate) fn unpark(&self, wake: impl FnOnce()) {
            match self.notify() {
                Nudge::None => {}
                Nudge::Futex => futex_wake(&self.word, 1),
                Nudge::Descriptor => wake(),
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;

    /// A notification while a worker goes to sleep: either it does not sleep, or the waker knows how to wake
    /// it.
    fn notification_is_kept() {
        loom::model(|| {
            let parker = Arc::new(Parker::new());
            let waker = {
                let parker = parker.clone();
                loom::thread::spawn(move || parker.notify())
            };
            let slept = parker.enter(Sleep::Futex);
            let nudge = waker.join().unwrap();
            assert!(!slept || nudge == Nudge::Futex, "asleep, and the waker does not know");
            assert!(parker.exit(), "the notification was lost");
        });
    }

    #[test]
    fn parker_keeps_notifications() {
        check(notification_is_kept);
    }

    #[test]
    fn mutant_park_blind() {
        check_mutant(Mutant::ParkBlind, notification_is_kept);
    }
}
