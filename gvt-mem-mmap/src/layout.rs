//! Where a slot lies: arithmetic only, no memory.
//!
//! **Segments.** Slots are numbered from 0. Eight segments of `first` slots come first; then each group of
//! four doubles the length, so that a segment adds a quarter at the most to the fourth and later ones, and 64
//! segments hold `first` x 2^17 slots. The last one ends with the slots that the pool was built for. A
//! number's segment follows from its leading bit and the two bits below it, like the exponent and mantissa of
//! a small float:
//!
//! ```text
//! segment    0      1      2      3      4      …  7      8       …  11      12      …
//! length     first  first  first  first  first     first  2 first    2 first 4 first
//! starts at  0      1      2      3      4         7      8          14      16      x first
//! ```
//!
//! **Page tables.** One page-table page maps 2 MiB. A slot that holds one touched page at its top and
//! one guard at its bottom needs two such pages if the two lie in different 2 MiB ranges. Slots
//! above 2 MiB therefore begin [`PHASE`] = 2 MiB - 4 KiB past a 2 MiB boundary: the guard is the last
//! page of a range, and everything below it in that range is the top of the slot before. So each slot
//! costs one page-table page, and the first 2 MiB - 4 KiB of a stack, staggering included, need no second.
//! (A phase of 1 MiB shares as well, but a stack staggered by 992 KiB would cross after 32 KiB.) Slots of
//! 2 MiB or less hold guard and top in one range when aligned to their size: phase 0.
//!
//! ```text
//!            2 MiB boundary          2 MiB boundary
//! …──────────┼───────────────────┬───┼──────────────── … ──────┼──────────────────┬───┼──
//!   stack n-1│   its top     top |grd|bottom     stack n        │      its top  top|grd|
//! …──────────┼───────────────────┴───┼──────────────── … ──────┼──────────────────┴───┼──
//!            └── one page-table page ┘                          └─ one page-table page ┘
//! ```
//!
//! **Stagger.** Tops at a constant stride share sets of the data cache, of the TLB and, as page-table
//! entries, of the cache again. Slot `i` therefore begins 64 B x (i mod 32) lower; and in slots of 4 MiB and
//! above also some pages lower, all of 256 (128 at 4 MiB) in turn, those of neighbours 8 apart, since 8
//! entries are one cache line. Hopping through a ring of 1,000 stacks, touching five lines of each, takes (ns
//! a hop, `--example stagger`):
//!
//! | slots of | no stagger | lines | lines, 32 KiB x (i mod 32) | lines and pages |
//! |---|---|---|---|---|
//! | 16 MiB | 23 | 29 | 27 | 7.3 |
//! | 4 MiB | 7.3 | 7.4 | 7.3 | 5.0 |
//! | 1 MiB | 6.9 | 7.5 | | (as lines) |
//! | 64 KiB | 7.5 | 6.4 | | (as lines) |
//!
//! Multiples of 32 KiB alone spread the entries over the cache, but leave all tops in a thirty-second of the
//! TLB's sets. Slots of 2 MiB and less get no page stagger: their own numbers differ in the bits that choose
//! TLB sets, and added pages cancel against them (measured: up to three times slower).

use gvt_traits::{GUARD_SIZE, MIN_SLOT_SIZE};

/// What one page-table page maps.
pub(crate) const PAGE_TABLE_SPAN: usize = 2 << 20;
/// Segments at the most.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// A slot's number within its class has so many bits.
pub(crate) const INDEX_BITS: u32 = 29;
/// Slots of one class at the most. One number is left out, so that with every class `u32::MAX` stays free.
const MOST_SLOTS: usize = (1 << INDEX_BITS) - 1;
const PAGE: usize = 4096;
const LINE: usize = 64;
const LINE_STEPS: usize = 32;
/// Pages over which tops are spread at the most: 1 MiB.
const MAX_PAGES: usize = 256;
/// Page-table entries in a cache line.
const ENTRIES: usize = 8;
/// Address space of the first segment, if slots are not larger than an eighth of it.
const FIRST_BYTES: usize = 512 << 20;
const PHASE: usize = PAGE_TABLE_SPAN - GUARD_SIZE;

/// How slots lie in segments; constant for one pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Slots in all.
    slots: usize,
    slot_shift: u32,
    first_shift: u32,
    /// Log of the number of pages over which tops are spread.
    pages_shift: u32,
}

impl Layout {
    /// A layout for slots of `slot_size` (a power of two, at least [`MIN_SLOT_SIZE`]), `slots` of
    /// them.
    pub(crate) fn new(slot_size: usize, slots: usize) -> Self {
        assert!(slot_size.is_power_of_two() && slot_size >= MIN_SLOT_SIZE);
        let slots = slots.min(MOST_SLOTS);
        let by_bytes = (FIRST_BYTES / slot_size).clamp(8, 1024);
        let by_count = slots.div_ceil(1 << (MAX_SEGMENTS / 4 + 1)).next_power_of_two();
        let pages = if slot_size > PAGE_TABLE_SPAN { (slot_size / 8 / PAGE).min(MAX_PAGES) } else { 1 };
        Layout {
            slots,
            slot_shift: slot_size.trailing_zeros(),
            first_shift: by_bytes.max(by_count).trailing_zeros(),
            pages_shift: pages.trailing_zeros(),
        }
    }

    pub(crate) fn slot_size(&self) -> usize {
        1 << self.slot_shift
    }

    fn pages(&self) -> usize {
        1 << self.pages_shift
    }

    /// The number of segment `k`'s first slot, or of slots in all if that is less.
    pub(crate) fn segment_start(&self, k: usize) -> usize {
        let unit = if k < 4 { k } else { (4 + (k & 3)) << (k / 4 - 1) };
        (unit << self.first_shift).min(self.slots)
    }

    /// How many slots segment `k` holds.
    pub(crate) fn segment_slots(&self, k: usize) -> usize {
        self.segment_start(k + 1) - self.segment_start(k)
    }

    /// Where a segment's first slot begins, as an offset from a multiple of [`PAGE_TABLE_SPAN`].
    pub(crate) fn phase(&self) -> usize {
        if self.slot_size() > PAGE_TABLE_SPAN { PHASE } else { 0 }
    }

    /// The segment that slot `index` lies in, and the offset of its lowest byte (its guard) there.
    #[inline]
    pub(crate) fn place(&self, index: u32) -> (usize, usize) {
        let index = index as usize;
        let unit = index >> self.first_shift;
        // Below 4 units the two bits under the leading one do not exist; `| 4` makes group 0.
        let group = (unit | 4).ilog2() as usize - 2;
        let (segment, start) = if unit < 4 {
            (unit, unit << self.first_shift)
        } else {
            let quarter = unit >> group;
            (4 * group + quarter, quarter << group << self.first_shift)
        };
        (segment, (index - start) << self.slot_shift)
    }

    /// How far below the slot's end the stack of slot `index` begins.
    #[inline]
    pub(crate) fn stagger(&self, index: u32) -> usize {
        let index = index as usize;
        let lines = index % LINE_STEPS;
        // In turn 0, 8, 16, …, then 1, 9, 17, …: a rotation of the number's low bits.
        let turn = (index % self.pages()) * ENTRIES;
        let pages = turn % self.pages() + (turn >> self.pages_shift);
        LINE * lines + PAGE * pages
    }

    /// The stack that every slot has, whatever its stagger.
    pub(crate) fn largest(&self) -> usize {
        let stagger = LINE * (LINE_STEPS - 1) + PAGE * (self.pages() - 1);
        self.slot_size() - GUARD_SIZE - stagger
    }

    /// The offset, within the slot, of the page that its thread touches first.
    pub(crate) fn top_page(&self, index: u32) -> usize {
        (self.slot_size() - self.stagger(index) - 1) & !(PAGE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_one_another() {
        for slot_size in [64 << 10, 1 << 20, 16 << 20, 1 << 30] {
            for slots in [1, 100_000, gvt_traits::MAX_GVTHREADS, 1 << 24] {
                let layout = Layout::new(slot_size, slots);
                assert_eq!(layout.segment_start(MAX_SEGMENTS), slots);
                for k in (0..MAX_SEGMENTS).take_while(|&k| layout.segment_slots(k) > 0) {
                    let first = layout.segment_start(k);
                    let last = first + layout.segment_slots(k) - 1;
                    assert_eq!(layout.place(first as u32), (k, 0));
                    assert_eq!(layout.place(last as u32), (k, (last - first) * slot_size));
                    assert_eq!(layout.segment_start(k + 1), last + 1);
                }
            }
        }
    }

    #[test]
    fn stagger_leaves_what_is_promised() {
        for shift in 16..=30 {
            let layout = Layout::new(1 << shift, 1);
            for index in 0..5000 {
                let stack = layout.slot_size() - GUARD_SIZE - layout.stagger(index);
                assert!(stack >= layout.largest());
                assert_eq!(layout.stagger(index) % LINE, 0);
                assert!(layout.top_page(index) >= GUARD_SIZE);
            }
            assert!(layout.largest() >= layout.slot_size() * 7 / 8 - GUARD_SIZE - 2048);
            let mut pages: Vec<usize> =
                (0..layout.pages() as u32).map(|i| layout.stagger(i) / PAGE).collect();
            pages.sort_unstable();
            assert!(pages.into_iter().eq(0..layout.pages()), "every page has its turn");
        }
    }

    #[test]
    fn guard_shares_a_page_table_page_with_a_top() {
        for shift in 16..=30 {
            let layout = Layout::new(1 << shift, 1);
            let base = 10 * PAGE_TABLE_SPAN + layout.phase();
            let span = |address: usize| address / PAGE_TABLE_SPAN;
            let mut pages: Vec<usize> = Vec::new();
            for index in 0..64 {
                let slot = base + layout.place(index).1;
                pages.extend([span(slot), span(slot + layout.top_page(index))]);
            }
            pages.sort_unstable();
            pages.dedup();
            let ideal = (64 * layout.slot_size()).div_ceil(PAGE_TABLE_SPAN).min(64);
            assert!(
                pages.len() <= ideal + 1,
                "{} pages for 64 slots of {} bytes",
                pages.len(),
                1u64 << shift
            );
        }
    }
}
