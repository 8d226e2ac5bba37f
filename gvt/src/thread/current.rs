//! The running thread's id, name, priority and token, and the handle that has them, [`Thread`].

use std::fmt;
use std::sync::atomic::Ordering::*;

use gvt_traits::Priority;

use crate::cancel::token::CancellationToken;
use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::section::{self, give_way};
use crate::kernel::worker::tls;
use crate::wait::park;

/// A handle to a green thread, from [`current`] or [`JoinHandle::thread`](crate::JoinHandle::thread).
#[derive(Clone)]
pub struct Thread {
    /// Keeps the record.
    token: CancellationToken,
}

/// The running green thread; `None` outside a runtime.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let thread = gvt::Builder::new().name("server").spawn(|_| gvt::current().unwrap())?;
/// let id = thread.id();
/// let server = thread.join().unwrap();
/// assert_eq!((server.id(), server.name()), (id, Some("server")));
/// # Ok::<(), gvt::SchedError>(()) }).unwrap();
/// ```
///
/// Context: anywhere.
pub fn current() -> Option<Thread> {
    park::current().map(Thread::of)
}

impl Thread {
    /// The caller holds a reference to the record, or runs the thread.
    pub(crate) fn of(record: &Record) -> Self {
        Thread { token: CancellationToken::of(record) }
    }

    pub(crate) fn record(&self) -> &Record {
        self.token.record().expect("made from a record")
    }

    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        // Relaxed: written before the record was first handed out.
        ThreadId(self.record().meta.unique_id.load(Relaxed))
    }

    /// The thread's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.record().name()
    }

    /// The thread's priority.
    pub fn priority(&self) -> Priority {
        Priority::from_u8(self.record().meta.priority.load(Relaxed))
    }

    /// The thread's token, to cancel it with.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl PartialEq for Thread {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Runs `f`, which may block in the kernel for long, without blocking other green threads: hands off the
/// worker before `f` and takes one after it.
///
/// With the preemptor [`Sigurg`](crate::Sigurg) neither soundness nor progress needs it: a thread that is
/// blocked in the kernel loses its worker after about a slice. It saves that slice.
///
/// Outside a runtime it runs `f` and does nothing else. At the bound on OS threads `f` blocks its worker.
///
/// Context: a green thread, or an OS thread. `f` runs on one OS thread; this crate's functions work in it as
/// usual.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    give_way();
    crate::kernel::sched::detach::blocking(f)
}

/// The running green thread's id; `None` outside a runtime.
///
/// Context: anywhere.
pub fn current_id() -> Option<ThreadId> {
    park::current().map(|record| ThreadId(record.meta.unique_id.load(Relaxed)))
}

/// The running green thread's name; `None` if it has none, or outside a runtime.
///
/// Context: anywhere.
pub fn current_name() -> Option<String> {
    park::current().and_then(Record::name).map(str::to_owned)
}

/// The running green thread's priority; `None` outside a runtime.
///
/// Context: anywhere.
pub fn current_priority() -> Option<Priority> {
    park::current().map(|record| Priority::from_u8(record.meta.priority.load(Relaxed)))
}

/// The running green thread's token; `None` outside a runtime.
///
/// Context: anywhere.
pub fn current_token() -> Option<CancellationToken> {
    park::current().map(CancellationToken::of)
}

/// Whether the caller is a green thread.
///
/// Context: anywhere.
pub fn is_in_gvthread() -> bool {
    park::current().is_some()
}

/// The worker that the running green thread is on; `None` outside a runtime.
///
/// Context: anywhere. The thread may be on another worker by the time the value is read.
pub fn current_worker() -> Option<usize> {
    give_way();
    let _section = section::Section::new();
    // SAFETY: a carried worker is alive.
    unsafe { tls::worker().as_ref() }.map(|worker| worker.index)
}
