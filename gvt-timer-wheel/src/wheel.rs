//! One hierarchical timing wheel (Varghese and Lauck, SOSP 1987), without a tick.
//!
//! **Layout.** Time is counted in ticks of 2^`shift` ns. A level has 64 lists, and a bitmap of those
//! that are not empty; a list of level `n` covers 64^`n` ticks. An entry due at tick `t` lies on
//! the level of the highest digit, base 64, in which `t` differs from `elapsed`, on the list of
//! that digit of `t`. As many levels as it takes for any `u64`: no entry is out of range.
//!
//! ```text
//! elapsed       = … 3 17 42   (digits, base 64)
//! due at        = … 3 17 50   level 0, list 50: that very tick
//!                 … 3 20  9   level 1, list 20: with all of … 3 20 *
//!                 … 5  0  0   level 2, list 5:  with all of … 5 * *
//! ```
//!
//! **Invariants.**
//! - **W1**: a list that is not empty has a digit above `elapsed`'s on its level, and all digits further
//!   up are equal; so the lowest list of the lowest level comes before all others.
//! - **W2**: an entry whose tick is not after `elapsed` is on the list [`Wheel::due`].
//! - **W3**: `min` of a list is no later than the ticks of its entries, and exact unless an entry was
//!   cancelled; on level 0 it is exact. So the wheel can tell when something is *due*, not only
//!   when a list is to be looked at, and nobody wakes to move entries about (T6).
//! - **W4**: `pending` is a list that `elapsed` has entered, no longer in the bitmaps, and is being
//!   emptied. Lower levels were empty when it was entered.
//!
//! **Expiry.** When the first list's `min` is due, `elapsed` jumps into that list, to the present or
//! to the list's end, and its entries go out or down, each straight to where it belongs as
//! seen from there. The jump skips no list (W1), and an idle stretch costs nothing. Work is cut into
//! turns, between which the lock is free; W4 is what holds in between. Times may go back from
//! call to call: `elapsed` does not, and what is not due for an earlier time waits on `due`.
//!
//! **Never early, by construction**: an entry goes out only where its deadline is compared with
//! the present (T2). Ticks round up, so that all of a list of level 0 is due at once.
//!
//! **Rejected.** Rounding far deadlines to their level's grain, as Linux does: late by an eighth.
//! Marking cancelled entries: they pile up (T4). Heads without `min`: an idle worker woke up to three
//! times for nothing before a deadline seconds away.
//!
//! **Limits.** Equal deadlines mostly come out in order of insertion, but not if one of them
//! came while a list was being moved. A cancelled entry that was the first of its list may cost
//! one wake-up for nothing.

use arrayvec::ArrayVec;
use gvt_traits::TimerEntry;

use crate::slab::{NIL, Slab};

/// Entries that are taken out in one turn of the lock: 1 KiB of stack.
const BATCH: usize = 32;

/// Expired entries on their way to the sink.
pub(crate) type Batch = ArrayVec<TimerEntry, BATCH>;

/// Lists on a level: a digit, and the bits of a word.
const SLOTS: usize = 64;
const DIGIT_BITS: u32 = 6;
const MAX_LEVELS: usize = 11;
/// Entries that are moved down in one turn of the lock.
const MOVES: usize = 256;
const NO_LIST: usize = usize::MAX;

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    /// W3. Means nothing while the list is empty.
    min: u64,
}

/// One shard's deadlines.
pub(crate) struct Wheel {
    slab: Slab,
    /// Level by level, then `due`.
    lists: Box<[List]>,
    occupied: [u64; MAX_LEVELS],
    /// Bit `n`: level `n` has a list that is not empty.
    levels: u32,
    elapsed: u64,
    pending: usize,
    shift: u32,
}

impl Wheel {
    /// A wheel whose ticks are 2^`shift` ns.
    pub(crate) fn new(shift: u32) -> Self {
        let levels = (u64::BITS - shift).div_ceil(DIGIT_BITS) as usize;
        Wheel {
            slab: Slab::default(),
            lists: vec![List { head: NIL, tail: NIL, min: 0 }; levels * SLOTS + 1].into(),
            occupied: [0; MAX_LEVELS],
            levels: 0,
            elapsed: 0,
            pending: NO_LIST,
            shift,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Files `entry`; returns its place, its number, and when it asks to be taken out.
    pub(crate) fn insert(&mut self, entry: TimerEntry) -> (u32, u64, u64) {
        let (place, number) = self.slab.insert(entry);
        let tick = self.tick(entry.deadline_ns);
        self.file(place, tick);
        (place, number, self.time(tick))
    }

    /// Takes out the entry in `place` if it is the one with this number. Also says whether
    /// [`earliest_ns`](Self::earliest_ns) may have changed.
    pub(crate) fn cancel(&mut self, place: u32, number: u64) -> Option<(TimerEntry, bool)> {
        if !self.slab.holds(place, number) {
            return None;
        }
        let emptied = self.unlink(place);
        Some((self.slab.remove(place), emptied))
    }

    /// When something is to be taken out next (W3); `u64::MAX` also for never.
    pub(crate) fn earliest_ns(&self) -> u64 {
        let lists = [Some(self.due()), Some(self.pending), self.first()];
        lists
            .into_iter()
            .flatten()
            .filter_map(|list| self.lists.get(list))
            .filter(|list| list.head != NIL)
            .map(|list| self.time(list.min))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Takes out entries that are due until `batch` is full, or enough was done for one turn of the
    /// lock. Returns whether nothing that is due is left.
    pub(crate) fn take_due(&mut self, now_ns: u64, batch: &mut Batch) -> bool {
        let target = now_ns >> self.shift;
        let mut moves = 0;
        loop {
            if !self.take_from_due(now_ns, target, batch) {
                return false;
            }
            while let Some(place) =
                self.lists.get(self.pending).map(|list| list.head).filter(|&head| head != NIL)
            {
                if batch.is_full() || moves == MOVES {
                    return false;
                }
                self.unlink(place);
                let deadline_ns = self.slab.node(place).deadline_ns;
                if deadline_ns <= now_ns {
                    batch.push(self.slab.remove(place));
                } else {
                    self.file(place, self.tick(deadline_ns));
                    moves += 1;
                }
            }
            self.pending = NO_LIST;
            match self.first() {
                Some(list) if self.lists[list].min <= target => self.enter(list, target),
                first => {
                    // Up to the first list, no entry's level or digit depends on `elapsed` (W1);
                    // the closer it is to the present, the less later entries will have to move.
                    let latest = first.map_or(target, |list| target.min(self.start(list) - 1));
                    self.elapsed = self.elapsed.max(latest);
                    return true;
                }
            }
        }
    }

    /// Takes out what is due of the list `due`. Returns `false` if there was more than fits.
    fn take_from_due(&mut self, now_ns: u64, target: u64, batch: &mut Batch) -> bool {
        let due = self.due();
        if self.lists[due].head == NIL || self.lists[due].min > target {
            return true;
        }
        let (mut place, mut min) = (self.lists[due].head, u64::MAX);
        while place != NIL {
            let node = self.slab.node(place);
            let (next, deadline_ns) = (node.next, node.deadline_ns);
            if deadline_ns > now_ns {
                // Another call's present was later than this one's, or time ends within this tick.
                min = min.min(self.tick(deadline_ns));
            } else if batch.is_full() {
                return false;
            } else {
                self.unlink(place);
                batch.push(self.slab.remove(place));
            }
            place = next;
        }
        self.lists[due].min = min;
        true
    }

    /// Makes `list`, the first one, pending, and `elapsed` as much of `target` as lies within (W4).
    fn enter(&mut self, list: usize, target: u64) {
        let level = list / SLOTS;
        let end = self.start(list) | ((1 << (level as u32 * DIGIT_BITS)) - 1);
        self.elapsed = target.min(end);
        self.pending = list;
        self.clear(list);
    }

    /// The first tick of a list that is in the bitmaps.
    fn start(&self, list: usize) -> u64 {
        let (level, digit) = ((list / SLOTS) as u32, (list % SLOTS) as u64);
        let above = (level + 1) * DIGIT_BITS;
        let prefix = if above < u64::BITS { self.elapsed >> above << above } else { 0 };
        prefix | digit << (level * DIGIT_BITS)
    }

    /// The list that comes before all others in the bitmaps (W1).
    fn first(&self) -> Option<usize> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        Some(level * SLOTS + self.occupied[level].trailing_zeros() as usize)
    }

    fn due(&self) -> usize {
        self.lists.len() - 1
    }

    /// The tick at which a deadline has passed. The last tick of time stands for what lies beyond
    /// it too.
    #[inline]
    fn tick(&self, deadline_ns: u64) -> u64 {
        let down = deadline_ns >> self.shift;
        let up = down + u64::from(down << self.shift != deadline_ns);
        up.min(u64::MAX >> self.shift)
    }

    /// When a tick begins. By then the deadlines that round to it have passed; the last tick, which
    /// stands for later deadlines too, is said to begin when they have.
    #[inline]
    fn time(&self, tick: u64) -> u64 {
        if tick == u64::MAX >> self.shift { u64::MAX } else { tick << self.shift }
    }

    /// Puts a node that is on no list where its tick belongs, as seen from `elapsed`.
    #[inline]
    fn file(&mut self, place: u32, tick: u64) {
        let list = if tick <= self.elapsed {
            self.due()
        } else {
            let level = (tick ^ self.elapsed).ilog2() / DIGIT_BITS;
            let digit = tick >> (level * DIGIT_BITS) & (SLOTS as u64 - 1);
            level as usize * SLOTS + digit as usize
        };
        let List { tail, .. } = self.lists[list];
        let node = self.slab.node_mut(place);
        node.list = list as u16;
        node.next = NIL;
        node.prev = tail;
        self.lists[list].tail = place;
        if tail == NIL {
            self.lists[list].head = place;
            self.lists[list].min = tick;
            if list != self.due() {
                self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
                self.levels |= 1 << (list / SLOTS);
            }
        } else {
            self.slab.node_mut(tail).next = place;
            self.lists[list].min = self.lists[list].min.min(tick);
        }
    }

    /// Takes a node off its list; returns whether that is empty now.
    #[inline]
    fn unlink(&mut self, place: u32) -> bool {
        let node = self.slab.node(place);
        let (list, next, prev) = (usize::from(node.list), node.next, node.prev);
        if next == NIL {
            self.lists[list].tail = prev;
        } else {
            self.slab.node_mut(next).prev = prev;
        }
        if prev == NIL {
            self.lists[list].head = next;
        } else {
            self.slab.node_mut(prev).next = next;
        }
        let emptied = self.lists[list].head == NIL;
        if emptied {
            self.clear(list);
        }
        emptied
    }

    /// Takes a list out of the bitmaps.
    fn clear(&mut self, list: usize) {
        if list == self.due() {
            return;
        }
        let level = list / SLOTS;
        self.occupied[level] &= !(1 << (list % SLOTS));
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gvt_traits::{GvtId, TimerType, WakeTicket, WorkerId};

    fn entry(deadline_ns: u64) -> TimerEntry {
        TimerEntry {
            deadline_ns,
            ticket: WakeTicket { sequence: deadline_ns, id: GvtId::NONE },
            affinity: WorkerId::NONE,
            kind: TimerType::Sleep,
        }
    }

    fn take(wheel: &mut Wheel, now_ns: u64) -> Vec<u64> {
        let mut out = Vec::new();
        loop {
            let mut batch = Batch::new();
            let done = wheel.take_due(now_ns, &mut batch);
            out.extend(batch.iter().map(|entry| entry.deadline_ns));
            check(wheel);
            if done {
                return out;
            }
        }
    }

    /// W1 to W4, and the links.
    fn check(wheel: &Wheel) {
        let mut count = 0;
        for (index, list) in wheel.lists.iter().enumerate() {
            let (level, digit) = (index / SLOTS, (index % SLOTS) as u64);
            let (mut place, mut prev, mut least) = (list.head, NIL, u64::MAX);
            while place != NIL {
                let node = wheel.slab.node(place);
                assert_eq!((usize::from(node.list), node.prev), (index, prev));
                let tick = wheel.tick(node.deadline_ns);
                least = least.min(tick);
                if index == wheel.due() {
                    assert!(tick <= wheel.elapsed, "W2");
                } else if index != wheel.pending {
                    assert!(tick > wheel.elapsed, "W2");
                    assert_eq!((tick ^ wheel.elapsed).ilog2() / DIGIT_BITS, level as u32, "W1");
                    assert_eq!(tick >> (level as u32 * DIGIT_BITS) & 63, digit, "W1");
                }
                (prev, place, count) = (place, node.next, count + 1);
            }
            assert_eq!(list.tail, prev);
            assert!(prev == NIL || list.min <= least, "W3");
            if index != wheel.due() {
                let marked = wheel.occupied[level] >> digit & 1 == 1;
                assert_eq!(marked, list.head != NIL && index != wheel.pending);
                assert_eq!(wheel.levels >> level & 1 == 1, wheel.occupied[level] != 0);
            }
        }
        assert_eq!(count, wheel.len());
    }

    #[test]
    fn the_diagram() {
        let mut wheel = Wheel::new(0);
        let time = |a: u64, b: u64, c: u64| (a << 12) + (b << 6) + c;
        assert_eq!(take(&mut wheel, time(3, 17, 42)), []);
        for (deadline, level, digit) in
            [(time(3, 17, 50), 0, 50), (time(3, 20, 9), 1, 20), (time(5, 0, 0), 2, 5)]
        {
            let (place, ..) = wheel.insert(entry(deadline));
            assert_eq!(usize::from(wheel.slab.node(place).list), level * SLOTS + digit);
        }
        check(&wheel);
        assert_eq!(take(&mut wheel, time(3, 20, 8)), [time(3, 17, 50)]);
        assert_eq!(take(&mut wheel, time(3, 20, 9)), [time(3, 20, 9)]);
        assert_eq!(take(&mut wheel, time(9, 0, 0)), [time(5, 0, 0)]);
    }

    #[test]
    fn any_deadline_on_any_shift() {
        for shift in [0, 1, 5, 6, 12, 16, 30] {
            for start in [0, 1 << 20, 1 << 50, u64::MAX / 3] {
                let mut wheel = Wheel::new(shift);
                take(&mut wheel, start);
                let deadlines =
                    (0..64).map(|bit| start.saturating_add(1 << bit)).chain([0, u64::MAX - 1, u64::MAX]);
                let mut count = 0;
                for deadline in deadlines {
                    let (.., asked) = wheel.insert(entry(deadline));
                    assert!(asked >= deadline && asked - deadline < 1 << shift);
                    check(&wheel);
                    count += 1;
                }
                while wheel.len() > 0 {
                    let next = wheel.earliest_ns();
                    if next > 0 && next < u64::MAX {
                        assert_eq!(take(&mut wheel, next - 1).len(), 0, "asked for {next}");
                    }
                    let out = take(&mut wheel, next);
                    assert!(!out.is_empty(), "asked for {next}");
                    count -= out.len();
                }
                assert_eq!(count, 0);
            }
        }
    }

    #[test]
    fn a_call_that_is_behind_finds_the_list_half_moved() {
        let mut wheel = Wheel::new(0);
        for n in 0..1_000 {
            wheel.insert(entry(100_000 + n * 7));
        }
        let mut batch = Batch::new();
        assert!(!wheel.take_due(103_000, &mut batch));
        assert_ne!(wheel.pending, NO_LIST);
        check(&wheel);
        // Not due for the call that is behind, and all of it for the call that is ahead.
        let taken = batch.len();
        assert_eq!(take(&mut wheel, 99_999), []);
        let on_time = take(&mut wheel, 103_000);
        assert_eq!(taken + on_time.len(), 429);
        assert_eq!(take(&mut wheel, 200_000).len(), 1_000 - 429);
    }

    #[test]
    fn cancelling_empties_the_bitmaps() {
        let mut wheel = Wheel::new(12);
        let handles: Vec<_> = (0..64).map(|bit| wheel.insert(entry(1 << bit))).collect();
        for (place, number, _) in handles {
            assert!(wheel.cancel(place, number).is_some());
            assert!(wheel.cancel(place, number).is_none());
            check(&wheel);
        }
        assert_eq!((wheel.len(), wheel.levels, wheel.earliest_ns()), (0, 0, u64::MAX));
    }
}
