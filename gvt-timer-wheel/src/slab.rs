//! Where entries lie: nodes of 32 bytes that link to each other by index.
//!
//! **Layout.** Chunks of [`CHUNK`] nodes, allocated and freed whole: growth never copies what is
//! there, and memory goes back when timers do. Beside the nodes lie their numbers: only insert
//! and cancel look at these, and half a cache line a node is what expiry and moving touch.
//!
//! **Free places.** A list a chunk, last in first out, and a bitmap of the chunks that have some.
//! The lowest such chunk serves, so that entries gather in few chunks and the others empty.
//! One empty chunk is kept as a spare, or an entry that comes and goes at a chunk's edge would
//! allocate each time.
//!
//! **Stale handles.** Each entry gets a number that its shard never gives again, so that a handle
//! (place and number) fits no later entry, and a chunk that is freed leaves no history behind
//! (T4).
//!
//! **Limits.** 2^32 - 1 places a shard; past that `insert` panics.

use gvt_traits::{GvtId, TimerEntry, TimerType, WakeTicket, WorkerId};

/// Nodes in a chunk.
pub(crate) const CHUNK: usize = 1024;
const SHIFT: u32 = CHUNK.trailing_zeros();
/// No node: the end of a list.
pub(crate) const NIL: u32 = u32::MAX;
/// The list that a free node is said to be on.
const FREE: u16 = u16::MAX;

/// An entry and its links.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) deadline_ns: u64,
    sequence: u64,
    id: GvtId,
    /// On a free node, the next free place in the chunk.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    pub(crate) list: u16,
    affinity: WorkerId,
    kind: TimerType,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    pub(crate) fn entry(&self) -> TimerEntry {
        TimerEntry {
            deadline_ns: self.deadline_ns,
            ticket: WakeTicket { sequence: self.sequence, id: self.id },
            affinity: self.affinity,
            kind: self.kind,
        }
    }
}

struct Chunk {
    nodes: Box<[Node; CHUNK]>,
    numbers: Box<[u64; CHUNK]>,
    first_free: u32,
    used: u32,
}

impl Chunk {
    fn new() -> Self {
        // Through vectors: an array this large must not pass over a green thread's stack.
        let free = |next: usize| Node {
            deadline_ns: 0,
            sequence: 0,
            id: GvtId::NONE,
            next: if next == CHUNK { NIL } else { next as u32 },
            prev: NIL,
            list: FREE,
            affinity: WorkerId::NONE,
            kind: TimerType::Sleep,
        };
        let nodes: Vec<Node> = (1..=CHUNK).map(free).collect();
        let numbers = vec![0; CHUNK];
        Chunk {
            nodes: nodes.into_boxed_slice().try_into().ok().expect("CHUNK nodes"),
            numbers: numbers.into_boxed_slice().try_into().expect("CHUNK numbers"),
            first_free: 0,
            used: 0,
        }
    }
}

/// The nodes of one shard.
#[derive(Default)]
pub(crate) struct Slab {
    chunks: Vec<Option<Chunk>>,
    /// Bit `n`: chunk `n` exists and has a free place.
    open: Vec<u64>,
    /// No word of `open` below this one has a bit.
    first_open: usize,
    /// An empty chunk that exists, if any.
    spare: Option<usize>,
    /// The number of the entry inserted last.
    number: u64,
    len: usize,
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn node(&self, place: u32) -> &Node {
        let chunk = self.chunks[place as usize >> SHIFT].as_ref().expect("a live node's chunk exists");
        &chunk.nodes[place as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, place: u32) -> &mut Node {
        let chunk = self.chunks[place as usize >> SHIFT].as_mut().expect("a live node's chunk exists");
        &mut chunk.nodes[place as usize % CHUNK]
    }

    /// Gives `entry` a place and a number. Its node is on no list yet.
    pub(crate) fn insert(&mut self, entry: TimerEntry) -> (u32, u64) {
        let index = self.open_chunk();
        if self.spare == Some(index) {
            self.spare = None;
        }
        self.number += 1;
        self.len += 1;
        let chunk = self.chunks[index].as_mut().expect("an open chunk exists");
        let local = chunk.first_free as usize % CHUNK;
        chunk.first_free = chunk.nodes[local].next;
        chunk.nodes[local] = Node {
            deadline_ns: entry.deadline_ns,
            sequence: entry.ticket.sequence,
            id: entry.ticket.id,
            next: NIL,
            prev: NIL,
            list: 0,
            affinity: entry.affinity,
            kind: entry.kind,
        };
        chunk.numbers[local] = self.number;
        chunk.used += 1;
        if chunk.first_free == NIL {
            self.open[index / 64] &= !(1 << (index % 64));
        }
        (((index << SHIFT) | local) as u32, self.number)
    }

    /// Whether the entry with this number is (still) in this place.
    pub(crate) fn holds(&self, place: u32, number: u64) -> bool {
        let Some(Some(chunk)) = self.chunks.get(place as usize >> SHIFT) else { return false };
        let local = place as usize % CHUNK;
        chunk.numbers[local] == number && chunk.nodes[local].list != FREE
    }

    /// Frees the place, and gives back what was there. The node is on no list any more.
    pub(crate) fn remove(&mut self, place: u32) -> TimerEntry {
        let (index, local) = (place as usize >> SHIFT, place as usize % CHUNK);
        self.len -= 1;
        let chunk = self.chunks[index].as_mut().expect("a live node's chunk exists");
        let node = &mut chunk.nodes[local];
        let entry = node.entry();
        node.list = FREE;
        node.next = chunk.first_free;
        chunk.first_free = local as u32;
        chunk.used -= 1;
        let empty = chunk.used == 0;
        self.open[index / 64] |= 1 << (index % 64);
        self.first_open = self.first_open.min(index / 64);
        if empty {
            match self.spare {
                // The higher of two empty chunks goes, so that the low ones fill.
                Some(spare) => {
                    let (keep, drop) = (spare.min(index), spare.max(index));
                    self.spare = Some(keep);
                    self.close(drop);
                }
                None => self.spare = Some(index),
            }
        }
        entry
    }

    /// The lowest chunk that has a free place; makes one if there is none.
    fn open_chunk(&mut self) -> usize {
        while let Some(&word) = self.open.get(self.first_open) {
            if word != 0 {
                return self.first_open * 64 + word.trailing_zeros() as usize;
            }
            self.first_open += 1;
        }
        self.add_chunk()
    }

    #[cold]
    fn add_chunk(&mut self) -> usize {
        let index = match self.chunks.iter().position(Option::is_none) {
            Some(hole) => hole,
            None => {
                // The last chunk is never made, so that no place is `NIL`.
                assert!(self.chunks.len() < (NIL >> SHIFT) as usize, "a timer shard holds 2^32 entries");
                self.chunks.push(None);
                self.chunks.len() - 1
            }
        };
        self.chunks[index] = Some(Chunk::new());
        if self.open.len() <= index / 64 {
            self.open.push(0);
        }
        self.open[index / 64] |= 1 << (index % 64);
        self.first_open = index / 64;
        index
    }

    #[cold]
    fn close(&mut self, index: usize) {
        self.chunks[index] = None;
        self.open[index / 64] &= !(1 << (index % 64));
        while let Some(None) = self.chunks.last() {
            self.chunks.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: TimerEntry = TimerEntry {
        deadline_ns: 0,
        ticket: WakeTicket { sequence: 0, id: GvtId::NONE },
        affinity: WorkerId::NONE,
        kind: TimerType::Sleep,
    };

    fn exists(slab: &Slab) -> usize {
        slab.chunks.iter().flatten().count()
    }

    #[test]
    fn places_are_distinct_and_lowest_first() {
        let mut slab = Slab::default();
        let mut places: Vec<u32> = (0..3000).map(|_| slab.insert(ENTRY).0).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 3000);
        assert_eq!(exists(&slab), 3);
        slab.remove(5);
        slab.remove(2000);
        assert_eq!(slab.insert(ENTRY).0, 5);
        assert_eq!(slab.insert(ENTRY).0, 2000);
    }

    #[test]
    fn numbers_outlive_chunks() {
        let mut slab = Slab::default();
        let handles: Vec<(u32, u64)> = (0..10 * CHUNK).map(|_| slab.insert(ENTRY)).collect();
        for &(place, _) in &handles {
            slab.remove(place);
        }
        assert_eq!(exists(&slab), 1, "a spare");
        for _ in 0..10 * CHUNK {
            slab.insert(ENTRY);
        }
        assert!(handles.iter().all(|&(place, number)| !slab.holds(place, number)));
        assert_eq!(slab.len(), 10 * CHUNK);
    }
}
