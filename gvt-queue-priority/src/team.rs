//! The local end of one worker among several: a deque for each level, and bitmaps that show which worker has
//! threads of which level.
//!
//! ```text
//!   search, for each level from the most urgent:   own deque ─► global list ─► other workers' deques
//!                                                   `mine`       `Lists`        `Board::holders[level]`
//! ```
//!
//! **Hazard 1: a bit is clear beside a queued thread**, and a worker sleeps or runs something less urgent.
//! **Protocol.** Only the owner pushes to its deques, and only the owner writes its bits. It sets a level's
//! bit behind the first push, and takes it back when it has found the deque empty itself. Thieves leave it
//! alone: a bit may be set beside an empty deque, until the owner's next pop that comes as far as that level,
//! which costs others a vain look. Critical and High bits are taken back at once, since all workers look at
//! these at each pop; the others when the worker turns to Low or finds nothing.
//!
//! **Hazard 2: a thread is being moved and no worker sees it.** No thread is ever being moved: threads leave
//! a deque or list singly, to be run.
//!
//! **Hazard 3: within a level a thread starves (Q4).** At each level every [`TURN`]th pop looks at the global
//! list first, and every [`PATROL`]th of these at another worker, in rotation. The worker's own deque comes
//! first in all others.
//!
//! **The fence (Q6)** is [`PushFence::ByRuntime`](gvt_traits::PushFence): deques publish with `Release`.
//!
//! **Rejected.** *Critical and High in the global lists only*: simpler and as visible, but a program whose
//! threads are all High then meets on one lock. *Batch stealing*: what is on its way needs announcing (as in
//! `gvt-queue-go`), and a batch of one level delays what is more urgent elsewhere.
//!
//! **Evidence.** loom `nobody_sleeps_beside_*`, `bits_survive_theft`; mutants `NotAnnounced`,
//! `StillAnnounced`, `ThiefRetracts`, `NoFence` fail them.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use gvt_traits::{Priority, Runnable};

use crate::lists::Lists;
use crate::policy::{Lift, Policy};
use crate::sync::{AtomicU64, Mutant, Steal, Stealer, Worker, mutant};
use crate::{PATROL, TURN};

/// Races for one deque that a thief loses before it goes on to the next.
const RACES: usize = 4;

const LOW: usize = Priority::Low as usize;

/// What all workers see: which of them have threads of which level.
#[repr(align(128))]
pub(crate) struct Board {
    /// Bit `worker` of `holders[level]` is set while that worker may have threads of that level.
    holders: [AtomicU64; 4],
    workers: Vec<[Stealer<Runnable>; 4]>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Board { holders: std::array::from_fn(|_| AtomicU64::new(0)), workers: Vec::new() }
    }

    #[inline]
    fn holders(&self, level: usize) -> u64 {
        // ORDERING O2: Acquire pairs with the Release of `announce`: a worker that sees the bit finds the
        // thread, or that somebody else has taken it.
        self.holders[level].load(Acquire)
    }

    /// Takes the first thread of `level` from one of `holders`, the first behind `from` in rotation, and says
    /// whose it was.
    #[cold]
    fn steal(&self, level: usize, holders: u64, from: usize) -> Option<(usize, Runnable)> {
        let behind = !0u64 << (from % 64) << 1;
        [holders & behind, holders & !behind].into_iter().flat_map(Bits).find_map(|worker| {
            let victim = &self.workers[worker][level];
            for _ in 0..RACES {
                match victim.steal() {
                    Steal::Success(task) => return Some((worker, task)),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
            if mutant(Mutant::ThiefRetracts) {
                // ORDERING O2: goes on with the release sequences of others' `announce`.
                self.holders[level].fetch_and(!(1 << worker), AcqRel);
            }
            None
        })
    }

    /// Whether there is a thread of a level from `first` on.
    pub(crate) fn has_work(&self, first: usize) -> bool {
        (first..4)
            .any(|level| Bits(self.holders(level)).any(|worker| !self.workers[worker][level].is_empty()))
    }

    pub(crate) fn len(&self) -> usize {
        self.workers.iter().flatten().map(Stealer::len).sum()
    }
}

/// The places of the set bits.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit)
    }
}

pub(crate) struct Member<P> {
    deques: [Worker<Runnable>; 4],
    /// Levels of `deques` that may hold something.
    mine: usize,
    /// Levels at which this worker's bit on the board is set.
    announced: usize,
    /// Pops at each level until the global list, or another worker, has its turn.
    turns: [u32; 4],
    /// Turns at each level until another worker has one.
    patrols: [u32; 4],
    lift: Lift<P>,
    me: usize,
    /// The worker that was stolen from last.
    victim: usize,
    /// The most urgent level that this worker may run.
    first: usize,
}

impl<P: Policy> Member<P> {
    /// The end of the next worker of `board`. `only_low`: it runs only Low threads; `lifted`: the least
    /// urgent level that it lifts.
    pub(crate) fn join(board: &mut Board, only_low: bool, lifted: Priority) -> Self {
        let deques: [Worker<Runnable>; 4] = std::array::from_fn(|_| Worker::new_fifo());
        let me = board.workers.len();
        board.workers.push(std::array::from_fn(|level| deques[level].stealer()));
        Member {
            deques,
            mine: 0,
            announced: 0,
            turns: [TURN; 4],
            patrols: [PATROL; 4],
            lift: Lift::new(lifted),
            me,
            victim: me,
            first: if only_low { LOW } else { 0 },
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, task: Runnable, board: &Board, global: &Lists) {
        let level = task.priority() as usize;
        if level < self.first {
            // It could not take it out again.
            return global.push(task);
        }
        self.deques[level].push(task);
        self.mine |= 1 << level;
        if self.announced & 1 << level == 0 {
            self.announce(level, board);
        }
    }

    #[cold]
    fn announce(&mut self, level: usize, board: &Board) {
        self.announced |= 1 << level;
        if mutant(Mutant::NotAnnounced) {
            return;
        }
        // ORDERING O2: Release, behind the push; partner `Board::holders`. An exchange, since others' bits
        // are in the same word.
        board.holders[level].fetch_or(1 << self.me, AcqRel);
    }

    /// Takes back this worker's bits at `levels`, whose deques it has found empty.
    #[cold]
    fn retract(&mut self, levels: usize, board: &Board) {
        for level in Bits(levels as u64) {
            // ORDERING O2: goes on with the release sequences of others' `announce`.
            board.holders[level].fetch_and(!(1 << self.me), AcqRel);
        }
        if !mutant(Mutant::StillAnnounced) {
            self.announced &= !levels;
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self, board: &Board, global: &Lists) -> Option<Runnable> {
        // The usual case, in which nothing anywhere is more urgent than what is here.
        let level = self.mine.trailing_zeros() as usize;
        if level < LOW && self.turns[level] > 0 && !self.lift.is_due() {
            let above = (1 << level) - 1;
            // O2.
            let elsewhere = board.holders[..level].iter().fold(0, |all, holders| all | holders.load(Acquire));
            if global.levels() & above == 0
                && elsewhere & !(1 << self.me) == 0
                && let Some(task) = self.deques[level].pop()
            {
                self.turns[level] -= 1;
                self.lift.count(level);
                return Some(task);
            }
        }
        self.search(board, global)
    }

    #[inline(never)]
    fn search(&mut self, board: &Board, global: &Lists) -> Option<Runnable> {
        let (mine, me) = (self.mine, self.me);
        let critical = || mine & 1 != 0 || global.has(0) || board.holders(0) & !(1 << me) != 0;
        let lifted = self.lift.next(critical).filter(|&level| level > self.first);
        if let Some(level) = lifted
            && let Some(task) = self.pop_from(level, board, global)
        {
            return Some(task);
        }
        self.pop_from(self.first, board, global)
    }

    /// The most urgent from level `first` on.
    #[inline]
    fn pop_from(&mut self, first: usize, board: &Board, global: &Lists) -> Option<Runnable> {
        for level in first..4 {
            if level == LOW && self.announced & !self.mine != 0 {
                self.retract(self.announced & !self.mine, board);
            }
            if let Some(task) = self.pop_level(level, board, global) {
                self.lift.popped(level);
                return Some(task);
            }
        }
        // Low was found empty behind the look above.
        if self.announced & !self.mine != 0 {
            self.retract(self.announced & !self.mine, board);
        }
        None
    }

    #[inline]
    fn pop_level(&mut self, level: usize, board: &Board, global: &Lists) -> Option<Runnable> {
        if self.turns[level] == 0
            && let Some(task) = self.take_turn(level, board, global)
        {
            return Some(task);
        }
        let mut task = None;
        if self.mine & 1 << level != 0 {
            task = self.deques[level].pop();
            if task.is_none() {
                self.mine &= !(1 << level);
                if level <= Priority::High as usize {
                    self.retract(1 << level, board);
                }
            }
        }
        if task.is_none() {
            task = global.pop(level);
        }
        if task.is_some() {
            self.turns[level] -= 1;
            return task;
        }
        self.steal(level, board)
    }

    #[cold]
    fn take_turn(&mut self, level: usize, board: &Board, global: &Lists) -> Option<Runnable> {
        self.turns[level] = TURN;
        self.patrols[level] -= 1;
        if self.patrols[level] > 0 {
            return global.pop(level);
        }
        self.patrols[level] = PATROL;
        self.steal(level, board)
    }

    #[inline]
    fn steal(&mut self, level: usize, board: &Board) -> Option<Runnable> {
        let holders = board.holders(level) & !(1 << self.me);
        if holders == 0 {
            return None;
        }
        let (victim, task) = board.steal(level, holders, self.victim)?;
        self.victim = victim;
        Some(task)
    }

    pub(crate) fn has_work(&self, board: &Board, global: &Lists) -> bool {
        self.deques[self.first..].iter().any(|deque| !deque.is_empty())
            || global.levels() >> self.first != 0
            || board.has_work(self.first)
    }
}

impl<P> Drop for Member<P> {
    fn drop(&mut self) {
        let deques = &self.deques;
        crate::left_behind(
            deques.iter().flat_map(|deque| std::iter::from_fn(|| deque.pop())),
            "a worker's deques",
        );
    }
}
