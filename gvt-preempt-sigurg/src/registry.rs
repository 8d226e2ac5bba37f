//! Which runtimes are attached, and which OS threads each of them has asked to interrupt: all that a signal
//! handler needs to know, readable without a lock.
//!
//! **Hazard.** A signal carries little and loses that: a standard signal that is already pending
//! swallows the next one with its payload, and the kernel drops payloads when the user's queue limit
//! is reached. So the payload cannot say which runtime a signal is for (P2), and must not decide alone that
//! it is not ours (P5). And a handler may be on its way into a hook while the hook's runtime
//! detaches (P6).
//!
//! **Protocol.** Each attached runtime has a node with a few *marks*, each the number of an OS thread
//! that it wants interrupted.
//!
//! - Interrupt: **M1** mark the thread, **M2** send the signal.
//! - Handler, for each node: **H1** look for a mark of this OS thread; **H2** count oneself in; **H3** full
//!   fence; **H4** read the hook, which is null if the node is retired; **H5** take the mark; **H6** call;
//!   **H7** count oneself out.
//! - Retire: **R1** null the hook; **R2** full fence; **R3** wait until no handler is counted in; **R4**
//!   clear the marks and free the node for the next runtime.
//!
//! M1 comes before M2, so the signal finds the mark, or a handler that ran in between has taken it: the hook
//! runs after the mark, at most once for each. H2–H4 against R1–R3: either the handler
//! reads null, or R3 sees it counted in and waits for the hook's end.
//!
//! Nodes are never freed, and are used again: there are as many as runtimes were ever attached at once.
//!
//! **Rejected.** Telling by the payload alone: an interrupt that met a pending SIGURG was lost, one
//! that met the queue limit went to the previous handler. Counting in only after taking the mark: between
//! the two the node could be retired and given to another runtime, whose hook would then run for a
//! thread that it never named.
//!
//! **Limits.** The mark of a thread that ended before the signal reached it stays until the next
//! interrupt; should the kernel give that number to a new thread which then gets a foreign SIGURG, the
//! hook runs there once.
//!
//! **Evidence.** loom models `retire_waits_for_hooks` and `marks_are_neither_lost_nor_doubled`;
//! each [`Mutant`] fails one of them.

use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use gvt_traits::{InterruptHook, Interrupted};

use crate::sync::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Mutant, fence, mutant, pause};

/// Interrupts of one runtime that may be under way at once: one a worker.
#[cfg(not(all(loom, test)))]
const MARKS: usize = gvt_traits::MAX_WORKERS;
#[cfg(all(loom, test))]
const MARKS: usize = 1;

/// No OS thread has this number.
const NOBODY: i32 = 0;

/// One runtime's place.
#[derive(Debug)]
pub(crate) struct Node {
    /// The runtime's hook; null while there is none.
    hook: AtomicPtr<()>,
    /// Handlers between H2 and H7.
    inside: AtomicUsize,
    marks: [AtomicI32; MARKS],
    /// Whether a runtime may take the node.
    free: AtomicBool,
    /// Written before the node is published, then constant.
    next: *const Node,
}

// SAFETY: `next` is constant once the node is shared and points to a node that lives for ever.
unsafe impl Sync for Node {}
// SAFETY: as above.
unsafe impl Send for Node {}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Registry {
    head: AtomicPtr<Node>,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No runtime had asked for it.
    Unmarked,
    /// A hook took it.
    Taken,
    /// Hooks were called, and all said that it was not for them.
    Refused,
}

impl Registry {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Registry { head: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new() -> Self {
        Registry { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Gives a runtime a node.
    pub(crate) fn insert(&self, hook: InterruptHook) -> &'static Node {
        let hook = hook as *mut ();
        // ORDERING O1: Acquire pairs with the Release at the end of `insert`.
        let mut head = self.head.load(Acquire);
        for node in nodes(head) {
            // ORDERING O2: Acquire pairs with R4. Relaxed on failure: the node is left alone.
            if node.free.compare_exchange(true, false, Acquire, Relaxed).is_ok() {
                // ORDERING O3: Release pairs with H4: a handler that sees the hook sees what its runtime did
                // before.
                node.hook.store(hook, Release);
                return node;
            }
        }
        let node = Box::into_raw(Box::new(Node {
            hook: AtomicPtr::new(hook),
            inside: AtomicUsize::new(0),
            marks: std::array::from_fn(|_| AtomicI32::new(NOBODY)),
            free: AtomicBool::new(false),
            next: head,
        }));
        // ORDERING O1: Release pairs with the Acquires of the head: a reader that finds the node finds it
        // whole. Acquire on failure, since the head found becomes the next node.
        while let Err(other) = self.head.compare_exchange(head, node, AcqRel, Acquire) {
            head = other;
            // SAFETY: the node is not published yet.
            unsafe { (*node).next = head };
        }
        // SAFETY: leaked, so it lives for ever, and is only shared from now on.
        unsafe { &*node }
    }

    /// The handler's part: calls the hook of every runtime that has marked `thread`.
    ///
    /// Async-signal-safe if `call` is.
    pub(crate) fn deliver(&self, thread: i32, mut call: impl FnMut(InterruptHook) -> Interrupted) -> Outcome {
        let mut outcome = Outcome::Unmarked;
        // ORDERING O1: Acquire pairs with `insert`.
        for node in nodes(self.head.load(Acquire)) {
            match node.deliver(thread, &mut call) {
                None => {}
                Some(Interrupted::Taken) => outcome = Outcome::Taken,
                Some(Interrupted::NotOurs) if outcome == Outcome::Unmarked => outcome = Outcome::Refused,
                Some(Interrupted::NotOurs) => {}
            }
        }
        outcome
    }
}

fn nodes(head: *const Node) -> impl Iterator<Item = &'static Node> {
    // SAFETY: null or a leaked box, found by an Acquire of the head (O1).
    let as_node = |node: *const Node| unsafe { node.as_ref() };
    std::iter::successors(as_node(head), move |node| as_node(node.next))
}

impl Node {
    /// M1 and M2: marks `thread` and sends it a signal; `false` if `send` says that it could not, or if
    /// too many others are marked. One caller at a time. `alive` tells whether an OS thread still exists.
    pub(crate) fn interrupt(
        &self,
        thread: i32,
        alive: impl Fn(i32) -> bool,
        send: impl FnOnce() -> bool,
    ) -> bool {
        let mut place = None;
        for mark in &self.marks {
            // Relaxed: nobody else writes anything but `NOBODY`.
            match mark.load(Relaxed) {
                other if other == thread => {
                    place = Some(mark);
                    break;
                }
                NOBODY => {}
                other if !alive(other) => drop(mark.swap(NOBODY, Relaxed)),
                _ => continue,
            }
            place = place.or(Some(mark));
        }
        let Some(place) = place else { return false };
        if mutant(Mutant::SendBeforeMark) {
            let sent = send();
            place.store(thread, Release);
            return sent;
        }
        // M1. Stored even if it is there already: the handler may be taking it just now, for an earlier
        // signal.
        if !(mutant(Mutant::TrustOldMark) && place.load(Relaxed) == thread) {
            // ORDERING O4: Release pairs with H5: the hook sees what led to the interrupt. The signal's
            // own ordering does not do it: an earlier signal's handler may take this mark. A swap,
            // where a store would do, because loom orders a store and H5's exchange too freely.
            place.swap(thread, if mutant(Mutant::RelaxedMark) { Relaxed } else { Release });
        }
        // M2.
        let sent = send();
        if !sent {
            self.take(thread);
        }
        sent
    }

    /// H5: whether a mark was there, and is no more.
    fn take(&self, thread: i32) -> bool {
        self.marks.iter().any(|mark| {
            // ORDERING O4: Acquire pairs with M1. Relaxed on failure: nothing is concluded from it.
            mark.compare_exchange(thread, NOBODY, Acquire, Relaxed).is_ok()
        })
    }

    fn deliver(
        &self,
        thread: i32,
        call: &mut impl FnMut(InterruptHook) -> Interrupted,
    ) -> Option<Interrupted> {
        // H1. Relaxed: the mark for this signal was stored before the signal was sent, and the kernel
        // orders sending before handling.
        if !self.marks.iter().any(|mark| mark.load(Relaxed) == thread) {
            return None;
        }
        let mut taken = mutant(Mutant::TakeBeforeCountingIn) && self.take(thread);
        // H2. Relaxed: ordered by the fence.
        self.inside.fetch_add(1, Relaxed);
        if !mutant(Mutant::NoFenceInHandler) {
            // ORDERING O5: H3 pairs with R2: of "H2, then H4" and "R1, then R3" one sees the other.
            fence(SeqCst);
        }
        // H4. ORDERING O3: Acquire pairs with `insert`.
        let hook = self.hook.load(Acquire);
        if !hook.is_null() && !mutant(Mutant::TakeBeforeCountingIn) {
            taken = mutant(Mutant::LeaveMark) || self.take(thread);
        }
        let answer = (taken && !hook.is_null()).then(|| {
            // SAFETY: what is not null came from an `InterruptHook`, in `insert`.
            let hook = unsafe { std::mem::transmute::<*mut (), InterruptHook>(hook) };
            call(hook)
        });
        // H7. ORDERING O6: Release pairs with R3: all that the hook did is done.
        self.inside.fetch_sub(1, if mutant(Mutant::RelaxedCountOut) { Relaxed } else { Release });
        answer
    }

    /// Gives the node back. Afterwards its hook neither runs nor will.
    ///
    /// Waits for hooks that are running, however long they take.
    pub(crate) fn retire(&self) {
        // R1. Relaxed: ordered by the fence; a handler that reads null does nothing with it.
        self.hook.store(ptr::null_mut(), Relaxed);
        if !mutant(Mutant::NoFenceInRetire) {
            // ORDERING O5: R2 pairs with H3.
            fence(SeqCst);
        }
        // R3. ORDERING O6: Acquire pairs with H7.
        while self.inside.load(Acquire) != 0 {
            pause();
        }
        // R4. Relaxed: published by the store that follows.
        for mark in &self.marks {
            mark.store(NOBODY, Relaxed);
        }
        // ORDERING O2: Release pairs with `insert`.
        self.free.store(true, Release);
    }
}

#[cfg(all(loom, test))]
#[path = "registry_model.rs"]
mod model;
