//! Cancellation tokens.
//!
//! A token is a node of a tree; cancelling it cancels its descendants, and being cancelled means
//! that it or an ancestor was. A green thread's own node is its record, so that spawning allocates
//! nothing for it: the node's parent is the spawning thread's record, which the child keeps by a
//! reference. The root is the runtime.
//!
//! **Cost.** A thread is born with [`CREDIT`] references to its own record, which it hands to its
//! children without a read-modify-write; children give theirs back in batches (`sched::root`).
//! `is_cancelled` reads one flag a generation.
//!
//! **Ordering.** Cancelling stores with Release, looking loads with Acquire: who sees a cancellation sees what was
//! done before it.
//!
//! **A chain of successors** (each thread spawns the next and ends) would keep every ancestor's
//! record. So a thread's first spawn passes over ancestors that have ended and that nobody else refers to
//! (no handle, no token, no other child): nothing can cancel those any more. Only the first: later, children
//! may be looking along the link.
//!
//! **Hazard.** A token of the thread itself looks along its link too, and its handle's holder may make one at any
//! time. **Protocol.** Thread: **C1** raises SKIPPING, **C2** passes over its ancestors only if all references are its
//! own, **C3** lowers SKIPPING. Maker of a token: **C4** adds its reference, **C5** waits while SKIPPING is up. C1 and C4
//! are `SeqCst` exchanges, C2's and C5's loads come behind them: one side sees the other.
//!
//! **Limits.** A thread whose token is held by somebody when it first spawns keeps its parent's record until the thread's own
//! goes.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use gvt_traits::{GvtId, GvtState};

use crate::sched::local;
use crate::sched::record::{Record, SKIPPING};
use crate::sched::root;

/// References to its own record that a thread is born with, for its children.
pub(crate) const CREDIT: u32 = 64;
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

struct OwnNode {
    cancelled: AtomicBool,
    parent: Option<CancellationToken>,
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

// SAFETY: a record is `Sync` and kept by the token's reference.
unsafe impl Send for CancellationToken {}
// SAFETY: as above.
unsafe impl Sync for CancellationToken {}

impl CancellationToken {
    /// A token without a parent.
    pub fn new() -> Self {
        Self::own(None)
    }

    fn own(parent: Option<CancellationToken>) -> Self {
        CancellationToken { node: Node::Own(Arc::new(OwnNode { cancelled: AtomicBool::new(false), parent })) }
    }

    /// A token that is cancelled with this one, or alone.
    pub fn child(&self) -> Self {
        Self::own(Some(self.clone()))
    }

    /// Cancels this token and all its descendants: children, and threads spawned by its thread.
    ///
    /// Context: anywhere but in a signal handler; does not block.
    pub fn cancel(&self) {
        // Release pairs with the Acquire in `is_cancelled`: what was done before is seen by who sees
        // the cancellation.
        match &self.node {
            // SAFETY: kept by the token.
            Node::Thread(record) => unsafe { record.as_ref() }.meta.cancelled.store(1, Release),
            Node::Own(node) => node.cancelled.store(true, Release),
        }
    }

    /// Whether this token or an ancestor was cancelled. A thread's first ancestor is its runtime,
    /// which is cancelled by [`Runtime::shutdown`](crate::Runtime::shutdown).
    ///
    /// Context: anywhere; reads one flag a generation.
    pub fn is_cancelled(&self) -> bool {
        let mut token = self;
        loop {
            match &token.node {
                // SAFETY: kept by the token.
                Node::Thread(record) => return is_thread_cancelled(unsafe { record.as_ref() }),
                Node::Own(node) => {
                    if node.cancelled.load(Acquire) {
                        return true;
                    }
                    match &node.parent {
                        Some(parent) => token = parent,
                        None => return false,
                    }
                }
            }
        }
    }

    /// The token of a thread whose record the caller holds a reference to.
    pub(crate) fn of(record: &Record) -> Self {
        // C4. Nothing else is ordered by it: the caller's own reference keeps the record meanwhile.
        if record.meta.references.fetch_add(1, SeqCst) > MOST_REFERENCES {
            // As `Arc` does: a safe program can get here only by forgetting tokens in a loop.
            std::process::abort();
        }
        // C5. A few instructions of the thread's, which may have been descheduled.
        while record.meta.flags.load(SeqCst) & SKIPPING != 0 {
            std::thread::yield_now();
        }
        CancellationToken { node: Node::Thread(NonNull::from(record)) }
    }
}

fn is_thread_cancelled(record: &Record) -> bool {
    let table = &record.core().table;
    let mut record = record;
    loop {
        if record.meta.cancelled.load(Acquire) != 0 {
            return true;
        }
        let parent = GvtId::new(record.meta.parent_id.load(Relaxed));
        if !parent.is_some() {
            return record.core().cancelled.load(Acquire);
        }
        record = table.get(parent);
    }
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
    let _section = local::Section::new();
    // SAFETY: a worker that is carried is alive.
    let worker = unsafe { local::worker().as_ref() };
    // SAFETY: the references are the caller's.
    unsafe { root::release(record.as_ref(), count, worker) };
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
        // The first child: nobody looks along this thread's link yet, but holders of its token.
        let link = parent.meta.parent_id.load(Relaxed);
        if link != u32::MAX && is_done(parent.core().table.get(GvtId::new(link))) {
            // SAFETY: C1.
            unsafe { skip_ended_ancestors(parent) };
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

/// Whether a thread has ended and only one child refers to its record.
fn is_done(record: &Record) -> bool {
    // ORDERING O1: Acquire pairs with the Release of those that let go: if one reference is left, all that
    // they did is seen, the end of the thread included.
    record.meta.references.load(Acquire) == 1
        && matches!(record.state(), GvtState::Finished | GvtState::Cancelled)
}

/// Passes over ancestors that have ended and that nobody else refers to.
///
/// # Safety
///
/// C1 of [`take_parent`]; the thread has no children.
#[cold]
unsafe fn skip_ended_ancestors(thread: &Record) {
    let table = &thread.core().table;
    // C1.
    thread.meta.flags.fetch_or(SKIPPING, SeqCst);
    // C2.
    while thread.meta.references.load(SeqCst) == 1 + CREDIT {
        let link = GvtId::new(thread.meta.parent_id.load(Relaxed));
        if !link.is_some() || !is_done(table.get(link)) {
            break;
        }
        let parent = table.get(link);
        if parent.meta.cancelled.load(Acquire) != 0 {
            // For ever, and with it this thread.
            thread.meta.cancelled.store(1, Release);
        }
        // The thread takes its parent's reference over.
        thread.meta.parent_id.store(parent.meta.parent_id.swap(u32::MAX, Relaxed), Relaxed);
        release(NonNull::from(parent), 1);
    }
    // C3. Release: who then looks along the link sees the new one.
    thread.meta.flags.fetch_and(!SKIPPING, Release);
}
