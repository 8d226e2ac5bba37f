//! Where entries lie, so that a handle finds its entry and the heap may move it.
//!
//! **Layout.** Chunks of [`CHUNK`] places. A place has two halves, in two arrays: the entry's
//! position in the heap (4 bytes; written each time the heap moves the entry, so they are packed
//! densely), and its record (24 bytes; written once, read once). Chunks are allocated and freed
//! whole: growth never copies what is there, and memory goes back when timers do.
//!
//! **Free places.** A list a chunk, last in first out, and a bitmap of the chunks that have some.
//! The lowest such chunk serves, so that entries gather in few chunks and the others empty.
//! One empty chunk is kept as a spare, or an entry that comes and goes at a chunk's edge would
//! allocate each time.
//!
//! **Stale handles** are the shard's affair: it numbers entries without ever repeating a number, so
//! that chunks carry no history and may be freed.
//!
//! **Limits.** 2^30 places a shard, less one chunk; past that `insert` panics.

use gvt_traits::{GvtId, TimerType, WorkerId};

/// Places in a chunk.
pub(crate) const CHUNK: usize = 1024;
const SHIFT: u32 = CHUNK.trailing_zeros();
/// Set in a position: the place is free, and the rest is the next free place in the chunk.
const FREE: u32 = 1 << 31;
/// Set in a position: the entry is not in the heap, but far off; the rest is where.
pub(crate) const FAR: u32 = 1 << 30;
/// The end of a chunk's free list.
const NIL: u32 = CHUNK as u32;

/// What an entry consists of, less its deadline, which the heap holds.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) id: GvtId,
    /// The upper half of the entry's number; the heap holds the lower.
    pub(crate) number_high: u32,
    pub(crate) affinity: WorkerId,
    pub(crate) kind: TimerType,
}

const _: () = assert!(size_of::<Record>() == 24);

pub(crate) const VACANT: Record =
    Record { sequence: 0, id: GvtId::NONE, number_high: 0, affinity: WorkerId::NONE, kind: TimerType::Sleep };

struct Chunk {
    positions: Box<[u32; CHUNK]>,
    records: Box<[Record; CHUNK]>,
    first_free: u32,
    used: u32,
}

impl Chunk {
    fn new() -> Self {
        // Through vectors: an array this large must not pass over a green thread's stack.
        let positions: Vec<u32> = (1..=NIL).map(|next| next | FREE).collect();
        let records = vec![VACANT; CHUNK];
        Chunk {
            positions: positions.into_boxed_slice().try_into().expect("CHUNK positions"),
            records: records.into_boxed_slice().try_into().ok().expect("CHUNK records"),
            first_free: 0,
            used: 0,
        }
    }
}

/// The places of one shard.
#[derive(Default)]
pub(crate) struct Slab {
    chunks: Vec<Option<Chunk>>,
    /// Bit `n`: chunk `n` exists and has a free place.
    open: Vec<u64>,
    /// No word of `open` below this one has a bit.
    first_open: usize,
    /// An empty chunk that exists, if any.
    spare: Option<usize>,
}

impl Slab {
    fn chunk(&self, index: usize) -> &Chunk {
        self.chunks[index].as_ref().expect("a live place lies in a chunk that exists")
    }

    fn chunk_mut(&mut self, index: usize) -> &mut Chunk {
        self.chunks[index].as_mut().expect("a live place lies in a chunk that exists")
    }

    /// Takes a place for `record`; its position is to be set before anything else is done.
    pub(crate) fn insert(&mut self, record: Record) -> u32 {
        let index = self.open_chunk();
        if self.spare == Some(index) {
            self.spare = None;
        }
        let chunk = self.chunk_mut(index);
        let local = chunk.first_free as usize % CHUNK;
        chunk.first_free = chunk.positions[local] & !FREE;
        chunk.positions[local] = 0;
        chunk.records[local] = record;
        chunk.used += 1;
        if chunk.first_free == NIL {
            self.open[index / 64] &= !(1 << (index % 64));
        }
        ((index << SHIFT) | local) as u32
    }

    /// Frees the place, and gives back what was there.
    pub(crate) fn remove(&mut self, place: u32) -> Record {
        let (index, local) = (place as usize >> SHIFT, place as usize % CHUNK);
        let chunk = self.chunk_mut(index);
        let record = chunk.records[local];
        chunk.positions[local] = chunk.first_free | FREE;
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
        record
    }

    /// The position of the entry in `place`, unless the place is free or does not exist.
    pub(crate) fn position(&self, place: u32) -> Option<u32> {
        let chunk = self.chunks.get(place as usize >> SHIFT)?.as_ref()?;
        let position = chunk.positions[place as usize % CHUNK];
        (position & FREE == 0).then_some(position)
    }

    pub(crate) fn record(&self, place: u32) -> &Record {
        &self.chunk(place as usize >> SHIFT).records[place as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn set_position(&mut self, place: u32, position: u32) {
        self.chunk_mut(place as usize >> SHIFT).positions[place as usize % CHUNK] = position;
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
                let most = (FAR >> SHIFT) as usize - 1;
                assert!(
                    self.chunks.len() < most,
                    "a timer shard holds {} entries at the most",
                    most << SHIFT
                );
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

    fn exists(slab: &Slab) -> usize {
        slab.chunks.iter().flatten().count()
    }

    #[test]
    fn places_are_distinct_and_lowest_first() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..3000).map(|_| slab.insert(VACANT)).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 3000);
        assert_eq!(exists(&slab), 3);
        slab.remove(5);
        slab.remove(2000);
        assert_eq!(slab.position(5), None);
        assert_eq!(slab.insert(VACANT), 5);
        assert_eq!(slab.insert(VACANT), 2000);
    }

    #[test]
    fn chunks_go_when_empty_but_one() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..10 * CHUNK).map(|_| slab.insert(VACANT)).collect();
        assert_eq!(exists(&slab), 10);
        // All but one entry in the middle.
        for &place in places.iter().filter(|&&place| place as usize != 5 * CHUNK + 7) {
            slab.remove(place);
        }
        assert_eq!(exists(&slab), 2, "the chunk of the survivor, and a spare");
        assert!(slab.position((5 * CHUNK + 7) as u32).is_some());
        assert_eq!(slab.position(9 * CHUNK as u32), None, "a handle into a chunk that is gone");
        for _ in 0..5 * CHUNK {
            slab.insert(VACANT);
        }
        assert_eq!(exists(&slab), 6);
    }

    #[test]
    fn an_entry_at_the_edge_does_not_allocate_each_time() {
        let mut slab = Slab::default();
        for _ in 0..CHUNK {
            slab.insert(VACANT);
        }
        let place = slab.insert(VACANT);
        let chunk = slab.chunk(1).records.as_ptr();
        for _ in 0..10 {
            slab.remove(place);
            assert_eq!(slab.insert(VACANT), place);
            assert_eq!(slab.chunk(1).records.as_ptr(), chunk);
        }
    }
}
