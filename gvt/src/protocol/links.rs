//! Walking links between records while others shorten them.
//!
//! A thread's token reads the records of the thread's ancestors. Ended ancestors without other references are
//! *bypassed*: the descendant's link leads to the record above them, and their records are free for other
//! threads.
//!
//! **Hazard.** A reader may be walking up meanwhile, on any OS thread: with the thread's own token, which its
//! closure may lend out, or with a descendant's. It may then read another thread's data.
//!
//! **Protocol.** A runtime counts its changes. A thread that bypasses: **L0** copies what the descendant must
//! say in its ancestor's place, and counts; **L1** changes the link, **L2** counts, **L3** releases the
//! record. A reader: **L4** reads the count, **L5** walks, using only atomics of records, which stay mapped,
//! **L6** fence, **L7** reads the count again: if it has changed, the result is void and the walk is
//! repeated. What L5 reads of a record's next owner was written, with Release, after L3, so L7 sees L2; if L5
//! reads the new link, L7 sees L0. A reader whose L4 reads what L0 or L2 wrote sees the copy, or the new
//! link.
//!
//! A reader that has failed too often counts itself as *stuck*; while there are stuck readers no thread
//! begins a bypass. Those under way finish, so the reader comes to its end. A skipped bypass happens when the
//! next descendant ends.
//!
//! **Rejected.** Excluding readers while links change, or counting readers: a read-modify-write per walk.
//! Bypassing only where there can be no reader: a thread cannot know where its token has been lent.
//!
//! **Evidence.** loom `links::*`; mutants `PassUncounted` (no L2), `CopyUncounted` (no L0), `LookOnce` (no
//! L7) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, AtomicU64, Mutant, fence, mutant};

/// Walks in vain before a reader counts itself as stuck.
const TRIES: u32 = if cfg!(loom) { 1 } else { 32 };

/// A runtime's counts for readers of its threads' links.
pub(crate) struct Changes {
    count: AtomicU64,
    /// Readers that have failed too often.
    stuck: AtomicU32,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Changes { count: AtomicU64::new(0), stuck: AtomicU32::new(0) }
    }

    /// What `look` sees while no link changes; it may be called several times (L4 to L7).
    #[inline]
    pub(crate) fn steadily<R>(&self, mut look: impl FnMut() -> R) -> R {
        let mut tries = 0;
        loop {
            // L4. ORDERING O1: Acquire pairs with the Release in `pass`.
            let before = self.count.load(Acquire);
            let seen = look();
            // L6. ORDERING O2: pairs with the Release stores that give a record to another thread, after L2.
            fence(Acquire);
            // Relaxed: the fence orders it.
            if self.count.load(Relaxed) == before || mutant(Mutant::LookOnce) {
                if tries >= TRIES {
                    self.stuck.fetch_sub(1, Relaxed);
                }
                return seen;
            }
            self.look_again(&mut tries);
        }
    }

    #[cold]
    fn look_again(&self, tries: &mut u32) {
        *tries += 1;
        if *tries == TRIES {
            // Relaxed: only progress depends on it.
            self.stuck.fetch_add(1, Relaxed);
        }
    }

    /// Whether links may be changed at the moment.
    pub(crate) fn may_pass(&self) -> bool {
        // Relaxed: as in `look_again`.
        self.stuck.load(Relaxed) == 0
    }

    /// L0 to L2. The caller has copied already, and does L3.
    pub(crate) fn pass(&self, relink: impl FnOnce()) {
        if !mutant(Mutant::CopyUncounted) {
            // ORDERING O1: Release pairs with the Acquire in `steadily`; O2: the new link stays behind it: it
            // is stored with Release.
            self.count.fetch_add(1, AcqRel);
        }
        relink();
        if !mutant(Mutant::PassUncounted) {
            // ORDERING O1: Release pairs with the Acquire in `steadily`; O2: what the caller does next stays
            // behind it: Acquire.
            self.count.fetch_add(1, AcqRel);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;

    const NONE: u32 = u32::MAX;

    struct Node {
        cancelled: AtomicU32,
        parent: AtomicU32,
    }

    fn node(cancelled: u32, parent: u32) -> Node {
        Node { cancelled: AtomicU32::new(cancelled), parent: AtomicU32::new(parent) }
    }

    /// A thread (0) bypasses its parent (1), whose record is then another thread's; the grandparent (2) is
    /// cancelled.
    fn a_look_beside_a_change() {
        loom::model(|| {
            let changes = Arc::new(Changes::new());
            let nodes = Arc::new([node(0, 1), node(0, 2), node(1, NONE)]);
            let looker = {
                let (changes, nodes) = (changes.clone(), nodes.clone());
                loom::thread::spawn(move || {
                    changes.steadily(|| {
                        let mut at = 0;
                        // Garbage may form a cycle for a moment.
                        for _ in 0..4 {
                            let node: &Node = &nodes[at as usize];
                            if node.cancelled.load(Acquire) != 0 {
                                return true;
                            }
                            at = node.parent.load(Acquire);
                            if at == NONE {
                                return false;
                            }
                        }
                        true
                    })
                })
            };
            if changes.may_pass() {
                changes.pass(|| nodes[0].parent.store(2, Release));
                // L3, and the next owner, which has no parent.
                nodes[1].parent.store(NONE, Release);
            }
            assert!(looker.join().unwrap(), "a cancelled token said that it is not");
        });
    }

    /// The same where the parent itself is cancelled and has no parent.
    fn a_look_beside_a_copy() {
        loom::model(|| {
            let changes = Arc::new(Changes::new());
            let nodes = Arc::new([node(0, 1), node(1, NONE)]);
            let looker = {
                let (changes, nodes) = (changes.clone(), nodes.clone());
                loom::thread::spawn(move || {
                    changes.steadily(|| {
                        if nodes[0].cancelled.load(Acquire) != 0 {
                            return true;
                        }
                        let parent = nodes[0].parent.load(Acquire);
                        parent != NONE && nodes[parent as usize].cancelled.load(Acquire) != 0
                    })
                })
            };
            if changes.may_pass() {
                nodes[0].cancelled.store(1, Release);
                changes.pass(|| nodes[0].parent.store(NONE, Release));
                nodes[1].cancelled.store(0, Release);
            }
            assert!(looker.join().unwrap(), "a cancelled token said that it is not");
        });
    }

    #[test]
    fn links_are_seen_as_they_are() {
        check(a_look_beside_a_change);
        check(a_look_beside_a_copy);
    }

    #[test]
    fn mutant_copy_uncounted() {
        check_mutant(Mutant::CopyUncounted, a_look_beside_a_copy);
    }

    #[test]
    fn mutant_pass_uncounted() {
        check_mutant(Mutant::PassUncounted, a_look_beside_a_change);
    }

    #[test]
    fn mutant_look_once() {
        check_mutant(Mutant::LookOnce, a_look_beside_a_change);
    }
}
