//! Cancellation tokens.
//!
//! A token is a node of a tree; cancelling it cancels its descendants, and being cancelled means
//! that it or an ancestor was. A green thread's own node is its record, so that spawning allocates
//! nothing for it: the node's parent is the spawning thread's record, which the child keeps by a
//! reference. The root is the runtime.
//!
//! A thread that was spawned *under* a token ([`Builder::token`](crate::Builder::token)) has that as its parent: it lies in the
//! cold part of its record, and [`ADOPTED`] in the flag says so. It has no other beside the runtime: with two parents a thread
//! would have as many ways up as there are paths in the graph, twice as many each generation.
//!
//! **Cost.** A thread is born with [`CREDIT`] references to its own record, which it hands to its
//! children without a read-modify-write; children give theirs back in batches (`first_frame`).
//! `is_cancelled` reads one flag a generation.
//!
//! **Ordering.** Cancelling stores with Release, looking loads with Acquire: who sees a cancellation sees what was
//! done before it.
//!
//! **A chain of successors** (each thread spawns the next and ends) would keep every ancestor's
//! record. So ancestors that have ended and that nobody else refers to (no handle, no token, no other child) are passed over, by a
//! thread that first spawns and by one that has ended and is still referred to: nothing can cancel those any more. What they
//! were cancelled for, if they were, their descendant then is. Those stay that others must find: one with words for a reason, and one that was
//! spawned under a token. `protocol::links` has the protocol by which others look along the links meanwhile.
//!
//! **Limits.** A thread that lives on keeps the records of those ancestors that have ended after it first spawned and after their own
//! children, until it ends: never more than were alive at once. Freeing the last of a nest of threads, each spawned under a
//! token of the one before, recurses once a level.

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::cancel::reason::{CancelReason, Code};
use crate::cancel::registry;
use crate::kernel::worker::core::CoreBase;
use crate::wait::clock::{has_passed, now};

use crate::kernel::thread::record::{Above, Cold, ColdBox, Record};
use crate::kernel::worker::lineage::{ADOPTED, Up, climb, look_up, mark};
use crate::kernel::worker::references::release_anywhere;
use crate::wait::host::give_way;
use crate::wait::locals::Locals;
use crate::wait::parking::Parking;

/// More than a record can have by other means than forgetting tokens.
const MOST_REFERENCES: u32 = u32::MAX / 2;

/// Says that what its holder does is no longer wanted.
///
/// Each spawned closure receives its thread's token. Cancelling is a request: the thread looks at
/// [`is_cancelled`](Self::is_cancelled) where it can stop, and returns.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let worker = gvt::spawn(|token| {
///     let mut rounds = 0u64;
///     while !token.is_cancelled() {
///         rounds += 1;
///         gvt::yield_now();
///     }
///     rounds
/// });
/// gvt::sleep_ms(1);
/// worker.token().cancel();
/// assert!(worker.join().unwrap() > 0);
/// # });
/// ```
pub struct CancellationToken {
    node: Node,
}

enum Node {
    /// A thread's record; holds a reference unless it is [`Borrowed`].
    Thread(NonNull<Record>),
    Own(Arc<OwnNode>),
}

pub(super) struct OwnNode {
    code: AtomicU8,
    /// Why, in words; set before `code` says so.
    words: OnceLock<Arc<str>>,
    deadline: Option<Instant>,
    parent: Option<CancellationToken>,
}

impl OwnNode {
    fn code(&self) -> Code {
        // Acquire pairs with the Release in `mark`.
        let code = Code(self.code.load(Acquire));
        match self.deadline {
            Some(deadline) if !code.is_set() && has_passed(deadline) => {
                mark(&self.code, Code::DEADLINE.0);
                Code(self.code.load(Acquire))
            }
            _ => code,
        }
    }
}

impl Drop for OwnNode {
    /// Ancestors that go with this one go one after the other: a tree may be deep.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut token) = parent {
            parent = match &mut token.node {
                Node::Own(node) => Arc::get_mut(node).and_then(|node| node.parent.take()),
                Node::Thread(_) => None,
            };
        }
    }
}

// What is in it is never half done.
impl std::panic::UnwindSafe for CancellationToken {}
impl std::panic::RefUnwindSafe for CancellationToken {}

// SAFETY: a record is `Sync` and kept by the token's reference.
unsafe impl Send for CancellationToken {}
// SAFETY: as above.
unsafe impl Sync for CancellationToken {}

impl CancellationToken {
    /// A token without a parent.
    pub fn new() -> Self {
        Self::own(None, None)
    }

    fn own(parent: Option<CancellationToken>, deadline: Option<Instant>) -> Self {
        let node = OwnNode { code: AtomicU8::new(0), words: OnceLock::new(), deadline, parent };
        CancellationToken { node: Node::Own(Arc::new(node)) }
    }

    /// A token that is cancelled with this one, or alone.
    pub fn child(&self) -> Self {
        Self::own(Some(self.clone()), None)
    }

    /// A [`child`](Self::child) that is also cancelled when `deadline` has come.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// use std::time::Duration;
    /// use gvt::CancelReason;
    /// let token = gvt::current_token().unwrap().with_timeout(Duration::from_millis(2));
    /// assert_eq!(token.check(), Ok(()));
    /// token.cancelled().wait();
    /// assert_eq!(token.check(), Err(CancelReason::DeadlinePassed));
    /// # });
    /// ```
    ///
    /// Context: anywhere. Costs no timer until somebody waits for it.
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self::own(Some(self.clone()), Some(deadline))
    }

    /// [`with_deadline`](Self::with_deadline), so long from now.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self::own(Some(self.clone()), now().checked_add(timeout))
    }

    /// When it will be cancelled at the latest: the earliest deadline that it or an ancestor has.
    ///
    /// Context: anywhere.
    pub fn deadline(&self) -> Option<Instant> {
        let mut earliest = None;
        self.each_ancestor(&mut |step| {
            earliest = earliest.into_iter().chain(step.deadline()).min();
            true
        });
        earliest
    }

    /// Cancels this token and all its descendants: children, and threads spawned by its thread.
    ///
    /// Context: anywhere but in a signal handler; does not block.
    pub fn cancel(&self) {
        self.cancel_as(Code::REQUESTED);
    }

    /// [`cancel`](Self::cancel), and says why: [`reason`](Self::reason) of it and its descendants returns the words.
    ///
    /// Context: anywhere but in a signal handler; allocates.
    pub fn cancel_because(&self, words: impl Into<Arc<str>>) {
        let place = match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => &unsafe { record.as_ref() }.extras().words,
            Node::Own(node) => &node.words,
        };
        // Of two at once one's words stay; whichever then cancels first.
        let _ = place.set(words.into());
        self.cancel_as(Code::BECAUSE);
    }

    fn cancel_as(&self, code: Code) {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => mark(&unsafe { record.as_ref() }.meta.cancelled, code.0),
            Node::Own(node) => {
                // What came first stays the reason, whether or not somebody has looked since: its deadline, if that has passed.
                node.code();
                mark(&node.code, code.0);
            }
        }
        registry::tell(self.address());
    }

    /// Where its node is, as a name for it.
    pub(super) fn address(&self) -> usize {
        match &self.node {
            Node::Thread(record) => record.as_ptr() as usize,
            Node::Own(node) => Arc::as_ptr(node) as usize,
        }
    }

    /// Whether this token or an ancestor was cancelled. A thread's first ancestor is its runtime,
    /// which is cancelled by [`Runtime::shutdown`](crate::Runtime::shutdown).
    ///
    /// Context: anywhere; reads one flag a generation, and the clock for each that has a deadline.
    pub fn is_cancelled(&self) -> bool {
        give_way();
        let mut node = &self.node;
        loop {
            let parent = match node {
                // SAFETY: kept by the token.
                Node::Thread(record) => match look_up(unsafe { record.as_ref() }) {
                    Up::Adopted(adopted) => adopted_parent(adopted),
                    Up::Cancelled => return true,
                    Up::Root => None,
                },
                Node::Own(own) if own.code().is_set() => return true,
                Node::Own(own) => own.parent.as_ref(),
            };
            match parent {
                Some(token) => node = &token.node,
                None => return false,
            }
        }
    }

    /// Why it is cancelled; `None` if it is not. Of several causes the nearest: its own before its parent's.
    ///
    /// ```
    /// use gvt::{CancelReason, CancellationToken};
    /// let token = CancellationToken::new();
    /// let child = token.child();
    /// assert_eq!(child.reason(), None);
    /// token.cancel_because("the client is gone");
    /// assert_eq!(child.reason(), Some(CancelReason::Because("the client is gone".into())));
    /// ```
    ///
    /// Context: anywhere.
    pub fn reason(&self) -> Option<CancelReason> {
        let mut reason = None;
        self.each_ancestor(&mut |step| {
            reason = match step {
                Step::Own(own) => own.code().reason(|| own.words.get().cloned()),
                // With words it stays as long as its descendants, so its cold part is there.
                Step::Thread(record, code) => code.reason(|| record.extras().words.get().cloned()),
                Step::Root(core) => core.cancelled.load(Acquire).then_some(CancelReason::ShutDown),
            };
            reason.is_none()
        });
        reason
    }

    /// `Err` with the reason if it is cancelled: for `?` where a computation can stop.
    ///
    /// # Errors
    ///
    /// As [`reason`](Self::reason).
    ///
    /// Context: anywhere.
    pub fn check(&self) -> Result<(), CancelReason> {
        if !self.is_cancelled() {
            return Ok(());
        }
        Err(self.reason().unwrap_or(CancelReason::Requested))
    }

    /// Calls `f` with each node whose cancellation is this token's, from itself up, until it answers `false`.
    pub(super) fn each_ancestor<'a>(&'a self, f: &mut dyn FnMut(Step<'a>) -> bool) {
        let mut node = &self.node;
        loop {
            let parent = match node {
                Node::Own(own) if !f(Step::Own(own)) => return,
                Node::Own(own) => own.parent.as_ref(),
                Node::Thread(record) => {
                    // SAFETY: kept by the token.
                    let record = unsafe { record.as_ref() };
                    let mut line = Vec::new();
                    let adopted = record.core().changes.steadily(|| {
                        line.clear();
                        climb(record, |record, code| line.push((record, Code(code))))
                    });
                    if !line.into_iter().all(|(record, code)| f(Step::Thread(record, code))) {
                        return;
                    }
                    if !f(Step::Root(record.core())) {
                        return;
                    }
                    adopted.and_then(adopted_parent)
                }
            };
            match parent {
                Some(token) => node = &token.node,
                None => return,
            }
        }
    }

    /// The record, if this is a thread's.
    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => Some(unsafe { record.as_ref() }),
            Node::Own(_) => None,
        }
    }

    /// The token of a thread whose record the caller holds a reference to.
    pub(crate) fn of(record: &Record) -> Self {
        // Relaxed: the caller's own reference keeps the record meanwhile.
        if record.meta.references.fetch_add(1, Relaxed) > MOST_REFERENCES {
            // As `Arc` does: a safe program can get here only by forgetting tokens in a loop.
            std::process::abort();
        }
        CancellationToken { node: Node::Thread(NonNull::from(record)) }
    }
}

/// A node on the way up.
pub(super) enum Step<'a> {
    Own(&'a Arc<OwnNode>),
    /// What it was cancelled for with it. The record may be another thread's by now, but if there are words.
    Thread(&'a Record, Code),
    Root(&'a CoreBase),
}

impl Step<'_> {
    /// A name for it.
    pub(super) fn address(&self) -> usize {
        match self {
            Step::Own(own) => Arc::as_ptr(own) as usize,
            Step::Thread(record, _) => ptr::from_ref::<Record>(record) as usize,
            Step::Root(core) => core_address(core),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Step::Own(own) => own.deadline,
            _ => None,
        }
    }
}

/// What few threads have: their [`Cold`], and what belongs to this floor and those above.
#[repr(C)]
pub(crate) struct Extras {
    cold: Cold,
    /// The parent of its token, if that is not its spawner's.
    token: Option<CancellationToken>,
    /// Why it was cancelled.
    words: OnceLock<Arc<str>>,
    /// The thread's own.
    pub(crate) locals: Locals,
    /// What `unpark` leaves for `park`.
    pub(crate) parking: Parking,
    /// What its waits end with: a list, innermost first. Its own thread's alone.
    pub(super) scopes: AtomicPtr<Scope>,
}

/// A token that waits end with (`run`).
pub(super) struct Scope {
    pub(super) token: *const CancellationToken,
    pub(super) deadline_ns: Option<u64>,
    pub(super) outer: *const Scope,
}

impl Extras {
    /// For a thread with these.
    pub(crate) fn boxed(tag: u64, name: Option<Arc<str>>, token: Option<CancellationToken>) -> ColdBox {
        let fresh = Box::new(Extras {
            cold: Cold { tag, name, above: &ABOVE },
            token,
            words: OnceLock::new(),
            locals: Locals::default(),
            parking: Parking::default(),
            scopes: AtomicPtr::new(ptr::null_mut()),
        });
        // SAFETY: C1: it begins with its `Cold` (`repr(C)`), and `ABOVE` frees it as what it is.
        unsafe { ColdBox::from_raw(Box::into_raw(fresh).cast()) }
    }

    /// # Safety
    ///
    /// **C1**: `cold` is that of a record, which is kept for `'a`, and points to the whole.
    unsafe fn of<'a>(cold: NonNull<Cold>) -> &'a Self {
        // SAFETY: C1; all are made by `boxed`.
        unsafe { cold.cast().as_ref() }
    }

    /// The tokens that the thread's waits end with.
    pub(super) fn each_scope(&self) -> impl Iterator<Item = &Scope> {
        // Relaxed: the thread's own.
        let mut next = self.scopes.load(Relaxed).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: a scope is on its thread's stack, and taken off the list before it goes.
            let scope = unsafe { next.as_ref() }?;
            next = scope.outer;
            Some(scope)
        })
    }
}

/// What the kernel and the waits below call.
static ABOVE: Above = Above {
    // SAFETY: `boxed` made it.
    free: |cold| drop(unsafe { Box::from_raw(cold.cast::<Extras>()) }),
    // SAFETY: the table's own.
    end_locals: |cold| unsafe { Extras::of(cold).locals.end() },
    ends_waits: |cold| {
        // SAFETY: the table's own; a scope's token outlives it.
        unsafe { Extras::of(cold).each_scope().any(|scope| (*scope.token).is_cancelled()) }
    },
    earliest_deadline_ns: |cold| {
        // SAFETY: the table's own.
        unsafe { Extras::of(cold) }.each_scope().filter_map(|scope| scope.deadline_ns).min()
    },
};

impl Record {
    /// What few threads have; makes it if need be. The caller holds a reference or runs the thread.
    ///
    /// Context: may allocate.
    pub(crate) fn extras(&self) -> &Extras {
        // SAFETY: C1: this record's.
        unsafe { Extras::of(self.cold(|| Extras::boxed(0, None, None))) }
    }
}

/// What a thread was spawned under, if that is not its spawner's token.
fn adopted_parent(record: &Record) -> Option<&CancellationToken> {
    let adopted = record.meta.cancelled.load(Acquire) & ADOPTED != 0;
    adopted.then(|| record.extras().token.as_ref()).flatten()
}

/// The name of a runtime's root token.
fn core_address(core: &CoreBase) -> usize {
    ptr::from_ref(core) as usize
}

/// Cancels a runtime's root token.
pub(crate) fn cancel_root(core: &CoreBase) {
    // Release pairs with the Acquire in `look_up`.
    core.cancelled.store(true, Release);
    registry::tell(core_address(core));
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for CancellationToken {
    fn clone(&self) -> Self {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => Self::of(unsafe { record.as_ref() }),
            Node::Own(node) => CancellationToken { node: Node::Own(node.clone()) },
        }
    }
}

impl Drop for CancellationToken {
    fn drop(&mut self) {
        if let Node::Thread(record) = &self.node {
            release_anywhere(*record, 1);
        }
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken")
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// The token that a running thread's closure is lent: no reference of its own.
pub(crate) struct Borrowed(std::mem::ManuallyDrop<CancellationToken>);

impl Borrowed {
    /// # Safety
    ///
    /// **C1**: the record outlives the value.
    pub(crate) unsafe fn new(record: &Record) -> Self {
        Borrowed(std::mem::ManuallyDrop::new(CancellationToken { node: Node::Thread(NonNull::from(record)) }))
    }

    pub(crate) fn get(&self) -> &CancellationToken {
        &self.0
    }
}
