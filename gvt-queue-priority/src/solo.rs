//! The end of the only worker: nobody steals, so nothing is atomic. A list and a bit a level.

use std::collections::VecDeque;
use std::ptr::NonNull;

use gvt_traits::{Metadata, Priority, Runnable};

use crate::TURN;
use crate::lists::Lists;
use crate::policy::{Lift, Policy};

pub(crate) struct Solo<P> {
    lists: [VecDeque<Runnable>; 4],
    /// Bit `level` is set while list `level` is not empty.
    levels: usize,
    /// How many there are in all.
    len: usize,
    /// Pops at each level until the global list has its turn.
    turns: [u32; 4],
    lift: Lift<P>,
}

impl<P: Policy> Solo<P> {
    pub(crate) fn new() -> Self {
        Solo {
            lists: std::array::from_fn(|_| VecDeque::with_capacity(64)),
            levels: 0,
            len: 0,
            turns: [TURN; 4],
            lift: Lift::new(Priority::Low),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, task: Runnable) {
        let level = task.priority() as usize;
        self.lists[level].push_back(task);
        self.levels |= 1 << level;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self, global: &Lists) -> Option<Runnable> {
        let all = self.levels | global.levels();
        if all == 0 {
            return None;
        }
        let first = all.trailing_zeros() as usize;
        let level = match self.lift.next(|| first == 0) {
            Some(lifted) if all >> lifted != 0 => lifted + (all >> lifted).trailing_zeros() as usize,
            _ => first,
        };
        self.lift.popped(level);
        self.turns[level] -= 1;
        if self.turns[level] == 0 || self.levels & 1 << level == 0 {
            self.turns[level] = TURN;
            if let Some(task) = global.pop(level) {
                return Some(task);
            }
        }
        // Here if not there: nobody but this worker takes threads out.
        let list = &mut self.lists[level];
        let task = list.pop_front();
        self.len -= usize::from(task.is_some());
        if list.is_empty() {
            self.levels &= !(1 << level);
        }
        task
    }

    pub(crate) fn has_work(&self) -> bool {
        self.levels != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn upcoming(&self, distance: usize) -> Option<NonNull<Metadata>> {
        let level = self.levels.trailing_zeros() as usize;
        self.lists.get(level)?.get(distance).map(Runnable::as_ptr)
    }
}

impl<P> Drop for Solo<P> {
    fn drop(&mut self) {
        crate::left_behind(self.lists.iter_mut().flat_map(|list| list.drain(..)), "a worker's lists");
    }
}
