//! Looking along links that are being shortened.
//!
//! A thread's token looks up along its thread's ancestors. Ancestors that have ended and that nobody else refers to are
//! passed over: their descendant's link leads on to what is above them, and their records are free for others.
//!
//! **Hazard.** Somebody may be on the way up meanwhile, on any OS thread: with the thread's own token, which its closure may lend out,
//! or with that of a descendant. What it then reads may be another thread's.
//!
//! **Protocol.** A runtime counts its changes. Who passes over: **L0** copies what the descendant must say in its ancestor's place, and counts; **L1**
//! changes the link, **L2** counts, **L3** lets the record go. Who
//! looks: **L4** reads the count, **L5** looks along, using nothing but atomics of records, which stay mapped, **L6** fence, **L7** reads the
//! count again: if it is another one, what was seen means nothing, and it looks again. What L5 has read of a record's next owner
//! was written, with Release, after L3, so L7 sees L2; if it has read the new link, L7 sees L0. Who reads at L4 what L0 or L2 has
//! written sees the copy, or the new link.
//!
//! A looker that has had to look again too often counts itself, and while there are such nobody begins to pass over. Those
//! who have begun finish, so it comes to its end. What is not passed over then is when the next descendant ends.
//!
//! **Rejected.** To keep lookers out while links are changed, or to count those that look: a read-modify-write a look. To pass over only
//! where nobody can be looking: a thread cannot know to whom its token is lent.
//!
//! **Evidence.** loom `links::*`; mutants `PassUncounted` (no L2), `CopyUncounted` (no L0), `LookOnce` (no L7) fail.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU32, AtomicU64, Mutant, fence, mutant};

/// Looks that were in vain before a looker counts itself.
const TRIES: u32 = if cfg!(loom) { 1 } else { 32 };

/// What a runtime counts for those who look along its threads' links.
pub(crate) struct Changes {
    count: AtomicU64,
    /// Those who have looked in vain too often.
    stuck: AtomicU32,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Changes { count: AtomicU64::new(0), stuck: AtomicU32::new(0) }
    }

    /// What `look` sees while no link is changed; it may be called several times (L4 to L7).
    #[inline]
    pub(crate) fn steadily<R>(&self, mut look: impl FnMut() -> R) -> R {
        let mut tries = 0;
        loop {
            // L4. ORDERING O1: Acquire pairs with the Release in `pass`.
            let before = self.count.load(Acquire);
            let seen = look();
            // L6. ORDERING O2: pairs with the Release stores by which a record is made another's, after L2.
            fence(Acquire);
            // Relaxed: the fence.
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
            // Relaxed: only that nobody goes on for ever depends on it.
            self.stuck.fetch_add(1, Relaxed);
        }
    }

    /// Whether links may be changed now.
    pub(crate) fn may_pass(&self) -> bool {
        // Relaxed: as in `look_again`.
        self.stuck.load(Relaxed) == 0
    }

    /// L0 to L2. The caller has copied, and does L3.
    pub(crate) fn pass(&self, relink: impl FnOnce()) {
        if !mutant(Mutant::CopyUncounted) {
            // ORDERING O1: Release pairs with the Acquire in `steadily`; O2: the new link stays behind it: it is stored with Release.
            self.count.fetch_add(1, AcqRel);
        }
        relink();
        if !mutant(Mutant::PassUncounted) {
            // ORDERING O1: Release pairs with the Acquire in `steadily`; O2: what the caller does next stays behind it: Acquire.
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

    /// A thread (0) passes over its parent (1), whose place is then another thread's; the grandparent (2) is cancelled for good.
    fn a_look_beside_a_change() {
        loom::model(|| {
            let changes = Arc::new(Changes::new());
            let nodes = Arc::new([node(0, 1), node(0, 2), node(1, NONE)]);
            let looker = {
                let (changes, nodes) = (changes.clone(), nodes.clone());
                loom::thread::spawn(move || {
                    changes.steadily(|| {
                        let mut at = 0;
                        // Garbage may be a circle for a moment.
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
                // L3, and its next owner: no one's child.
                nodes[1].parent.store(NONE, Release);
            }
            assert!(looker.join().unwrap(), "a cancelled token said that it is not");
        });
    }

    /// The same where the parent itself is cancelled, and nobody is above it.
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
