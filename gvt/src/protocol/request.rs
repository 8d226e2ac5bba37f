//! A request to one OS thread, which sleeps while there is none.
//!
//! **Hazard.** A request arrives while the OS thread, done with an earlier one, goes back to sleep: the new
//! one is lost.
//!
//! **Protocol.** **N1** A requester changes the shared state, under a lock, and then the word from IDLE to
//! ASKED; if it was IDLE, it wakes the OS thread. **N2** The OS thread changes ASKED to IDLE, and then looks
//! at the state, under the lock. It sleeps only while the word is IDLE.
//!
//! **Ordering.** Relaxed: the lock orders the shared state. A requester that finds or leaves ASKED did so
//! before N2 changed it, as the word is one location; so the look of N2 holds the lock later than N1's change
//! did.
//!
//! **Evidence.** loom `request_is_kept`; mutant `LookFirst` (N2 in the opposite order) fails.

use crate::protocol::atomics::Ordering::Relaxed;
use crate::protocol::atomics::{AtomicU32, Mutant, mutant};

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const STOP: u32 = 2;

pub(crate) struct Request {
    word: AtomicU32,
}

/// What `serve` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Served<R> {
    /// There was a request; the result of the look.
    Asked(R),
    /// There was none.
    Idle,
    /// The OS thread must end.
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

    /// N1, second half; whether the caller must wake the OS thread.
    pub(crate) fn ask(&self) -> bool {
        self.word.compare_exchange(IDLE, ASKED, Relaxed, Relaxed).is_ok()
    }

    /// N2: serves a request with `look`, if there is one.
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

        /// Sleeps while there is no request. May return early.
        pub(crate) fn sleep(&self) {
            futex_wait_until(&self.word, IDLE, None);
        }

        /// Sleeps until `deadline_ns` regardless of requests, or until told to stop.
        pub(crate) fn pause(&self, deadline_ns: u64) {
            loop {
                let word = self.word.load(Relaxed);
                if word == STOP || !futex_wait_until(&self.word, word, Some(deadline_ns)) {
                    return;
                }
            }
        }

        /// Tells the OS thread to end.
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

    /// Two threads ask while the OS thread serves what it finds and goes to sleep: no request is lost.
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
            // It does not sleep if there is a new request.
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
