//! Where a slot lies: arithmetic only, no memory.
//!
//! **Segments.** Slots are numbered from 0. Eight segments of `first` slots come first; then each group of
//! four doubles the length, so that a segment adds a quarter at the most to the fourth and later ones, and 64
//! segments hold `first` x 2^17 slots. A number's segment follows from its leading bit and the two bits
//! below it, like the exponent and mantissa of a small float:
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
//! **Stagger.** Tops at a constant stride put every hot line, and every page-table entry, in the same
//! cache sets. Slot `i` loses 64 B x (i mod 32) and, where the slot is large enough, 32 KiB x (i mod
//! steps): 32 KiB of address space is one cache line of page-table entries. `steps` is chosen so that no
//! more than an eighth of the slot goes: 32 from 8 MiB up, 2 at 512 KiB, 1 (none) from 256 KiB down, where
//! several slots share a page-table page and so spread over its lines anyway.

use gvt_traits::{GUARD_SIZE, MIN_SLOT_SIZE};

/// What one page-table page maps.
pub(crate) const PAGE_TABLE_SPAN: usize = 2 << 20;
/// Segments at the most.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// Slots of one pool at the most; their numbers fit into 31 bits.
const MOST_SLOTS: usize = 1 << 31;
const PAGE: usize = 4096;
const LINE: usize = 64;
const LINE_STEPS: usize = 32;
const PAGE_STEP: usize = 32 << 10;
const MAX_PAGE_STEPS: usize = 32;
/// Address space of the first segment, if slots are not larger than an eighth of it.
const FIRST_BYTES: usize = 512 << 20;
const PHASE: usize = PAGE_TABLE_SPAN - GUARD_SIZE;

/// How slots lie in segments; constant for one pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    slot_shift: u32,
    first_shift: u32,
    page_steps: usize,
}

impl Layout {
    /// A layout for slots of `slot_size` (a power of two, at least [`MIN_SLOT_SIZE`]) with room for
    /// `slots` of them.
    pub(crate) fn new(slot_size: usize, slots: usize) -> Self {
        assert!(slot_size.is_power_of_two() && slot_size >= MIN_SLOT_SIZE);
        let by_bytes = (FIRST_BYTES / slot_size).clamp(8, 1024);
        let by_count = slots.min(MOST_SLOTS).div_ceil(1 << (MAX_SEGMENTS / 4 + 1)).next_power_of_two();
        Layout {
            slot_shift: slot_size.trailing_zeros(),
            first_shift: by_bytes.max(by_count).trailing_zeros(),
            page_steps: (slot_size / 8 / PAGE_STEP).clamp(1, MAX_PAGE_STEPS),
        }
    }

    pub(crate) fn slot_size(&self) -> usize {
        1 << self.slot_shift
    }

    /// The number of segment `k`'s first slot.
    pub(crate) fn segment_start(&self, k: usize) -> usize {
        let unit = if k < 4 { k } else { (4 + (k & 3)) << (k / 4 - 1) };
        unit << self.first_shift
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
        LINE * (index % LINE_STEPS) + PAGE_STEP * (index & (self.page_steps - 1))
    }

    /// The stack that every slot has, whatever its stagger.
    pub(crate) fn largest(&self) -> usize {
        let stagger = LINE * (LINE_STEPS - 1) + PAGE_STEP * (self.page_steps - 1);
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
                assert!(layout.segment_start(MAX_SEGMENTS) >= slots);
                for k in 0..MAX_SEGMENTS {
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
