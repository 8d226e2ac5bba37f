//! All OS threads of a runtime, and the spare ones.
//!
//! **Hazard.** The monitor must never wait for a lock whose holder may wait for a thread that only the
//! monitor can make run, such as one that was preempted in the middle of `malloc`.
//!
//! **Protocol.** The monitor uses only `spare` (its lock is held for a few instructions, never over an
//! allocation: its room is reserved at the start) and `places` (no lock). `all` is locked while an OS thread
//! is being created, and the monitor does not use it. Every OS thread that takes a worker checks that there
//! are spares for the monitor ([`Pool::missing`]) and asks the `spare_starter` if not; so does the monitor
//! when it finds none. One is wanted; more, if the monitor needed more lately ([`Pool::want_more`]).
//!
//! A spare ends when it has been idle for ten seconds, except the last one.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt_traits::{MemoryError, WorkerError};

use crate::kernel::thread::inner::InnerLock;
use crate::kernel::worker::os_thread::{OsThread, Received};
use crate::os::monotonic_ns;

/// Idle time after which a spare OS thread ends.
const SPARE_PATIENCE: Duration = Duration::from_secs(10);
/// Spares to keep beyond one a worker, where preempted threads keep hundreds of OS threads.
const MANY: usize = 16;
/// Stack of an OS thread of the runtime. The worker loop runs on it, and destructors of threads that could
/// not be given a stack.
const NATIVE_STACK: usize = 256 << 10;

pub(crate) struct Pool<W> {
    /// Every OS thread that was started and whose end was not seen yet.
    all: InnerLock<Vec<Option<std::thread::JoinHandle<()>>>>,
    /// By the same index; an entry is reused when its OS thread has ended.
    places: Box<[AtomicPtr<OsThread<W>>]>,
    /// Number of entries that were ever used.
    used: AtomicUsize,
    spare: InnerLock<Vec<*const OsThread<W>>>,
    /// The runtime ends: no OS thread starts, and one that becomes spare ends. Written under `spare`'s lock.
    closed: AtomicBool,
    /// OS threads that exist.
    running: AtomicUsize,
    /// OS threads that were started and do not run yet.
    coming: AtomicUsize,
    /// Spares to keep ready: one, until a search finds none.
    wanted: AtomicUsize,
}

// SAFETY: `spare` points to entries of `places`, which are `Sync`.
unsafe impl<W> Sync for Pool<W> {}
// SAFETY: `spare` points to entries of `places`, which are `Sync`.
unsafe impl<W> Send for Pool<W> {}

impl<W: 'static> Pool<W> {
    /// A pool of at most `limit` OS threads.
    pub(crate) fn new(limit: usize) -> Result<Self, MemoryError> {
        let (mut places, mut spare) = (Vec::new(), Vec::new());
        if places.try_reserve_exact(limit).and_then(|()| spare.try_reserve_exact(limit)).is_err() {
            return Err(MemoryError::Reserve {
                what: "the list of OS threads (`max_os_threads`)",
                bytes: limit * (size_of::<AtomicPtr<OsThread<W>>>() + size_of::<*const OsThread<W>>()),
                errno: libc::ENOMEM,
            });
        }
        places.resize_with(limit, || AtomicPtr::new(ptr::null_mut()));
        Ok(Pool {
            all: InnerLock::new(Vec::new()),
            places: places.into(),
            used: AtomicUsize::new(0),
            spare: InnerLock::new(spare),
            closed: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            wanted: AtomicUsize::new(1),
        })
    }

    /// Starts an OS thread that runs `main` and first waits at its inbox.
    pub(crate) fn start(
        &self,
        main: impl FnOnce(&'static OsThread<W>) + Send + 'static,
    ) -> Result<&'static OsThread<W>, WorkerError> {
        let mut all = self.all.lock();
        // ORDERING O2: `join_all` closes before it takes this lock, and joins every OS thread that was
        // started before.
        if self.closed.load(Acquire) {
            return Err(WorkerError::ThreadCreation { running: self.running(), errno: libc::ECANCELED });
        }
        let index = match all.iter().position(|handle| handle.as_ref().is_none_or(|h| h.is_finished())) {
            Some(index) => index,
            None if all.len() < self.places.len() => {
                all.push(None);
                all.len() - 1
            }
            None => {
                return Err(WorkerError::ThreadCreation { running: self.running(), errno: libc::EAGAIN });
            }
        };
        if let Some(ended) = all[index].take() {
            let _ = ended.join();
        }
        let before = self.places[index].load(Relaxed);
        let place = if before.is_null() { Box::into_raw(Box::new(OsThread::new())) } else { before };
        // SAFETY: an entry is freed with the pool.
        let place: &'static OsThread<W> = unsafe { &*place };
        place.reset();
        // ORDERING O1: Release pairs with the Acquire in `each`.
        self.places[index].store(ptr::from_ref(place).cast_mut(), Release);
        self.used.fetch_max(all.len(), Release);
        // Relaxed: a gauge for the monitor.
        self.coming.fetch_add(1, Relaxed);
        let handle = std::thread::Builder::new()
            .name(format!("gvt-{index}"))
            .stack_size(NATIVE_STACK)
            .spawn(move || main(place))
            .map_err(|error| {
                self.has_come();
                WorkerError::ThreadCreation {
                    running: self.running(),
                    errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
                }
            })?;
        all[index] = Some(handle);
        self.running.fetch_add(1, Relaxed);
        Ok(place)
    }

    /// A started OS thread runs, or will not.
    pub(crate) fn has_come(&self) {
        self.coming.fetch_sub(1, Relaxed);
    }

    /// Whether a started OS thread does not run yet.
    pub(crate) fn is_any_coming(&self) -> bool {
        self.coming.load(Relaxed) != 0
    }

    /// A spare OS thread, if one waits.
    pub(crate) fn take_spare(&self) -> Option<&'static OsThread<W>> {
        let place = self.spare.lock().pop()?;
        // SAFETY: entries live as long as the pool, and the pool as long as its OS threads.
        Some(unsafe { &*place })
    }

    pub(crate) fn add_spare(&self, os_thread: &OsThread<W>) {
        let mut spare = self.spare.lock();
        if self.closed.load(Relaxed) {
            os_thread.quit();
        } else {
            spare.push(os_thread);
        }
    }

    /// Number of spares that are wanted and missing, as far as the limit allows.
    pub(crate) fn missing(&self) -> usize {
        // Relaxed: a target.
        let wanted = self.wanted.load(Relaxed);
        wanted.saturating_sub(self.spares()).min(self.places.len().saturating_sub(self.running()))
    }

    /// There was no spare: doubles the number to keep, up to the number of workers, or, up to [`MANY`], to a
    /// quarter of all OS threads.
    pub(crate) fn want_more(&self, workers: usize) {
        // Relaxed: only the monitor raises it.
        let wanted = self.wanted.load(Relaxed);
        self.wanted.store((wanted * 2).min(workers.max((self.running() / 4).min(MANY))), Relaxed);
    }

    /// An OS thread without a worker is about to end.
    pub(crate) fn retire(&self) {
        self.running.fetch_sub(1, Relaxed);
    }

    /// Waits at the inbox of an OS thread without a worker.
    pub(crate) fn wait_as_spare(&self, os_thread: &OsThread<W>) -> Received<W> {
        let mut deadline = Some(monotonic_ns() + SPARE_PATIENCE.as_nanos() as u64);
        loop {
            match os_thread.receive(deadline) {
                Received::Late => {
                    let mut spare = self.spare.lock();
                    match spare.iter().position(|&other| ptr::eq(other, os_thread)) {
                        Some(place) if spare.len() > 1 => {
                            spare.remove(place);
                            self.running.fetch_sub(1, Relaxed);
                            // Spares are idle, so fewer are needed.
                            self.wanted.store(1, Relaxed);
                            return Received::Quit;
                        }
                        // The last spare stays; and one that is not in the pool is about to get a worker.
                        _ => deadline = None,
                    }
                }
                received => return received,
            }
        }
    }

    /// Every OS thread, ended ones included. Takes no lock.
    pub(crate) fn each(&self) -> impl DoubleEndedIterator<Item = &OsThread<W>> + Clone {
        // ORDERING O1: Acquire pairs with the Release in `start`.
        let used = self.used.load(Acquire);
        // SAFETY: null, or an entry that lives as long as the pool.
        self.places[..used].iter().filter_map(|place| unsafe { place.load(Acquire).as_ref() })
    }

    /// OS threads that exist.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    /// OS threads that wait for a worker.
    pub(crate) fn spares(&self) -> usize {
        self.spare.lock().len()
    }

    /// Ends and joins all. Each must be spare, or about to end.
    pub(crate) fn join_all(&self) {
        {
            let mut spare = self.spare.lock();
            // ORDERING O2: Release pairs with the Acquire in `start`.
            self.closed.store(true, Release);
            for place in spare.drain(..) {
                // SAFETY: entries live as long as the pool.
                unsafe { &*place }.quit();
            }
        }
        let all = std::mem::take(&mut *self.all.lock());
        for handle in all.into_iter().flatten() {
            // A worker loop does not panic; if it does, the message is printed already.
            let _ = handle.join();
        }
    }
}

impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        for place in &self.places {
            let place = place.load(Relaxed);
            if !place.is_null() {
                // SAFETY: from `Box::into_raw`; its OS thread has been joined.
                drop(unsafe { Box::from_raw(place) });
            }
        }
    }
}
