//! Moves: how a worker that looks for work does not miss threads that are being moved.
//!
//! **Hazard.** A thief has taken half of a ring and not yet published it in its own; a full ring is
//! being emptied into the global list. A worker that scans all queues at that moment, or scans the
//! destination before the move and the source after it, finds nothing and sleeps beside ready threads (Q3).
//!
//! **Protocol.** Each worker has a counter that only it writes.
//! - T1: the mover makes it odd.
//! - T2: it removes the threads, with `Release` or an exchange that goes on with a release sequence.
//! - T3: it inserts them elsewhere, with `Release`.
//! - T4: it makes the counter even, with `Release`.
//!
//! `has_work` reads all counters, scans all queues, reads all counters again. If one was odd or has
//! changed, the answer is `true`. Otherwise each move lies wholly before or wholly after the scan:
//! if T4 was seen, then so was T3; if T4 was not seen before, then T2 was not seen during the scan,
//! or T1 would have been seen after it. A thread that was moved often has a last move before the scan,
//! since a later move's T2 has acquired the earlier one's T3; there the scan finds it.
//!
//! **Cost.** Two plain stores a move. `has_work` pays, and only where it would say `false`.
//!
//! **Rejected.** *One shared count of threads*: a contended read-modify-write a push and a pop. *One
//! shared count of moves*: the same for each spawn that displaces a next-up thread.
//!
//! **Evidence.** loom `has_work_sees_*`; mutants `MoveUnannounced`, `MovesUnchecked` fail them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{Arc, AtomicUsize, Mutant, Padded, mutant};

/// The worker's side.
pub(crate) struct Moves {
    shared: Arc<Padded<AtomicUsize>>,
    count: usize,
}

/// The other workers' side.
pub(crate) struct Watch(Arc<Padded<AtomicUsize>>);

/// A counter at rest.
pub(crate) fn moves() -> (Moves, Watch) {
    let shared = Arc::new(Padded(AtomicUsize::new(0)));
    (Moves { shared: shared.clone(), count: 0 }, Watch(shared))
}

impl Moves {
    /// Announces a move (T1).
    #[inline]
    pub(crate) fn begin(&mut self) {
        if mutant(Mutant::MoveUnannounced) {
            return;
        }
        self.count = self.count.wrapping_add(1);
        // Relaxed: T2 publishes it.
        self.shared.0.store(self.count, Relaxed);
    }

    /// The threads have arrived (T4).
    #[inline]
    pub(crate) fn end(&mut self) {
        if mutant(Mutant::MoveUnannounced) {
            return;
        }
        self.count = self.count.wrapping_add(1);
        // ORDERING T4: Release pairs with the Acquire in `census`.
        self.shared.0.store(self.count, Release);
    }
}

/// The sum of all counters, `None` if one announces a move. The counters only grow, so equal sums are
/// equal counters.
pub(crate) fn census<'a>(mut all: impl Iterator<Item = &'a Watch>) -> Option<usize> {
    all.try_fold(0usize, |sum, watch| {
        // ORDERING T4: Acquire pairs with `end`, before the scan. Behind it the order comes from the
        // scan's own Acquires (T2).
        let count = watch.0.0.load(Acquire);
        if mutant(Mutant::MovesUnchecked) {
            return Some(0);
        }
        (count % 2 == 0).then(|| sum.wrapping_add(count))
    })
}
