//! The ring: a bounded queue with one producer, its owner, and any number of consumers.
//!
//! **Hazard.** A thief copies entries out while the owner pops the same ones, or has popped them and
//! is writing new ones into their slots.
//!
//! **Protocol.** `head` and `tail` only grow; the entries are `head..tail`, each in slot `index mod N`.
//! - P1: the owner writes a slot, then stores `tail`.
//! - P2: a consumer loads `head`, then `tail`, copies the entries, and only then advances `head` by
//!   compare-and-exchange. Since `head` never goes back, success means that it has not changed
//!   meanwhile.
//! - P3: the owner writes a slot only when it has seen `head` pass the slot's last use, so what P2
//!   copied was not being overwritten.
//!
//! The owner is a consumer too. Its pop is the one compare-and-exchange of a yield.
//!
//! **The newest entry** can be taken by the owner as well, though the indices only grow:
//! - P4: it moves `head` on by 2N by compare-and-exchange, which leaves the slots what they are and
//!   makes every exchange fail that a thief prepared before; then it stores a `tail` that is 2N - 1
//!   further. In between `head` is ahead of `tail` by N at least, which a thief takes for a lost race.
//!
//! **Rejected.** `crossbeam_deque`'s FIFO: as fast alone (2.8 ns a pop and push, both; `cost_of_a_yield`),
//! but it shows nobody what comes next, so that nothing can be prefetched; it publishes with `Release` only,
//! so that each push needs a fence besides (Q6); and it grows and shrinks, which allocates. *32-bit indices*:
//! a thief that the kernel holds up for 2^32 pops would succeed by accident.
//!
//! **Limits.** N entries, a power of two. The caller handles overflow.
//!
//! **Evidence.** loom `ring_*`; mutants `TailRelaxed`, `StealRelaxed`, `StealWithoutCas`,
//! `PopWithoutCas`, `RoomUnchecked`, `NewestWithoutCas` fail them.

use std::array;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use gvt_traits::{Metadata, Runnable};

use crate::sync::{Arc, AtomicPtr, AtomicUsize, Mutant, Padded, left_behind, look, mutant, publish};

struct Inner<const N: usize> {
    /// First entry. Written by consumers.
    head: Padded<AtomicUsize>,
    /// Behind the last entry. Written by the owner.
    tail: Padded<AtomicUsize>,
    slots: Padded<[AtomicPtr<Metadata>; N]>,
}

impl<const N: usize> Inner<N> {
    fn slot(&self, index: usize) -> &AtomicPtr<Metadata> {
        &self.slots.0[index & (N - 1)]
    }

    /// The pointer in the slot of `index`.
    fn read(&self, index: usize) -> *mut Metadata {
        // Relaxed: P2 and P3 order it; the owner reads what it wrote itself.
        self.slot(index).load(Relaxed)
    }

    fn len(&self) -> usize {
        // Relaxed: a hint for people.
        let head = self.head.0.load(Relaxed);
        self.tail.0.load(Relaxed).saturating_sub(head).min(N)
    }
}

impl<const N: usize> Drop for Inner<N> {
    fn drop(&mut self) {
        let left = self.len();
        if left > 0 {
            left_behind(left, "a ring");
        }
    }
}

/// How a push makes its entry visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Publish {
    /// For later looks.
    Plainly,
    /// And before the pusher's next look at sleeping workers (Q6).
    BeforeSleepers,
}

/// What a thief came home with.
#[derive(Debug)]
pub(crate) enum Stolen {
    /// There was nothing.
    Nothing,
    /// Somebody else was faster; there may be more.
    Raced,
    /// The oldest entry; the others lie in the thief's ring.
    Got(Runnable),
}

/// The owner's end.
pub(crate) struct Owner<const N: usize> {
    inner: Arc<Inner<N>>,
    /// `inner.tail`, which nobody else writes.
    tail: usize,
    /// A value that `inner.head` had; `tail` is at most N ahead of it.
    head_seen: usize,
}

/// Everybody else's end.
pub(crate) struct Stealer<const N: usize>(Arc<Inner<N>>);

/// An empty ring.
pub(crate) fn ring<const N: usize>() -> (Owner<N>, Stealer<N>) {
    const { assert!(N.is_power_of_two()) }
    let inner = Arc::new(Inner {
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        slots: Padded(array::from_fn(|_| AtomicPtr::new(ptr::null_mut()))),
    });
    (Owner { inner: inner.clone(), tail: 0, head_seen: 0 }, Stealer(inner))
}

/// The token of an entry.
///
/// # Safety
///
/// **C1**: `entry` was taken out of a ring, and nobody else took it.
unsafe fn token(entry: *mut Metadata) -> Runnable {
    if cfg!(loom) {
        assert!(!entry.is_null(), "P1: an entry was read before it was written");
    }
    // SAFETY: C1 and C2 of `from_raw`: only `put` writes entries, from a token's `into_raw`; by this
    // function's C1 the token is put together once.
    unsafe { Runnable::from_raw(NonNull::new_unchecked(entry)) }
}

impl<const N: usize> Owner<N> {
    /// Entries that fit, by the owner's stale knowledge or, if that says none, by the truth.
    fn room(&mut self) -> usize {
        if self.tail.wrapping_sub(self.head_seen) == N {
            // ORDERING O2: Acquire pairs with the Release of a thief's step in `steal_into`, so that
            // its reads come before our overwriting (P3).
            self.head_seen = self.inner.head.0.load(Acquire);
            if mutant(Mutant::RoomUnchecked) {
                self.head_seen = self.tail;
            }
        }
        N - self.tail.wrapping_sub(self.head_seen)
    }

    fn put(&mut self, ahead: usize, entry: *mut Metadata) {
        // Relaxed: P1, the store of `tail` publishes it.
        self.inner.slot(self.tail.wrapping_add(ahead)).store(entry, Relaxed);
    }

    fn advance(&mut self, count: usize, how: Publish) {
        self.tail = self.tail.wrapping_add(count);
        match how {
            _ if mutant(Mutant::TailRelaxed) => self.inner.tail.0.store(self.tail, Relaxed),
            // ORDERING O3: Release pairs with the consumers' loads of `tail`: a consumer that sees it sees
            // the slots (P1), and what the thread did before it was pushed.
            Publish::Plainly => self.inner.tail.0.store(self.tail, Release),
            Publish::BeforeSleepers => publish(&self.inner.tail.0, self.tail),
        }
    }

    /// Appends `task`, or gives it back if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, task: Runnable, how: Publish) -> Result<(), Runnable> {
        if self.room() == 0 {
            return Err(task);
        }
        self.put(0, task.into_raw().as_ptr());
        self.advance(1, how);
        Ok(())
    }

    /// Appends tasks, none visible before all are written; stops at the first for which `next` has
    /// none. Asks for no more than fit and says how many there were.
    pub(crate) fn extend(&mut self, mut next: impl FnMut() -> Option<Runnable>) -> usize {
        self.head_seen = self.inner.head.0.load(Acquire); // ORDERING O2, as in `room`.
        let room = N - self.tail.wrapping_sub(self.head_seen);
        let mut count = 0;
        while count < room {
            let Some(task) = next() else { break };
            self.put(count, task.into_raw().as_ptr());
            count += 1;
        }
        if count > 0 {
            self.advance(count, Publish::Plainly);
        }
        count
    }

    /// Takes the oldest entry.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Runnable> {
        // Relaxed, here and below: a stale value makes the exchange fail. The slot is of our own
        // writing and nobody but us overwrites it, so nothing needs ordering; the exchange goes on
        // with the release sequence of a thief's step (O2, T2).
        let mut head = self.inner.head.0.load(Relaxed);
        loop {
            if head == self.tail {
                return None;
            }
            let entry = self.inner.read(head);
            let next = head.wrapping_add(1);
            if mutant(Mutant::PopWithoutCas) {
                self.inner.head.0.store(next, Relaxed);
                // SAFETY: none; a planted defect, in loom runs only.
                return Some(unsafe { token(entry) });
            }
            match self.inner.head.0.compare_exchange_weak(head, next, Relaxed, Relaxed) {
                // SAFETY: C1: the step of `head` over this entry is ours alone (P2).
                Ok(_) => return Some(unsafe { token(entry) }),
                Err(now) => head = now,
            }
        }
    }

    /// The newest entry that the owner put here; a thief may have taken it since.
    pub(crate) fn newest(&self) -> Option<NonNull<Metadata>> {
        if self.is_empty() {
            return None;
        }
        NonNull::new(self.inner.read(self.tail.wrapping_sub(1)))
    }

    /// Takes the newest entry (P4). The caller has announced a move, since until `tail` is stored
    /// again the ring looks strange to `has_work`.
    pub(crate) fn take_newest(&mut self) -> Option<Runnable> {
        // Relaxed, here and below: as in `pop`.
        let mut head = self.inner.head.0.load(Relaxed);
        while head != self.tail {
            let skipped = head.wrapping_add(2 * N);
            if mutant(Mutant::NewestWithoutCas) {
                // No thief is told.
                self.tail = self.tail.wrapping_sub(1);
            } else {
                // ORDERING T2: Release, for `has_work`, as in `detach_half`. O2: Acquire, as in `room`, since
                // what is seen of `head` here is remembered.
                match self.inner.head.0.compare_exchange_weak(head, skipped, AcqRel, Relaxed) {
                    Ok(_) => self.head_seen = skipped,
                    Err(now) => {
                        head = now;
                        continue;
                    }
                }
                self.tail = self.tail.wrapping_add(2 * N - 1);
            }
            let entry = self.inner.read(self.tail);
            // ORDERING O3: as in `advance`.
            self.inner.tail.0.store(self.tail, Release);
            // SAFETY: C1: `head..tail` held it while nobody could move `head`, and holds it no more (P4).
            return Some(unsafe { token(entry) });
        }
        None
    }

    /// Takes the older half of a full ring out, for the global list. `None` if a thief made room.
    pub(crate) fn detach_half(&mut self) -> Option<impl ExactSizeIterator<Item = Runnable>> {
        let head = self.head_seen;
        let count = N / 2;
        if self.tail.wrapping_sub(head) < N {
            return None;
        }
        // ORDERING T2: Release, for `has_work`: see `transit`. Relaxed on failure: no more is done.
        self.inner.head.0.compare_exchange(head, head.wrapping_add(count), Release, Relaxed).ok()?;
        // The slots may be read after the step, since only we overwrite them, and we are here.
        let inner = &self.inner;
        // SAFETY: C1: the step of `head` over these entries was ours alone (P2).
        Some((0..count).map(move |ahead| unsafe { token(inner.read(head.wrapping_add(ahead))) }))
    }

    /// The entry `distance` places behind the head, if there is one (Q7: only to prefetch).
    pub(crate) fn peek(&self, distance: usize) -> Result<NonNull<Metadata>, usize> {
        // Relaxed: nothing follows from it.
        let head = self.inner.head.0.load(Relaxed);
        let len = self.tail.wrapping_sub(head);
        if distance < len {
            NonNull::new(self.inner.read(head.wrapping_add(distance))).ok_or(0)
        } else {
            Err(distance - len)
        }
    }

    /// A count of entries that were taken from the old end, modulo twice the ring's size.
    pub(crate) fn turns(&self) -> usize {
        // Relaxed: compared with an earlier value, no more.
        self.inner.head.0.load(Relaxed) & (2 * N - 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: the owner's own entries; a thief's step seen late errs towards work.
        self.inner.head.0.load(Relaxed) == self.tail
    }
}

impl<const N: usize> Stealer<N> {
    /// Takes the older half, rounded up: the oldest to be run, the rest into `into`, as far as
    /// they fit there. In between the caller's `Moves` must announce a move.
    pub(crate) fn steal_into<const M: usize>(&self, into: &mut Owner<M>) -> Stolen {
        let inner = &*self.0;
        // Relaxed: if `tail` below is older than this, the difference wraps and counts as a race; if
        // this is old, the exchange fails.
        let head = inner.head.0.load(Relaxed);
        let tail = if mutant(Mutant::StealRelaxed) {
            inner.tail.0.load(Relaxed)
        } else {
            look(&inner.tail.0) // ORDERING O3, and O1 of `sync` for the last look before sleeping.
        };
        let len = tail.wrapping_sub(head);
        if len == 0 {
            return Stolen::Nothing;
        }
        if len > N {
            // `head` has gone on since we read it.
            return Stolen::Raced;
        }
        let first = inner.read(head);
        into.head_seen = into.inner.head.0.load(Acquire); // ORDERING O2, as in `room`.
        let rest = (len - len / 2 - 1).min(M - into.tail.wrapping_sub(into.head_seen));
        for ahead in 0..rest {
            into.put(ahead, inner.read(head.wrapping_add(1 + ahead)));
        }
        let next = head.wrapping_add(1 + rest);
        if mutant(Mutant::StealWithoutCas) {
            inner.head.0.store(next, Release);
        } else if inner.head.0.compare_exchange(head, next, Release, Relaxed).is_err() {
            // ORDERING O2 on success: Release, so that our reads of the slots come before the
            // owner's overwriting; and T2 of `transit`. Relaxed on failure: nothing was taken.
            return Stolen::Raced;
        }
        if rest > 0 {
            into.advance(rest, Publish::Plainly);
        }
        // SAFETY: C1: the step of `head` over this entry, and over those now in `into`, was ours
        // alone (P2).
        Stolen::Got(unsafe { token(first) })
    }

    /// Whether there seems to be an entry; the last look before sleeping (Q6).
    pub(crate) fn has_work(&self) -> bool {
        let tail = look(&self.0.tail.0);
        // ORDERING T2: Acquire pairs with the Release of the consumer that removed what is missing.
        self.0.head.0.load(Acquire) != tail
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
