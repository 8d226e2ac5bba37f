//! What a green thread is to others: its id, name, priority and token.

use std::fmt;
use std::sync::atomic::Ordering::*;

use gvt_traits::Priority;

use crate::park;
use crate::sched::record::Record;
use crate::thread::ThreadId;
use crate::token::CancellationToken;

/// A green thread, as [`current`] and [`JoinHandle::thread`](crate::JoinHandle::thread) name it. Does not keep it running.
#[derive(Clone)]
pub struct Thread {
    /// Keeps the record.
    token: CancellationToken,
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

    /// Its id.
    pub fn id(&self) -> ThreadId {
        // Relaxed: written before the record was first handed out.
        ThreadId(self.record().meta.unique_id.load(Relaxed))
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.record().name()
    }

    /// Its priority.
    pub fn priority(&self) -> Priority {
        Priority::from_u8(self.record().meta.priority.load(Relaxed))
    }

    /// Its token, to cancel it by.
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
