//! OS threads that carry workers, and how a worker passes from one to another.
//!
//! An OS thread of the runtime has its own native stack, on which the scheduler's loop runs while
//! the worker has no thread to run, and an inbox in which it receives a worker. It carries a worker
//! or it does not:
//!
//! - **spare**: it has nothing to do and waits at its inbox, in the pool;
//! - **carrying**: it runs the loop, or a green thread;
//! - **held**: a green thread of its own keeps it (a panic unwinds there, a call blocks, a signal
//!   took the thread off) while its worker goes on elsewhere. To go on, the thread needs a worker: its
//!   `Runnable` is queued like any other, and the worker that pops it is passed to the inbox.
//!
//! **Hazard.** A worker's cells are plain. Two OS threads must never both believe to carry it.
//!
//! **Protocol.** **H1** the giver forgets the worker (thread-local null) after its last access.
//! **H2** it stores the worker in the inbox, Release, and wakes the inbox's futex. **H3** the receiver
//! swaps the inbox empty, Acquire, and from there on carries the worker. A worker is in exactly one
//! place: a thread-local, an inbox, or a local variable between H1 and H2.
//!
//! **Limits.** Spare OS threads are kept for reuse until the runtime ends.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

use gvt_traits::{Registers, WorkerError};

use super::core::WorkerBase;
use crate::os::{futex_wait_until, futex_wake};

/// In an inbox: end.
const QUIT: *mut WorkerBase = ptr::without_provenance_mut(1);

pub(crate) struct OsThread {
    /// The scheduler's loop, while a green thread runs.
    pub(crate) native: UnsafeCell<Registers>,
    inbox: AtomicPtr<WorkerBase>,
    /// Bumped at each delivery; what the receiver sleeps on.
    deliveries: AtomicU32,
    pub(crate) thread_id: AtomicI32,
}

// SAFETY: `native` is used only by its own OS thread; the rest is atomic.
unsafe impl Sync for OsThread {}
// SAFETY: as above.
unsafe impl Send for OsThread {}

impl OsThread {
    fn new() -> Self {
        OsThread {
            native: UnsafeCell::new(Registers::default()),
            inbox: AtomicPtr::new(ptr::null_mut()),
            deliveries: AtomicU32::new(0),
            thread_id: AtomicI32::new(0),
        }
    }

    /// H2. Async-signal-safe.
    pub(crate) fn give(&self, worker: *const WorkerBase) {
        self.deliver(worker.cast_mut());
    }

    /// Tells the OS thread to end, once it waits at its inbox.
    pub(crate) fn quit(&self) {
        self.deliver(QUIT);
    }

    fn deliver(&self, what: *mut WorkerBase) {
        // ORDERING O1: Release pairs with the Acquire in `receive`: the receiver sees all that the
        // giver did to the worker.
        let before = self.inbox.swap(what, AcqRel);
        debug_assert!(before.is_null(), "an inbox holds one thing at a time");
        self.deliveries.fetch_add(1, Release);
        futex_wake(&self.deliveries, 1);
    }

    /// H3: waits for a worker; null means that the OS thread is to end. Async-signal-safe.
    pub(crate) fn receive(&self) -> *const WorkerBase {
        loop {
            let seen = self.deliveries.load(Acquire);
            // ORDERING O1: Acquire pairs with the Release in `deliver`.
            let what = self.inbox.swap(ptr::null_mut(), AcqRel);
            if what == QUIT {
                return ptr::null();
            }
            if !what.is_null() {
                return what;
            }
            futex_wait_until(&self.deliveries, seen, None);
        }
    }
}

/// All OS threads of a runtime.
pub(crate) struct OsThreads {
    /// Every one that was started; boxed, so that their addresses hold.
    #[allow(clippy::vec_box, reason = "addresses must hold")]
    all: Mutex<Vec<(Box<OsThread>, std::thread::JoinHandle<()>)>>,
    spare: Mutex<Vec<*const OsThread>>,
    started: AtomicUsize,
    /// How many there may be.
    pub(crate) limit: usize,
}

// SAFETY: the pointers in `spare` point into `all`, whose elements are `Sync`.
unsafe impl Sync for OsThreads {}
// SAFETY: as above.
unsafe impl Send for OsThreads {}

impl OsThreads {
    pub(crate) fn new(limit: usize) -> Self {
        OsThreads {
            all: Mutex::new(Vec::new()),
            spare: Mutex::new(Vec::new()),
            started: AtomicUsize::new(0),
            limit,
        }
    }

    /// Starts an OS thread that runs `main` and first waits at its inbox.
    pub(crate) fn start(
        &self,
        name: String,
        main: impl FnOnce(&'static OsThread) + Send + 'static,
    ) -> Result<&'static OsThread, WorkerError> {
        let mut all = self.all.lock().unwrap();
        let os_thread = Box::new(OsThread::new());
        // SAFETY: the box is kept until the OS thread was joined (`join_all`).
        let place: &'static OsThread = unsafe { &*(&raw const *os_thread) };
        let handle = std::thread::Builder::new().name(name).spawn(move || main(place)).map_err(|error| {
            WorkerError::ThreadCreation {
                running: all.len(),
                errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
            }
        })?;
        all.push((os_thread, handle));
        self.started.store(all.len(), Relaxed);
        Ok(place)
    }

    /// A spare OS thread, if one waits.
    pub(crate) fn take_spare(&self) -> Option<&'static OsThread> {
        let place = self.spare.lock().unwrap().pop()?;
        // SAFETY: spares live until `join_all`.
        Some(unsafe { &*place })
    }

    pub(crate) fn add_spare(&self, os_thread: &OsThread) {
        self.spare.lock().unwrap().push(os_thread);
    }

    /// OS threads started so far.
    pub(crate) fn started(&self) -> usize {
        self.started.load(Relaxed)
    }

    /// OS threads that wait for something to do.
    pub(crate) fn spares(&self) -> usize {
        self.spare.lock().unwrap().len()
    }

    /// Ends and joins all. Every one must be spare, or on its way to end.
    pub(crate) fn join_all(&self) {
        for place in self.spare.lock().unwrap().drain(..) {
            // SAFETY: as in `take_spare`.
            unsafe { &*place }.quit();
        }
        let all = std::mem::take(&mut *self.all.lock().unwrap());
        for (_os_thread, handle) in all {
            // A scheduler loop does not panic; if it did, the message is out already.
            let _ = handle.join();
        }
    }
}
