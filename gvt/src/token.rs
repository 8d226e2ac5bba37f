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
//! record. So a thread's first spawn passes over a parent that has ended and that nobody holds a
//! token of: nothing can cancel that one any more. Only the first: later, children may be looking
//! along the link.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use gvt_traits::{GvtId, GvtState};

use crate::sched::local;
use crate::sched::record::{Record, TOKEN_CLONED};
use crate::sched::root;

/// References to its own record that a thread is born with, for its children.
pub(crate) const CREDIT: u32 = 64;

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
        record.meta.flags.fetch_or(TOKEN_CLONED, Relaxed);
        // Relaxed: the caller's own reference keeps the record meanwhile.
        record.meta.references.fetch_add(1, Relaxed);
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
            release(*record);
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

/// Lets go of one reference to a record, from wherever the caller is.
pub(crate) fn release(record: NonNull<Record>) {
    let _section = local::Section::new();
    // SAFETY: a worker that is carried is alive.
    let worker = unsafe { local::worker().as_ref() };
    // SAFETY: the reference is the caller's.
    unsafe { root::release(record.as_ref(), 1, worker) };
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
        // The first child; nobody looks along this thread's link yet, but holders of its token.
        if !parent.has_flag(TOKEN_CLONED) {
            // SAFETY: C1.
            unsafe { skip_ended_parent(parent) };
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

/// # Safety
///
/// C1 of [`take_parent`], and nobody else looks at the thread's `parent_id`.
unsafe fn skip_ended_parent(thread: &Record) {
    let link = GvtId::new(thread.meta.parent_id.load(Relaxed));
    if !link.is_some() {
        return;
    }
    let parent = thread.core().table.get(link);
    let ended = matches!(parent.state(), GvtState::Finished | GvtState::Cancelled);
    if !ended || parent.has_flag(TOKEN_CLONED) || parent.meta.cancelled.load(Acquire) != 0 {
        return;
    }
    let grandparent = parent.meta.parent_id.load(Relaxed);
    if grandparent != u32::MAX {
        // Relaxed: the parent's own reference keeps it meanwhile.
        thread.core().table.get(GvtId::new(grandparent)).meta.references.fetch_add(1, Relaxed);
    }
    thread.meta.parent_id.store(grandparent, Relaxed);
    release(NonNull::from(parent));
}
