//! Sleeps that were begun in the order in which they end.
//!
//! **Why.** Threads that sleep for the same time again and again ask for deadlines that only grow. A heap
//! finds each a place near its bottom, and later sinks a hole through all its levels for each that is taken
//! out. A list needs neither: such an entry goes behind the last one, and the first one is the
//! earliest.
//!
//! **What goes here.** An entry whose deadline is not before the last one's, provided that it is a sleep:
//! those are cancelled only when a runtime ends. All others are the heap's.
//!
//! **Layout.** Whole entries, in chunks that never move; a handle names the entry's index. What is cancelled
//! leaves a hole; a chunk is freed when the front has passed it. While there are more holes than
//! entries, and more than a few chunks of them, nothing new is accepted, so that holes cannot pile
//! up.
//!
//! **Rejected.** Several runs, one for each length of sleep: with two lengths by turns half of the entries
//! go to the heap, but to find the right run costs a search on each insert.

use std::collections::VecDeque;

use gvt_traits::{GvtId, TimerEntry, TimerType, WakeTicket, WorkerId};

use crate::heap;

/// Entries in a chunk.
const CHUNK: usize = 512;
/// Holes that are tolerated, whatever else there is.
const HOLES: usize = 4 * CHUNK;

/// An entry with its number; 0 for a hole.
#[derive(Clone, Copy)]
struct Item {
    entry: TimerEntry,
    number: u64,
}

type Chunk = Box<[Item; CHUNK]>;

/// Entries in the order of their deadlines.
#[derive(Default)]
pub(crate) struct Run {
    /// The first one holds the entry of index `head`.
    chunks: VecDeque<Chunk>,
    /// An empty chunk, so that a run that comes and goes does not allocate each time.
    spare: Option<Chunk>,
    /// Indices of the first entry, which is no hole, and behind the last one. They only grow.
    head: usize,
    tail: usize,
    holes: usize,
    last_deadline_ns: u64,
}

impl Run {
    pub(crate) fn len(&self) -> usize {
        self.tail - self.head - self.holes
    }

    /// Whether `entry` may be pushed.
    #[inline]
    pub(crate) fn accepts(&self, entry: &TimerEntry) -> bool {
        entry.kind == TimerType::Sleep
            && entry.deadline_ns >= self.last_deadline_ns
            && self.holes <= self.len().max(HOLES)
    }

    /// Appends an entry that is accepted; returns its index.
    #[inline]
    pub(crate) fn push(&mut self, entry: TimerEntry, number: u64) -> usize {
        let index = self.tail;
        if index.is_multiple_of(CHUNK) || self.chunks.is_empty() {
            self.grow();
        }
        self.last_deadline_ns = entry.deadline_ns;
        self.tail += 1;
        *self.item_mut(index) = Item { entry, number };
        index
    }

    /// The first entry as the heap would hold it.
    #[inline]
    pub(crate) fn first(&self) -> Option<heap::Item> {
        (self.head < self.tail).then(|| {
            let item = self.item(self.head);
            heap::Item { deadline_ns: item.entry.deadline_ns, number_low: item.number as u32, place: 0 }
        })
    }

    /// Takes out the first entry, which there must be.
    #[inline]
    pub(crate) fn pop(&mut self) -> TimerEntry {
        let entry = self.item(self.head).entry;
        self.step();
        self.skip_holes();
        entry
    }

    /// Takes out the entry of an index, given modulo `modulus`, if it has this number.
    pub(crate) fn cancel(&mut self, index: usize, modulus: usize, number: u64) -> Option<TimerEntry> {
        let index = self.head + index.wrapping_sub(self.head) % modulus;
        if index >= self.tail || self.item(index).number != number {
            return None;
        }
        self.item_mut(index).number = 0;
        self.holes += 1;
        let entry = self.item(index).entry;
        self.skip_holes();
        Some(entry)
    }

    fn skip_holes(&mut self) {
        while self.head < self.tail && self.item(self.head).number == 0 {
            self.holes -= 1;
            self.step();
        }
        if self.head == self.tail {
            self.last_deadline_ns = 0;
        }
    }

    /// Leaves the first entry behind.
    fn step(&mut self) {
        self.head += 1;
        if self.head.is_multiple_of(CHUNK) {
            self.spare = self.chunks.pop_front();
        }
    }

    #[inline]
    fn place(&self, index: usize) -> (usize, usize) {
        (index / CHUNK - self.head / CHUNK, index % CHUNK)
    }

    #[inline]
    fn item(&self, index: usize) -> &Item {
        let (chunk, place) = self.place(index);
        &self.chunks[chunk][place]
    }

    #[inline]
    fn item_mut(&mut self, index: usize) -> &mut Item {
        let (chunk, place) = self.place(index);
        &mut self.chunks[chunk][place]
    }

    #[cold]
    fn grow(&mut self) {
        let chunk = self.spare.take().unwrap_or_else(|| {
            const EMPTY: Item = Item {
                entry: TimerEntry {
                    deadline_ns: 0,
                    ticket: WakeTicket { sequence: 0, id: GvtId::NONE },
                    affinity: WorkerId::NONE,
                    kind: TimerType::Sleep,
                },
                number: 0,
            };
            // Through a vector: an array this large must not pass over a green thread's stack.
            vec![EMPTY; CHUNK].into_boxed_slice().try_into().ok().expect("CHUNK items")
        });
        self.chunks.push_back(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(deadline_ns: u64) -> TimerEntry {
        TimerEntry {
            deadline_ns,
            ticket: WakeTicket { sequence: deadline_ns, id: GvtId::new(1) },
            affinity: WorkerId::NONE,
            kind: TimerType::Sleep,
        }
    }

    #[test]
    fn only_sleeps_in_order() {
        let mut run = Run::default();
        assert!(run.accepts(&sleep(5)));
        run.push(sleep(5), 1);
        assert!(run.accepts(&sleep(5)) && !run.accepts(&sleep(4)));
        assert!(!run.accepts(&TimerEntry { kind: TimerType::Deadline, ..sleep(6) }));
        run.pop();
        assert!(run.accepts(&sleep(0)), "an empty run accepts any sleep");
    }

    #[test]
    fn comes_and_goes_over_many_chunks() {
        let mut run = Run::default();
        let (mut pushed, mut popped) = (0, 0);
        for step in 0..20 * CHUNK {
            run.push(sleep(step as u64), step as u64 + 1);
            pushed += 1;
            if step % 3 != 0 || step > 15 * CHUNK {
                assert_eq!(run.pop().deadline_ns, popped);
                popped += 1;
            }
            assert_eq!(run.len() as u64, pushed - popped);
            assert!(run.chunks.len() <= run.len() / CHUNK + 2);
        }
    }

    #[test]
    fn a_handle_names_one_entry() {
        let mut run = Run::default();
        let count = 3 * CHUNK;
        let places: Vec<_> = (0..count).map(|n| run.push(sleep(n as u64), n as u64 + 1)).collect();
        for (n, &place) in places.iter().enumerate().rev().filter(|(n, _)| n % 5 != 0) {
            let number = n as u64 + 1;
            assert!(run.cancel(place, 1 << 31, number + 1).is_none());
            assert_eq!(run.cancel(place, 1 << 31, number).map(|entry| entry.deadline_ns), Some(n as u64));
            assert!(run.cancel(place, 1 << 31, number).is_none(), "cancelled before");
        }
        assert_eq!(run.len(), count.div_ceil(5));
        for n in (0..count).step_by(5) {
            assert_eq!(run.first().map(|item| item.deadline_ns), Some(n as u64));
            assert_eq!(run.pop().deadline_ns, n as u64);
        }
        assert!(run.first().is_none() && run.len() == 0);
    }

    #[test]
    fn holes_do_not_pile_up() {
        let mut run = Run::default();
        run.push(sleep(1), 1);
        let mut number = 1;
        while run.accepts(&sleep(2)) {
            number += 1;
            let place = run.push(sleep(2), number);
            assert!(run.cancel(place, 1 << 31, number).is_some());
            assert!(number < 10_000);
        }
        run.pop();
        assert!(run.accepts(&sleep(2)));
    }
}
