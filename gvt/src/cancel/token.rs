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
use std::sync::atomic::{AtomicU8, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gvt_traits::{GvtId, GvtState};

pub use crate::cancel::cancelled::Cancelled;
pub use crate::cancel::reason::CancelReason;
pub use crate::cancel::run::cancellable;
pub(crate) use crate::cancel::run::{
    Scopes, earliest_deadline_ns, is_pending, unwind_cancelled, unwind_if_cancelled,
};

use crate::cancel::cancelled;
use crate::cancel::reason::Code;
use crate::kernel::worker::core::{CoreBase, WorkerBase};
use crate::wait::clock::{has_passed, now};

use crate::kernel::lifecycle::close;
use crate::kernel::sched::first_frame;
use crate::kernel::sched::first_frame::Freed;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::section;
use crate::wait::host::give_way;

/// References to its own record that a thread is born with, for its children.
pub(crate) const CREDIT: u32 = 64;
/// In `Metadata::cancelled`: the parent of the thread's token is not its spawner's. The rest of the byte is a [`Code`].
const ADOPTED: u8 = 0x80;
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
        // Acquire pairs with the Release in `set`.
        let code = Code(self.code.load(Acquire));
        match self.deadline {
            Some(deadline) if !code.is_set() && has_passed(deadline) => {
                set(&self.code, Code::DEADLINE);
                Code(self.code.load(Acquire))
            }
            _ => code,
        }
    }
}

/// Cancels a node unless it is; the first to do so says why. What else is in the byte stays.
fn set(flag: &AtomicU8, code: Code) {
    // Release pairs with the Acquire of those that look: what was done before is seen by who sees the cancellation.
    let _ = flag.fetch_update(Release, Relaxed, |seen| (seen & !ADOPTED == 0).then_some(seen | code.0));
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
            Node::Thread(record) => &unsafe { record.as_ref() }.cold().words,
            Node::Own(node) => &node.words,
        };
        // Of two at once one's words stay; whichever then cancels first.
        let _ = place.set(words.into());
        self.cancel_as(Code::BECAUSE);
    }

    fn cancel_as(&self, code: Code) {
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => set(&unsafe { record.as_ref() }.meta.cancelled, code),
            Node::Own(node) => {
                // What came first stays the reason, whether or not somebody has looked since: its deadline, if that has passed.
                node.code();
                set(&node.code, code);
            }
        }
        cancelled::tell(self.address());
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
                Step::Thread(record, code) => code.reason(|| record.cold().words.get().cloned()),
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

    /// The cancellation as something to wait for: in [`select!`](crate::select), by
    /// [`wait`](Cancelled::wait), or as a future, with any executor.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let (requests, incoming) = gvt::channel::<u32>(1);
    /// let server = gvt::spawn(move |token| {
    ///     let (cancelled, mut served) = (token.cancelled(), 0);
    ///     loop {
    ///         gvt::select! {
    ///             recv(incoming) -> _request => served += 1,
    ///             recv(cancelled) -> _ => return served,
    ///         }
    ///     }
    /// });
    /// requests.send(1).unwrap();
    /// # gvt::sleep_ms(1);
    /// server.token().cancel();
    /// assert_eq!(server.join().unwrap(), 1);
    /// # });
    /// ```
    ///
    /// Making one costs a look-up a generation and two allocations: make it once, before the loop.
    ///
    /// Context: anywhere but in a signal handler.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(self)
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
                        climb(record, |record, code| line.push((record, code)))
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

/// What is above a line of threads.
enum Up<'a> {
    /// One of them is cancelled, or the runtime is.
    Cancelled,
    /// The last of them was spawned under a token. It stays as long as its descendants do.
    Adopted(&'a Record),
    /// The runtime, and that is not cancelled.
    Root,
}

#[inline]
fn look_up(record: &Record) -> Up<'_> {
    record.core().changes.steadily(|| look_along(record))
}

/// L5 of `links`.
#[inline]
fn look_along(record: &Record) -> Up<'_> {
    let mut record = record;
    loop {
        // Acquire pairs with the Release in `set`.
        let flag = record.meta.cancelled.load(Acquire);
        if flag != 0 {
            let cancelled = flag != ADOPTED || record.core().cancelled.load(Acquire);
            return if cancelled { Up::Cancelled } else { Up::Adopted(record) };
        }
        match parent_of(record) {
            Some(parent) => record = parent,
            None if record.core().cancelled.load(Acquire) => return Up::Cancelled,
            None => return Up::Root,
        }
    }
}

/// L5 of `links`, all the way up; the last of the line if that was spawned under a token.
fn climb<'a>(record: &'a Record, mut visit: impl FnMut(&'a Record, Code)) -> Option<&'a Record> {
    let mut record = record;
    loop {
        let flag = record.meta.cancelled.load(Acquire);
        visit(record, Code(flag & !ADOPTED));
        if flag & ADOPTED != 0 {
            return Some(record);
        }
        record = parent_of(record)?;
    }
}

#[inline]
fn parent_of(record: &Record) -> Option<&Record> {
    // Acquire: O2 of `links`.
    let parent = GvtId::new(record.meta.parent_id.load(Acquire));
    parent.is_some().then(|| record.core().table.get(parent))
}

/// What a thread was spawned under, if that is not its spawner's token.
fn adopted_parent(record: &Record) -> Option<&CancellationToken> {
    let adopted = record.meta.cancelled.load(Acquire) & ADOPTED != 0;
    adopted.then(|| record.cold().token.as_ref()).flatten()
}

/// Notes that a thread which is about to be spawned has its token's parent in its cold part.
pub(crate) fn adopt(record: &Record) {
    // ORDERING: Release: as the stores in `spawn_on`.
    record.meta.cancelled.store(ADOPTED, Release);
}

/// The name of a runtime's root token.
fn core_address(core: &CoreBase) -> usize {
    ptr::from_ref(core) as usize
}

/// Cancels a runtime's root token.
pub(crate) fn cancel_root(core: &CoreBase) {
    // Release pairs with the Acquire in `look_up`.
    core.cancelled.store(true, Release);
    cancelled::tell(core_address(core));
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
            release(*record, 1);
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

/// Lets go of the caller's references to a record, from wherever the caller is.
pub(crate) fn release(record: NonNull<Record>, count: u32) {
    // SAFETY: the references are the caller's.
    let freed = entered(|worker| unsafe { first_frame::release_one(record.as_ref(), count, worker) });
    clear_away(freed);
}

/// Lets go of a thread that has ended, from wherever the caller is, who had its handle.
pub(crate) fn release_own(record: NonNull<Record>) {
    // SAFETY: it has ended, and the caller had its handle.
    let freed = entered(|worker| unsafe { first_frame::release_own(record.as_ref(), worker) });
    clear_away(freed);
}

/// Calls `f` inside the runtime, with what this OS thread carries.
#[inline]
fn entered(f: impl FnOnce(Option<&WorkerBase>) -> Option<Freed>) -> Option<Freed> {
    let section = section::Section::new();
    f(section.worker())
}

/// Drops what freed records have left, outside the runtime: it may be users' code.
#[inline]
fn clear_away(freed: Option<Freed>) {
    let mut freed = freed;
    while let Some(Freed { cold, owed, core }) = freed {
        drop(cold);
        if let Some(core) = core {
            close::bury(core);
        }
        freed = owed.and_then(|(record, count)| {
            // SAFETY: they are owed.
            entered(|worker| unsafe { first_frame::release_one(record.as_ref(), count, worker) })
        });
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

/// Makes the running thread `parent` the parent of a thread that it spawns: takes a reference for it.
/// Returns the place to note as the child's parent.
///
/// # Safety
///
/// **C1**: called by the thread `parent` itself, on a worker, inside the runtime.
#[inline]
pub(crate) unsafe fn take_parent(parent: &Record) -> GvtId {
    // Relaxed: the credit is the thread's own.
    let credit = parent.meta.children_credit.load(Relaxed);
    if credit == CREDIT {
        // The first child.
        let link = parent.meta.parent_id.load(Relaxed);
        if link != u32::MAX && is_done(parent.core().table.get(GvtId::new(link))) {
            pass_over_ancestors(parent);
        }
    } else if credit == 0 {
        // Relaxed: the thread's own reference keeps the record meanwhile. Never `CREDIT` again, which
        // means the first child.
        parent.meta.references.fetch_add(CREDIT, Relaxed);
        parent.meta.children_credit.store(CREDIT - 1, Relaxed);
        return parent.meta.id();
    }
    parent.meta.children_credit.store(credit - 1, Relaxed);
    parent.meta.id()
}

/// Whether a thread has ended and only one child refers to its record, so that it may be passed over.
fn is_done(record: &Record) -> bool {
    // ORDERING O1: Acquire pairs with the Release of those that let go: if one reference is left, all that
    // they did is seen, the end of the thread and its own passing over included.
    record.meta.references.load(Acquire) == 1
        && matches!(record.state(), GvtState::Finished | GvtState::Cancelled)
        // Whoever has the token that it was spawned under may cancel that; and words are not copied.
        && matches!(Code(record.meta.cancelled.load(Relaxed)), Code::NONE | Code::REQUESTED)
}

/// Passes over ancestors that have ended and that nobody else refers to.
///
/// Context: the thread itself, when it spawns; or whoever lets go of it after its end, before that.
#[cold]
pub(crate) fn pass_over_ancestors(thread: &Record) {
    let core = thread.core();
    loop {
        // Relaxed: only the caller changes it.
        let link = GvtId::new(thread.meta.parent_id.load(Relaxed));
        if !link.is_some() || !is_done(core.table.get(link)) || !core.changes.may_pass() {
            return;
        }
        let parent = core.table.get(link);
        let code = Code(parent.meta.cancelled.load(Acquire));
        if code.is_set() && adopted_parent(thread).is_none() {
            // For ever, and with it this thread.
            set(&thread.meta.cancelled, code);
        }
        // The thread takes its parent's reference over. Relaxed: nobody else changes that any more.
        let above = parent.meta.parent_id.load(Relaxed);
        // ORDERING O2 of `links`: Release: who sees the new link sees what is copied.
        core.changes.pass(|| thread.meta.parent_id.store(above, Release));
        // L3. ORDERING: as above.
        parent.meta.parent_id.store(u32::MAX, Release);
        release(NonNull::from(parent), 1);
    }
}
