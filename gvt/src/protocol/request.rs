//! What one OS thread is asked to see to, and sleeps while nobody asks.
//!
//! **Hazard.** Somebody asks while it goes back to sleep, having seen to what was asked for before: nobody sees to the rest.
//! **Protocol.** **N1** Who asks changes what the other looks at, under a lock, and then the word from IDLE to ASKED; if it was IDLE, it
//! wakes the other. **N2** The other changes ASKED to IDLE, and then looks, under the lock. It sleeps only while the word is IDLE.
//!
//! **Ordering.** Relaxed: the lock orders what is looked at. Who finds ASKED, or leaves it, did so before N2 changed it, as the word is one
//! location; so the look of N2 holds the lock later than N1's change did.
//!
//! **Evidence.** loom `request_is_kept`; mutant `LookFirst` (N2 the other way round) fails.

use crate::protocol::atomics::Ordering::Relaxed;
use crate::protocol::atomics::{AtomicU32, Mutant, mutant};

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const STOP: u32 = 2;

pub(crate) struct Request {
    word: AtomicU32,
}

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Served<R> {
    /// Somebody had asked; what the look came to.
    Asked(R),
    /// Nobody had.
    Idle,
    /// It is to end.
    Stop,
}

impl Request {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Request { word: AtomicU32::new(IDLE) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Request { word: AtomicU32::new(IDLE) }
    }

    /// N1, second half; whether the other is to be woken.
    pub(crate) fn ask(&self) -> bool {
        self.word.compare_exchange(IDLE, ASKED, Relaxed, Relaxed).is_ok()
    }

    /// N2: sees to it with `look`, if somebody has asked.
    pub(crate) fn serve<R>(&self, look: impl FnOnce() -> R) -> Served<R> {
        if mutant(Mutant::LookFirst) && self.word.load(Relaxed) == ASKED {
            let result = look();
            let _ = self.word.compare_exchange(ASKED, IDLE, Relaxed, Relaxed);
            return Served::Asked(result);
        }
        match self.word.compare_exchange(ASKED, IDLE, Relaxed, Relaxed) {
            Ok(_) => Served::Asked(look()),
            Err(STOP) => Served::Stop,
            Err(_) => Served::Idle,
        }
    }
}

#[cfg(not(loom))]
mod os {
    use super::*;
    use crate::os::{futex_wait_until, futex_wake};

    impl Request {
        /// N1, second half. Takes no lock.
        pub(crate) fn ask_and_wake(&self) {
            if self.ask() {
                futex_wake(&self.word, 1);
            }
        }

        /// Sleeps while nobody asks. May return early.
        pub(crate) fn sleep(&self) {
            futex_wait_until(&self.word, IDLE, None);
        }

        /// Sleeps until `deadline_ns`, whoever asks, or until it is to end.
        pub(crate) fn pause(&self, deadline_ns: u64) {
            loop {
                let word = self.word.load(Relaxed);
                if word == STOP || !futex_wait_until(&self.word, word, Some(deadline_ns)) {
                    return;
                }
            }
        }

        /// Has it end.
        pub(crate) fn stop(&self) {
            self.word.store(STOP, Relaxed);
            futex_wake(&self.word, 1);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::{Arc, Mutex};

    /// Two ask while the other sees to what it finds, and goes to sleep: nothing that is missing stays so.
    fn request_is_kept() {
        loom::model(|| {
            let world = Arc::new((Request::new(), Mutex::new(0_u32)));
            let ask = || {
                let world = world.clone();
                loom::thread::spawn(move || {
                    *world.1.lock().unwrap() += 1;
                    world.0.ask();
                })
            };
            let askers = [ask(), ask()];
            let serve = || world.0.serve(|| *world.1.lock().unwrap() = 0);
            while serve() != Served::Idle {}
            askers.into_iter().for_each(|asker| asker.join().unwrap());
            // It sleeps no longer if somebody has asked since.
            while serve() != Served::Idle {}
            assert_eq!(*world.1.lock().unwrap(), 0, "asleep, and something is missing");
        });
    }

    #[test]
    fn requests_are_kept() {
        check(request_is_kept);
    }

    #[test]
    fn mutant_look_first() {
        check_mutant(Mutant::LookFirst, request_is_kept);
    }
}
