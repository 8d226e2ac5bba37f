//! A growing ring for one worker alone.
//!
//! **Why not `VecDeque`.** It keeps one length, which a pop and the push behind it both read and write
//! through memory, so that each waits for the other. Here `head` and `tail` meet only in comparisons
//! that the processor predicts. And it holds tokens, whose drop glue costs the hot path its registers;
//! this holds their pointers.

use std::ptr::NonNull;

use gvt_traits::{Metadata, Runnable};

use crate::sync::left_behind;

/// First in, first out; the number of places is a power of two.
pub(crate) struct Fifo {
    /// In place `index mod places.len()` for each index in `head..tail`: a pointer out of
    /// `Runnable::into_raw`, whose token is ours. Elsewhere leavings.
    places: Box<[NonNull<Metadata>]>,
    /// One less than there are places: all of an index that says where it lies.
    mask: usize,
    head: usize,
    tail: usize,
}

// SAFETY: it owns the tokens whose pointers it holds, and those are `Send`.
unsafe impl Send for Fifo {}
// SAFETY: through `&Fifo` only addresses come out.
unsafe impl Sync for Fifo {}

impl Fifo {
    pub(crate) fn with_places(places: usize) -> Self {
        assert!(places.is_power_of_two());
        Fifo { places: vec![NonNull::dangling(); places].into(), mask: places - 1, head: 0, tail: 0 }
    }

    /// Where `index` lies: below `places.len()`, since `mask` is.
    #[inline(always)]
    fn place(&self, index: usize) -> usize {
        index & self.mask
    }

    /// How many were ever pushed, modulo 2^64.
    #[inline(always)]
    pub(crate) fn pushed(&self) -> usize {
        self.tail
    }

    /// How many were ever popped, as [`pushed`](Self::pushed).
    #[inline(always)]
    pub(crate) fn popped(&self) -> usize {
        self.head
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, task: Runnable) {
        self.push_raw(task.into_raw());
    }

    #[inline(always)]
    fn push_raw(&mut self, entry: NonNull<Metadata>) {
        if self.len() > self.mask {
            return self.grow_and_push(entry);
        }
        let place = self.place(self.tail);
        // SAFETY: by `place`.
        unsafe { *self.places.get_unchecked_mut(place) = entry };
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Runnable> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: by `place`.
        let entry = unsafe { *self.places.get_unchecked(self.place(self.head)) };
        self.head = self.head.wrapping_add(1);
        // SAFETY: C1 and C2 of `from_raw`: it lay in `head..tail`, and does no longer.
        Some(unsafe { Runnable::from_raw(entry) })
    }

    /// Takes the newest entry, if that is `entry`.
    pub(crate) fn take_newest(&mut self, entry: NonNull<Metadata>) -> Option<Runnable> {
        if self.is_empty() || self.places[self.place(self.tail.wrapping_sub(1))] != entry {
            return None;
        }
        self.tail = self.tail.wrapping_sub(1);
        // SAFETY: as in `pop`.
        Some(unsafe { Runnable::from_raw(entry) })
    }

    /// The pointer `distance` places behind the first.
    #[inline(always)]
    pub(crate) fn peek(&self, distance: usize) -> Option<NonNull<Metadata>> {
        let place = self.place(self.head.wrapping_add(distance));
        // SAFETY: by `place`.
        (distance < self.len()).then(|| unsafe { *self.places.get_unchecked(place) })
    }

    /// Gives memory back if it is empty and has more than `kept` places.
    pub(crate) fn shrink(&mut self, kept: usize) {
        if self.is_empty() && self.places.len() > kept {
            *self = Fifo::with_places(kept);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_and_push(&mut self, entry: NonNull<Metadata>) {
        self.grow();
        self.push_raw(entry);
    }

    fn grow(&mut self) {
        let mut larger = Fifo::with_places(self.places.len() * 2);
        // The counts go on.
        (larger.head, larger.tail) = (self.head, self.head);
        while let Some(task) = self.pop() {
            larger.push(task);
        }
        *self = larger;
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if !self.is_empty() {
            left_behind(self.len(), "a worker's ring");
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use gvt_traits::Runnable;

    use super::Fifo;
    use crate::cost::threads;

    fn pop(fifo: &mut Fifo) -> Option<u32> {
        let task = fifo.pop()?;
        let id = task.id().index();
        let _ = task.into_raw();
        Some(id)
    }

    #[test]
    fn keeps_order_over_growth_and_wrapping() {
        let mut fifo = Fifo::with_places(2);
        let mut waiting = threads(1_000).collect::<Vec<_>>().into_iter();
        let addresses: Vec<_> = waiting.as_slice().iter().map(Runnable::as_ptr).collect();
        let (mut pushed, mut popped) = (0, 0);
        for step in 0.. {
            if step % 3 != 2 {
                let Some(task) = waiting.next() else { break };
                fifo.push(task);
                pushed += 1;
            } else {
                assert_eq!(fifo.peek(0), Some(addresses[popped as usize]));
                assert_eq!(pop(&mut fifo), Some(popped));
                popped += 1;
            }
            assert_eq!(fifo.len() as u32, pushed - popped);
        }
        while let Some(id) = pop(&mut fifo) {
            assert_eq!(id, popped);
            popped += 1;
        }
        assert_eq!(popped, 1_000);
        fifo.shrink(4);
        assert!(fifo.peek(0).is_none());
    }

    #[test]
    #[should_panic(expected = "R2: a queue was dropped with 1 ready threads")]
    fn says_what_is_left_behind() {
        let mut fifo = Fifo::with_places(2);
        threads(1).for_each(|task| fifo.push(task));
    }
}
