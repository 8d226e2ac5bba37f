//! The state of the spare starter (`spare_starter`): the requests to it, and whether it is at work.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use crate::os::{futex_wait_until, futex_wake};
use crate::protocol::request::Request;

pub(crate) struct StarterState {
    pub(crate) request: Request,
    /// OS threads that it has started and that do not run yet.
    pub(crate) coming: AtomicU32,
    /// It is at work.
    pub(crate) starting: AtomicBool,
}

impl StarterState {
    pub(crate) const fn new() -> Self {
        StarterState { request: Request::new(), coming: AtomicU32::new(0), starting: AtomicBool::new(false) }
    }

    /// Asks for enough spares, before long. Takes no lock.
    pub(crate) fn ask(&self) {
        self.request.ask_and_wake();
    }

    /// Whether a spare is to come.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting.load(Relaxed)
    }

    /// Ends the starter.
    pub(crate) fn stop(&self) {
        self.request.stop();
    }

    /// A started OS thread runs, or will not.
    pub(crate) fn has_come(&self) {
        self.coming.fetch_sub(1, Relaxed);
        futex_wake(&self.coming, 1);
    }

    /// Waits until every started OS thread runs.
    pub(crate) fn wait(&self) {
        loop {
            match self.coming.load(Relaxed) {
                0 => return,
                coming => _ = futex_wait_until(&self.coming, coming, None),
            }
        }
    }
}
