//! Cancellation tokens.
//!
//! A token is a node of a tree. It is cancelled if it or an ancestor was cancelled, so cancelling it cancels
//! its descendants. A green thread's node is its record, so spawning allocates nothing for it: the node's
//! parent is the spawning thread's record, to which the child holds a reference. The root is the runtime.
//!
//! A thread that was spawned *under* a token ([`Builder::token`](crate::Builder::token)) has that token as
//! its parent: the token is in the cold part of its record, and [`ADOPTED`] in the flag says so. It has no
//! second parent but the runtime: with two parents the number of paths to the root would double with each
//! generation.
//!
//! **Cost.** A thread starts with [`CREDIT`] references to its own record, which it hands to its children
//! without a read-modify-write; children return theirs in batches (`first_frame`). `is_cancelled` reads one
//! flag for each generation.
//!
//! **Ordering.** Cancelling stores with Release, checking loads with Acquire: a thread that sees a
//! cancellation sees what was done before it.
//!
//! **A chain of successors** (each thread spawns the next and ends) would keep every ancestor's record. So a
//! thread that spawns for the first time, and an ended thread that is still referred to, pass over ancestors
//! that have ended and that nothing else refers to (no handle, token or other child): nothing can cancel
//! those. If one was cancelled, the descendant takes over its cancellation. Ancestors that others must find
//! stay: those with words for a reason, and those spawned under a token. `protocol::links` has the protocol
//! by which others walk the links meanwhile.
//!
//! **Limits.** A thread keeps, until it ends, the records of ancestors that end after it first spawned and
//! after their own children: never more than were alive at once. Freeing the last of a chain of threads, each
//! spawned under a token of the one before, recurses once for each level.

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

/// More than a record can have unless tokens are forgotten in a loop.
const MOST_REFERENCES: u32 = u32::MAX / 2;

/// A request to stop, which its holder checks or waits for.
///
/// Each spawned closure receives its thread's token. Cancelling is a request: the thread checks
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
    /// Drops ancestors that only this node keeps one after the other, without recursion: a tree may be deep.
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

// A panic leaves its fields consistent.
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

    /// A token that is cancelled when this one is, or alone.
    pub fn child(&self) -> Self {
        Self::own(Some(self.clone()), None)
    }

    /// A [`child`](Self::child) that is also cancelled at `deadline`.
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
    /// Context: anywhere. Needs no timer until a thread waits for it.
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self::own(Some(self.clone()), Some(deadline))
    }

    /// [`with_deadline`](Self::with_deadline), `timeout` from now.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self::own(Some(self.clone()), now().checked_add(timeout))
    }

    /// The earliest deadline of it and its ancestors.
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

    /// [`cancel`](Self::cancel) with words, which [`reason`](Self::reason) of it and its descendants returns.
    ///
    /// Context: anywhere but in a signal handler; allocates.
    pub fn cancel_because(&self, words: impl Into<Arc<str>>) {
        let place = match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => &unsafe { record.as_ref() }.extras().words,
            Node::Own(node) => &node.words,
        };
        // Of two calls at once, the words of one stay, whichever cancels first.
        let _ = place.set(words.into());
        self.cancel_as(Code::BECAUSE);
    }

    fn cancel_as(&self, code: Code) {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => mark(&unsafe { record.as_ref() }.meta.cancelled, code.0),
            Node::Own(node) => {
                // The first cause stays the reason: a deadline that has passed, also if no thread has checked
                // since.
                node.code();
                mark(&node.code, code.0);
            }
        }
        registry::tell(self.address());
    }

    /// The address of its node, as a key.
    pub(super) fn address(&self) -> usize {
        match &self.node {
            Node::Thread(record) => record.as_ptr() as usize,
            Node::Own(node) => Arc::as_ptr(node) as usize,
        }
    }

    /// Whether this token or an ancestor was cancelled. The root of all threads' tokens is the runtime,
    /// which is cancelled by [`Runtime::shutdown`](crate::Runtime::shutdown).
    ///
    /// Context: anywhere; reads one flag for each generation, and the clock for each deadline.
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

    /// Why it is cancelled; `None` if it is not. Of several causes the nearest counts: its own before its
    /// parent's.
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
                // A record with words stays as long as its descendants, so its cold part is there.
                Step::Thread(record, code) => code.reason(|| record.extras().words.get().cloned()),
                Step::Root(core) => core.cancelled.load(Acquire).then_some(CancelReason::ShutDown),
            };
            reason.is_none()
        });
        reason
    }

    /// `Err` with the reason if it is cancelled, for `?` where a computation can stop.
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

    /// Calls `f` with this token's node and each ancestor, upwards, until it returns `false`.
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

    /// The record, if this is a thread's token.
    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => Some(unsafe { record.as_ref() }),
            Node::Own(_) => None,
        }
    }

    /// The token of a thread; the caller holds a reference to its record.
    pub(crate) fn of(record: &Record) -> Self {
        // Relaxed: the caller's reference keeps the record.
        if record.meta.references.fetch_add(1, Relaxed) > MOST_REFERENCES {
            // As `Arc` does: a safe program gets here only by forgetting tokens in a loop.
            std::process::abort();
        }
        CancellationToken { node: Node::Thread(NonNull::from(record)) }
    }
}

/// A node on the way up.
pub(super) enum Step<'a> {
    Own(&'a Arc<OwnNode>),
    /// A thread's record and the code of its cancellation. The record may be another thread's by now, unless
    /// it has words.
    Thread(&'a Record, Code),
    Root(&'a CoreBase),
}

impl Step<'_> {
    /// Its address, as a key.
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

/// What few threads need: their [`Cold`], and the fields of this floor and those above.
#[repr(C)]
pub(crate) struct Extras {
    cold: Cold,
    /// The parent of the thread's token, if that is not its spawner's token.
    token: Option<CancellationToken>,
    /// Why the thread was cancelled.
    words: OnceLock<Arc<str>>,
    /// The thread's `gvt_local!` values.
    pub(crate) locals: Locals,
    /// What `unpark` leaves for `park`.
    pub(crate) parking: Parking,
    /// The tokens that its waits end with: a list, innermost first. Only the thread itself uses it.
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
        // SAFETY: C1: it begins with its `Cold` (`repr(C)`), and `ABOVE` frees it as an `Extras`.
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
            // SAFETY: a scope is on its thread's stack, and is removed from the list before its frame ends.
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
    /// The record's extras, made at the first call. The caller holds a reference or runs the thread.
    ///
    /// Context: may allocate.
    pub(crate) fn extras(&self) -> &Extras {
        // SAFETY: C1: this record's.
        unsafe { Extras::of(self.cold(|| Extras::boxed(0, None, None))) }
    }
}

/// The token that a thread was spawned under, if that is not its spawner's.
fn adopted_parent(record: &Record) -> Option<&CancellationToken> {
    let adopted = record.meta.cancelled.load(Acquire) & ADOPTED != 0;
    adopted.then(|| record.extras().token.as_ref()).flatten()
}

/// The key of a runtime's root token.
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

/// The token that a running thread's closure borrows: it holds no reference.
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
