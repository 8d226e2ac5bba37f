//! `host` in models: every waiter is an OS thread of loom's, and a deadline has always passed.

use std::marker::PhantomData;
use std::sync::Arc;

use gvt_traits::WaitReason;
use loom::sync::atomic::{AtomicBool, Ordering::*};
use loom::thread::Thread;

pub(crate) struct Inside;

impl Inside {
    pub(crate) fn enter() -> Self {
        Inside
    }

    pub(crate) fn here(&self) -> Here {
        Here
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Here;

impl Here {
    pub(crate) fn keep_next(self) {}

    pub(crate) fn green<'a>(self, _reason: WaitReason) -> Option<Green<'a>> {
        None
    }
}

pub(crate) enum Nobody {}

pub(crate) struct Green<'a>(Nobody, PhantomData<&'a ()>);

pub(crate) struct Parked {
    pub(crate) surely: bool,
}

impl Parked {
    pub(crate) fn unless_cancelled<G>(&self, guard: G) -> G {
        guard
    }
}

impl Green<'_> {
    pub(crate) fn waker(&self) -> GreenWaker {
        match self.0 {}
    }

    pub(crate) fn park(self, _inside: Inside, _deadline_ns: Option<u64>) -> Parked {
        match self.0 {}
    }
}

#[derive(Clone, Copy)]
pub(crate) enum GreenWaker {}

impl GreenWaker {
    pub(crate) fn is_foreign(self, _here: Here) -> bool {
        match self {}
    }

    pub(crate) fn wake_own(self, _inside: &Inside) {
        match self {}
    }

    pub(crate) fn wake(self) {
        match self {}
    }
}

struct Flag {
    fired: AtomicBool,
    /// Not loom's: it only detects that the owner has left (N4 of `list`).
    alive: std::sync::atomic::AtomicBool,
    thread: Thread,
}

pub(crate) struct OsFlag(Arc<Flag>);

impl OsFlag {
    pub(crate) fn new() -> Self {
        OsFlag(Arc::new(Flag {
            fired: AtomicBool::new(false),
            alive: std::sync::atomic::AtomicBool::new(true),
            thread: loom::thread::current(),
        }))
    }

    pub(crate) fn is_fired(&self) -> bool {
        self.0.fired.load(Acquire)
    }

    pub(crate) fn wait(&self, deadline_ns: Option<u64>) {
        while deadline_ns.is_none() && !self.is_fired() {
            loom::thread::park();
        }
    }

    pub(crate) fn waker(&self) -> OsWaker {
        OsWaker(self.0.clone())
    }
}

impl Drop for OsFlag {
    fn drop(&mut self) {
        self.0.alive.store(false, std::sync::atomic::Ordering::SeqCst);
    }
}

pub(crate) struct OsWaker(Arc<Flag>);

impl OsWaker {
    pub(crate) unsafe fn fire(self) {
        assert!(self.0.alive.load(std::sync::atomic::Ordering::SeqCst), "fired a flag whose owner has left");
        self.0.fired.store(true, Release);
        self.0.thread.unpark();
    }
}

pub(crate) fn now_ns() -> u64 {
    u64::MAX
}

pub(crate) fn draw() -> Option<u64> {
    None
}

pub(crate) fn spin() {
    loom::thread::yield_now();
}

/// Does nothing in models.
pub(crate) fn give_way() {}
