//! Deadlines that are far off, in buckets by the time, unsorted.
//!
//! **Why.** In a heap of a million each item that is taken out moves ten others, and each of those has its
//! position written to another cache line of the slab: half a microsecond. Most of that order is not needed
//! yet. So behind the first few thousand, an item waits in the bucket of its 4.2 ms and comes to the heap
//! when that time does: then the heap stays as small as the cache. A calendar queue (R. Brown, CACM 1988)
//! whose present day is a heap.
//!
//! **Invariants.**
//! - **F1**: the heap has an item that is due before the first bucket begins. So the heap's first is the
//!   earliest of all, and nobody wakes to pour a bucket. What is put here keeps that ([`Far::accepts`]);
//!   a call that takes from the heap pours buckets until it holds again ([`Far::begins_ns`]).
//! - **F2**: buckets in use are numbered from `base` to less than `base + BUCKETS`: no two share a place in
//!   the ring.
//!
//! What does not fit goes to the heap, which takes anything: deadlines beyond the ring's 17 s, and those of a
//! bucket that is full, since it is poured in one turn of the lock.
//!
//! **Rejected.** Lists through the slab, as in a wheel: a dependent cache miss an item. Sorting a bucket when
//! its time comes, instead of the heap: new items may belong in between. A million timers of 1 to 5 s on one
//! shard, ns each, medians: inserted for 30 and taken out for 430 with the heap alone, for 42 and 174 so.

use crate::heap::Item;
use crate::slab::{FAR, Slab};

/// A bucket covers 2^22 ns.
const WIDTH_SHIFT: u32 = 22;
const BUCKETS: usize = 4096;
/// Items in a bucket at the most: to pour them takes some 100 µs.
const FULL: usize = 1 << OFFSET_BITS;
const OFFSET_BITS: u32 = 11;
const WORD: usize = u64::BITS as usize;

const _: () = assert!(BUCKETS == WORD * WORD && (BUCKETS << OFFSET_BITS) <= FAR as usize);

/// The deadlines of one shard that are far off.
#[derive(Default)]
pub(crate) struct Far {
    /// By number, modulo their count; empty until first used.
    buckets: Vec<Vec<Item>>,
    /// Bit `n` of word `m`: the bucket in place `64 * m + n` has items.
    occupied: Vec<u64>,
    /// Bit `m`: word `m` of `occupied` is not 0.
    words: u64,
    base: u64,
    /// The number of the first bucket in use; `u64::MAX` for none.
    first: u64,
    len: usize,
}

const fn number_of(deadline_ns: u64) -> u64 {
    deadline_ns >> WIDTH_SHIFT
}

const fn place_of(number: u64) -> usize {
    number as usize % BUCKETS
}

impl Far {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// When the first bucket in use begins, `u64::MAX` for none.
    #[inline]
    pub(crate) fn begins_ns(&self) -> u64 {
        if self.len == 0 { u64::MAX } else { self.first << WIDTH_SHIFT }
    }

    /// Whether an item with this deadline may wait here, `earliest_ns` being the heap's first.
    pub(crate) fn accepts(&mut self, deadline_ns: u64, earliest_ns: u64) -> bool {
        let after = number_of(earliest_ns) + 1;
        // F2: by F1 no bucket in use comes before `after`.
        self.base = if self.len == 0 { after } else { self.base.max(after) };
        let number = number_of(deadline_ns);
        (self.base..self.base + BUCKETS as u64).contains(&number)
            && self.buckets.get(place_of(number)).is_none_or(|bucket| bucket.len() < FULL)
    }

    /// Files an item that is accepted.
    pub(crate) fn push(&mut self, item: Item, slab: &mut Slab) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Vec::new);
            self.occupied.resize(WORD, 0);
        }
        let number = number_of(item.deadline_ns);
        let place = place_of(number);
        let bucket = &mut self.buckets[place];
        slab.set_position(item.place, position(place, bucket.len()));
        if bucket.is_empty() {
            self.occupied[place / WORD] |= 1 << (place % WORD);
            self.words |= 1 << (place / WORD);
            self.first = if self.len == 0 { number } else { self.first.min(number) };
        }
        bucket.push(item);
        self.len += 1;
    }

    /// The item at a position that the slab has for it.
    pub(crate) fn get(&self, position: u32) -> Item {
        let (place, offset) = apart(position);
        self.buckets[place][offset]
    }

    /// Takes out the item at `position`.
    pub(crate) fn remove(&mut self, position: u32, slab: &mut Slab) -> Item {
        let (place, offset) = apart(position);
        let bucket = &mut self.buckets[place];
        let item = bucket.swap_remove(offset);
        if let Some(moved) = bucket.get(offset) {
            slab.set_position(moved.place, position);
        }
        if bucket.is_empty() {
            *bucket = Vec::new();
            self.vacate(place);
        }
        self.len -= 1;
        item
    }

    /// Takes out the items of the first bucket in use, which there must be. Their positions are the caller's
    /// to set.
    pub(crate) fn pour(&mut self) -> Vec<Item> {
        let place = place_of(self.first);
        let items = std::mem::take(&mut self.buckets[place]);
        self.vacate(place);
        self.len -= items.len();
        items
    }

    /// Frees what it keeps for the next time; nothing waits here.
    pub(crate) fn shrink(&mut self) {
        debug_assert_eq!(self.len, 0);
        if !self.buckets.is_empty() {
            self.buckets = Vec::new();
        }
    }

    /// The bucket in `place` has become empty.
    fn vacate(&mut self, place: usize) {
        let word = &mut self.occupied[place / WORD];
        *word &= !(1 << (place % WORD));
        if *word == 0 {
            self.words &= !(1 << (place / WORD));
        }
        if place == place_of(self.first) {
            self.first = self.next_after(self.first);
        }
    }

    /// The first bucket in use after `number`; any number if there is none.
    fn next_after(&self, number: u64) -> u64 {
        let start = place_of(number + 1);
        let (word, bit) = (start / WORD, start % WORD);
        let rest = self.occupied[word] & (u64::MAX << bit);
        let place = if rest != 0 {
            word * WORD + rest.trailing_zeros() as usize
        } else {
            // The words after this one, then from the ring's beginning, this one last.
            let turned = self.words.rotate_right(word as u32 + 1);
            let word = (word + 1 + turned.trailing_zeros() as usize) % WORD;
            word * WORD + self.occupied[word].trailing_zeros() as usize
        };
        number + 1 + (place.wrapping_sub(start) % BUCKETS) as u64
    }
}

const fn position(place: usize, offset: usize) -> u32 {
    FAR | (place << OFFSET_BITS | offset) as u32
}

const fn apart(position: u32) -> (usize, usize) {
    let index = (position & !FAR) as usize;
    (index >> OFFSET_BITS, index % FULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::VACANT;

    /// Files deadlines given in buckets, with `earliest` as the heap's first; says which were accepted.
    fn file(far: &mut Far, slab: &mut Slab, earliest: u64, numbers: &[u64]) -> Vec<bool> {
        let file_one = |&number: &u64| {
            let deadline_ns = number << WIDTH_SHIFT | 77;
            let accepted = far.accepts(deadline_ns, earliest << WIDTH_SHIFT);
            if accepted {
                let place = slab.insert(VACANT);
                far.push(Item { deadline_ns, number_low: 0, place }, slab);
            }
            accepted
        };
        numbers.iter().map(file_one).collect()
    }

    fn pour_all(far: &mut Far) -> Vec<u64> {
        let pour = |far: &mut Far| {
            let begins_ns = far.begins_ns();
            let items = far.pour();
            assert!(items.iter().all(|item| number_of(item.deadline_ns) == number_of(begins_ns)));
            items.len() as u64 * 1_000_000 + number_of(begins_ns)
        };
        std::iter::from_fn(|| (far.len() > 0).then(|| pour(far))).collect()
    }

    #[test]
    fn only_what_comes_after_the_heap_and_within_the_ring() {
        let (mut far, mut slab) = (Far::default(), Slab::default());
        let ring = BUCKETS as u64;
        let accepted = file(&mut far, &mut slab, 10, &[9, 10, 11, 10 + ring, 11 + ring]);
        assert_eq!(accepted, [false, false, true, true, false]);
        // The heap got an earlier one since: the ring does not go back while it is in use.
        assert_eq!(file(&mut far, &mut slab, 5, &[6, 10, 11]), [false, false, true]);
        // Nor does it leave behind what is in it.
        assert_eq!(file(&mut far, &mut slab, 10, &[11 + ring, 12]), [false, true]);
        assert_eq!(pour_all(&mut far), [2_000_011, 1_000_012, 1_000_010 + ring]);
        assert_eq!(far.begins_ns(), u64::MAX);
        assert_eq!(file(&mut far, &mut slab, 5, &[6]), [true], "empty: it begins anew");
        far.pour();
        far.shrink();
        assert_eq!(file(&mut far, &mut slab, 700, &[701]), [true]);
    }

    #[test]
    fn finds_the_next_bucket_anywhere_in_the_ring() {
        let (mut far, mut slab) = (Far::default(), Slab::default());
        for start in [0, 1, 62, 63, 64, 4030, 4095, 5000, number_of(u64::MAX) - 9000] {
            for step in [1, 2, 63, 64, 65, 1000, 4094, 4095] {
                let numbers: Vec<u64> = (start + 1..=start + BUCKETS as u64).step_by(step).collect();
                assert!(file(&mut far, &mut slab, start, &numbers).iter().all(|&accepted| accepted));
                assert_eq!(pour_all(&mut far), numbers.iter().map(|n| n + 1_000_000).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_bucket_fills() {
        let (mut far, mut slab) = (Far::default(), Slab::default());
        let accepted = file(&mut far, &mut slab, 0, &[3; FULL + 2]);
        assert_eq!(accepted.iter().filter(|&&accepted| accepted).count(), FULL);
        assert_eq!(file(&mut far, &mut slab, 0, &[4]), [true], "the next one has room");
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_where_they_are_said_to_be() {
        let (mut far, mut slab) = (Far::default(), Slab::default());
        let numbers: Vec<u64> = (1..=300).map(|n| n % 30 + 1).collect();
        file(&mut far, &mut slab, 0, &numbers);
        let mut places: Vec<u32> = (0..300).collect();
        while let Some(place) = places.pop().map(|last| {
            let index = last as usize * 7919 % (places.len() + 1);
            places.get_mut(index).map_or(last, |place| std::mem::replace(place, last))
        }) {
            let position = slab.position(place).unwrap();
            assert_eq!(far.get(position).place, place);
            assert_eq!(far.remove(position, &mut slab).place, place);
            slab.remove(place);
            let first = places.iter().map(|&place| numbers[place as usize]).min();
            assert_eq!(far.begins_ns(), first.map_or(u64::MAX, |number| number << WIDTH_SHIFT));
            assert_eq!(far.len(), places.len());
        }
    }
}
