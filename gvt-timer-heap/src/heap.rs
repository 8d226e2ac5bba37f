//! A 4-ary heap of deadlines that tells each entry where it is.
//!
//! **Layout.** 16 bytes an item, deadline included: a comparison follows no pointer. The root is at
//! position 3, so that the four children of any item are one aligned group of 64 bytes, a cache
//! line: the way down from the root of a million items touches ten lines. Groups lie in chunks
//! that never move, so that growth copies nothing, and that are freed when the heap shrinks.
//!
//! **Order.** By deadline, then by the entry's number, compared so that it may wrap: equal deadlines
//! come out in the order of insertion, as long as fewer than 2^31 entries came between.
//!
//! **Rejected.** A binary heap: twice the levels, and a line each. A pairing heap: no array, a
//! miss a link. One growing vector: a pause of milliseconds when a million items move.

use crate::slab::Slab;

/// A deadline in the heap.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) deadline_ns: u64,
    /// The lower half of the entry's number.
    pub(crate) number_low: u32,
    /// Its place in the slab.
    pub(crate) place: u32,
}

impl Item {
    #[inline]
    pub(crate) fn before(&self, other: &Item) -> bool {
        // Without branches, since which of four children is least cannot be foretold.
        let earlier = self.deadline_ns < other.deadline_ns;
        let equal = self.deadline_ns == other.deadline_ns;
        let older = (self.number_low.wrapping_sub(other.number_low) as i32) < 0;
        earlier | (equal & older)
    }
}

/// Four siblings, one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Group([Item; 4]);

const _: () = assert!(size_of::<Group>() == 64);

const EMPTY: Group = Group([Item { deadline_ns: 0, number_low: 0, place: 0 }; 4]);

const GROUPS: usize = 256;
const ITEMS: usize = GROUPS * 4;
const ROOT: usize = 3;

const fn parent(position: usize) -> usize {
    position / 4 + 2
}

const fn first_child(position: usize) -> usize {
    position * 4 - 8
}

/// The deadlines of one shard.
pub(crate) struct Heap {
    chunks: Vec<Box<[Group; GROUPS]>>,
    /// One past the last item's position.
    end: usize,
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Heap { chunks: Vec::new(), end: ROOT }
    }

    pub(crate) fn len(&self) -> usize {
        self.end - ROOT
    }

    pub(crate) fn first(&self) -> Option<&Item> {
        (self.end > ROOT).then(|| &self.group(ROOT / 4).0[ROOT % 4])
    }

    #[inline]
    fn group(&self, index: usize) -> &Group {
        &self.chunks[index / GROUPS][index % GROUPS]
    }

    #[inline]
    pub(crate) fn get(&self, position: usize) -> Item {
        self.group(position / 4).0[position % 4]
    }

    #[inline]
    fn set(&mut self, position: usize, item: Item, slab: &mut Slab) {
        self.chunks[position / ITEMS][position / 4 % GROUPS].0[position % 4] = item;
        slab.set_position(item.place, position as u32);
    }

    pub(crate) fn push(&mut self, item: Item, slab: &mut Slab) {
        let position = self.end;
        if position / ITEMS == self.chunks.len() {
            self.grow();
        }
        self.end += 1;
        self.sift_up(position, item, slab);
    }

    /// Removes the first item; the slab's place is the caller's to free.
    pub(crate) fn pop(&mut self, slab: &mut Slab) -> Option<Item> {
        let first = *self.first()?;
        let last = self.drop_last();
        if self.end > ROOT {
            // The last item came from a leaf and mostly goes back to one: let the hole sink all
            // the way, without comparing with it, then let it rise the little that it must.
            let hole = self.sink_hole(ROOT, slab);
            self.sift_up(hole, last, slab);
        }
        Some(first)
    }

    /// Removes the item at `position`; the slab's place is the caller's to free.
    pub(crate) fn remove(&mut self, position: usize, slab: &mut Slab) -> Item {
        let item = self.get(position);
        let last = self.drop_last();
        if position < self.end {
            if last.before(&item) {
                self.sift_up(position, last, slab);
            } else {
                self.sift_down(position, last, slab);
            }
        }
        item
    }

    fn sift_up(&mut self, mut position: usize, item: Item, slab: &mut Slab) {
        while position > ROOT {
            let above = self.get(parent(position));
            if !item.before(&above) {
                break;
            }
            self.set(position, above, slab);
            position = parent(position);
        }
        self.set(position, item, slab);
    }

    fn sift_down(&mut self, mut position: usize, item: Item, slab: &mut Slab) {
        while let Some((child, least)) = self.least_child(position) {
            if !least.before(&item) {
                break;
            }
            self.set(position, least, slab);
            position = child;
        }
        self.set(position, item, slab);
    }

    /// Moves least children up until the hole at `position` is a leaf; returns where it is then.
    fn sink_hole(&mut self, mut position: usize, slab: &mut Slab) -> usize {
        while let Some((child, least)) = self.least_child(position) {
            self.set(position, least, slab);
            position = child;
        }
        position
    }

    #[inline]
    fn least_child(&self, position: usize) -> Option<(usize, Item)> {
        let first = first_child(position);
        if first >= self.end {
            return None;
        }
        let group = self.group(first / 4);
        let present = (self.end - first).min(4);
        let (mut offset, mut least) = (0, group.0[0]);
        if present == 4 {
            for index in 1..4 {
                let item = group.0[index];
                let better = item.before(&least);
                offset = if better { index } else { offset };
                least = if better { item } else { least };
            }
        } else {
            for (index, item) in group.0.iter().enumerate().take(present).skip(1) {
                if item.before(&least) {
                    (offset, least) = (index, *item);
                }
            }
        }
        Some((first + offset, least))
    }

    fn drop_last(&mut self) -> Item {
        self.end -= 1;
        let last = self.get(self.end);
        // One empty chunk stays, or an item that comes and goes at the edge would allocate each
        // time.
        if self.chunks.len() > self.end / ITEMS + 2 {
            self.chunks.pop();
        }
        last
    }

    #[cold]
    fn grow(&mut self) {
        // Through a vector: an array this large must not pass over a green thread's stack.
        let groups = vec![EMPTY; GROUPS].into_boxed_slice();
        self.chunks.push(groups.try_into().ok().expect("GROUPS groups"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::VACANT;

    fn fill(deadlines: impl IntoIterator<Item = u64>) -> (Heap, Slab) {
        let (mut heap, mut slab) = (Heap::new(), Slab::default());
        for (number, deadline_ns) in deadlines.into_iter().enumerate() {
            let place = slab.insert(VACANT);
            heap.push(Item { deadline_ns, number_low: number as u32, place }, &mut slab);
        }
        (heap, slab)
    }

    fn scrambled(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54)
    }

    fn check(heap: &Heap, slab: &Slab) {
        for position in ROOT..heap.end {
            let item = heap.get(position);
            assert_eq!(slab.position(item.place), Some(position as u32));
            assert!(position == ROOT || !item.before(&heap.get(parent(position))));
        }
    }

    #[test]
    fn family_tree() {
        assert_eq!(first_child(ROOT), 4);
        for position in ROOT..1000 {
            let first = first_child(position);
            assert_eq!(first % 4, 0);
            assert!((first..first + 4).all(|child| parent(child) == position));
        }
    }

    #[test]
    fn pops_in_order_and_ties_in_order_of_insertion() {
        let (mut heap, mut slab) = fill(scrambled(20_000));
        check(&heap, &slab);
        let mut last = (0, 0);
        while let Some(item) = heap.pop(&mut slab) {
            slab.remove(item.place);
            assert!((item.deadline_ns, item.number_low) >= last);
            last = (item.deadline_ns, item.number_low);
        }
        assert!(heap.chunks.len() <= 2, "chunks were freed");
    }

    #[test]
    fn removal_from_anywhere_keeps_the_heap() {
        let (mut heap, mut slab) = fill(scrambled(2_000));
        for step in 0..1_990_usize {
            let position = ROOT + step * 7919 % heap.len();
            let item = heap.remove(position, &mut slab);
            slab.remove(item.place);
            if step % 50 == 0 {
                check(&heap, &slab);
            }
        }
        check(&heap, &slab);
        assert_eq!(heap.len(), 10);
    }

    #[test]
    fn numbers_wrap() {
        let (mut heap, mut slab) = (Heap::new(), Slab::default());
        let start = u32::MAX - 50;
        for step in 0..100 {
            let place = slab.insert(VACANT);
            heap.push(Item { deadline_ns: 9, number_low: start.wrapping_add(step), place }, &mut slab);
        }
        for step in 0..100 {
            assert_eq!(heap.pop(&mut slab).unwrap().number_low, start.wrapping_add(step));
        }
    }
}
