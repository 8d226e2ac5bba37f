//! Q4: who is passed over, and for how long.
//!
//! Every [`Order`] promises arrival order within a level, with deviations under some, so the laws of fairness
//! use one level and hold for all. Levels have laws of their own, which ask [`ReadyQueue::ORDER`] what to
//! expect.
//!
//! A bound is whatever the queue chose; the laws only demand that it is not absurd: [`allowance`].

use std::collections::VecDeque;

use gvt_traits::{Factory, Order, Priority, PushKind, ReadyQueue};

use super::rig::{Dice, KINDS, Rig, demand, guarded};
use crate::{Verdict, Violation};

/// Pops that may pass over a thread while `others` are queued: far more than any sensible bound, and far
/// fewer than "for ever".
fn allowance(workers: usize, others: usize) -> usize {
    20_000 * workers + 500 * others
}

/// Threads that a law waits for while others come and go.
struct Waiting {
    left: Vec<bool>,
    count: usize,
    pops: usize,
    allowed: usize,
}

impl Waiting {
    fn new(threads: std::ops::Range<usize>, workers: usize) -> Self {
        let (count, end) = (threads.len(), threads.end);
        let left = (0..end).map(|index| threads.contains(&index)).collect();
        Waiting { left, count, pops: 0, allowed: allowance(workers, count) }
    }

    /// Notes a pop; an error if it was one too many.
    fn popped(&mut self, index: usize, scene: &str) -> Verdict {
        self.pops += 1;
        if self.left.get_mut(index).is_some_and(std::mem::take) {
            self.count -= 1;
        }
        demand(self.count == 0 || self.pops < self.allowed, "Q4", || {
            format!("{scene}: {} threads still wait after {} pops", self.count, self.pops)
        })
    }

    fn contains(&self, index: usize) -> bool {
        self.left.get(index).copied().unwrap_or(false)
    }

    fn is_over(&self) -> bool {
        self.count == 0
    }
}

fn must_pop<Q: ReadyQueue>(rig: &mut Rig<Q>, worker: usize) -> Result<usize, Violation> {
    rig.pop(worker)?.ok_or_else(|| Violation::new("Q3", "nothing was popped though threads were queued"))
}

/// Q4: two threads that wake each other for ever do not keep others from running, whether these were pushed
/// here, pushed at another worker or from outside.
pub fn q4_two_wakers<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2, 4] {
            for kind in [PushKind::Wake, PushKind::Spawn, PushKind::Joined] {
                for place in ["here", "at another worker", "outside"] {
                    let mut rig = Rig::normal(factory, workers, 42)?;
                    for index in 0..40 {
                        match place {
                            "here" => rig.push(0, index, KINDS[index % KINDS.len()]),
                            "outside" => rig.inject(index),
                            _ => rig.push(workers - 1, index, KINDS[index % KINDS.len()]),
                        }
                    }
                    rig.push(0, 40, kind);
                    let mut waiting = Waiting::new(0..40, workers);
                    while !waiting.is_over() {
                        let index = must_pop(&mut rig, 0)?;
                        if index >= 40 {
                            // It wakes its partner and blocks.
                            rig.push(0, 81 - index, kind);
                        }
                        waiting.popped(
                            index,
                            &format!("beside two threads that {kind:?} each other, {place}"),
                        )?;
                    }
                    rig.finish()?;
                }
            }
        }
        Ok(())
    })
}

/// Q4: of many threads that yield in turn each gets on, however many they are.
pub fn q4_yielders<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            for (count, pushed_by) in [(10, 0), (700, 0), (3_000, 0), (3_000, 1)] {
                let mut rig = Rig::normal(factory, workers, count)?;
                for index in 0..count {
                    if pushed_by == 0 { rig.push(0, index, PushKind::Spawn) } else { rig.inject(index) }
                }
                for _ in 0..3 {
                    let mut waiting = Waiting::new(0..count, workers);
                    while !waiting.is_over() {
                        let index = must_pop(&mut rig, 0)?;
                        rig.push(0, index, PushKind::Yield);
                        waiting.popped(index, &format!("of {count} threads that yield"))?;
                    }
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4: a thread from outside gets on though the worker's own threads yield for ever.
pub fn q4_outside_beside_yielders<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            for yielders in [1, 20, 1_000] {
                let mut rig = Rig::normal(factory, workers, yielders + 3)?;
                (3..yielders + 3).for_each(|index| rig.push(0, index, PushKind::Spawn));
                (0..3).for_each(|index| rig.inject(index));
                let mut waiting = Waiting::new(0..3, workers);
                waiting.allowed += allowance(0, yielders);
                while !waiting.is_over() {
                    let index = must_pop(&mut rig, 0)?;
                    if index >= 3 {
                        rig.push(0, index, PushKind::Yield);
                    }
                    waiting.popped(index, &format!("from outside, beside {yielders} threads that yield"))?;
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4: a worker's own threads get on though new ones keep coming from outside.
pub fn q4_own_beside_flood<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            for kind in KINDS {
                let mut rig = Rig::normal(factory, workers, 303)?;
                (0..3).for_each(|index| rig.push(0, index, kind));
                (3..303).for_each(|index| rig.inject(index));
                let mut waiting = Waiting::new(0..3, workers);
                waiting.allowed += allowance(0, 300);
                while !waiting.is_over() {
                    let index = must_pop(&mut rig, 0)?;
                    if index >= 3 {
                        rig.inject(index);
                    }
                    waiting.popped(index, &format!("pushed with {kind:?}, beside a flood from outside"))?;
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4: threads get on though another spawns two, waits for one and then for the other, over and over.
pub fn q4_beside_a_family<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    const PARENT: usize = 20;
    guarded(|| {
        for workers in [1, 2] {
            for place in ["here", "outside"] {
                let mut rig = Rig::normal(factory, workers, PARENT + 3)?;
                rig.push(0, PARENT, PushKind::Spawn);
                for index in 0..PARENT {
                    if place == "here" { rig.push(0, index, PushKind::Yield) } else { rig.inject(index) }
                }
                let mut waiting = Waiting::new(0..PARENT, workers);
                let mut awaited = PARENT + 2;
                while !waiting.is_over() {
                    let index = must_pop(&mut rig, 0)?;
                    if index == PARENT {
                        if awaited == PARENT + 1 && rig.is_queued(PARENT + 2) {
                            awaited = PARENT + 2;
                        } else {
                            (PARENT + 1..=PARENT + 2).for_each(|child| rig.push(0, child, PushKind::Spawn));
                            awaited = PARENT + 1;
                        }
                        rig.expedite(0, awaited);
                    } else if index == awaited {
                        rig.push(0, PARENT, PushKind::Joined);
                    }
                    waiting.popped(index, &format!("pushed {place}, beside a family"))?;
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4: threads get on though some sleep for a moment over and over, and are back before anybody else has had
/// a turn.
pub fn q4_beside_sleepers<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            for (kind, sleepers) in [(PushKind::Timer, 1), (PushKind::Timer, 200), (PushKind::TimerBusy, 3)] {
                for place in ["here", "at another worker", "outside"] {
                    let mut rig = Rig::normal(factory, workers, 40 + sleepers)?;
                    for index in 0..40 {
                        match place {
                            "here" => rig.push(0, index, KINDS[index % KINDS.len()]),
                            "outside" => rig.inject(index),
                            _ => rig.push(workers - 1, index, KINDS[index % KINDS.len()]),
                        }
                    }
                    (40..40 + sleepers).for_each(|index| rig.push(0, index, kind));
                    let mut waiting = Waiting::new(0..40, workers);
                    waiting.allowed += allowance(0, sleepers);
                    while !waiting.is_over() {
                        let index = must_pop(&mut rig, 0)?;
                        if index >= 40 {
                            rig.push(0, index, kind);
                        }
                        waiting.popped(index, &format!("pushed {place}, beside {sleepers} sleepers"))?;
                    }
                    rig.finish()?;
                }
            }
        }
        Ok(())
    })
}

/// Q4: threads get on though a few others spawn new ones faster than they are run.
pub fn q4_beside_spawners<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [1, 2] {
            for place in ["here", "outside"] {
                let mut rig = Rig::normal(factory, workers, 2_000)?;
                for index in 0..20 {
                    if place == "here" { rig.push(0, index, PushKind::Yield) } else { rig.inject(index) }
                }
                (20..24).for_each(|index| rig.push(0, index, PushKind::Spawn));
                let mut unborn: VecDeque<usize> = (24..2_000).collect();
                let mut waiting = Waiting::new(0..20, workers);
                waiting.allowed += allowance(0, 2_000);
                while !waiting.is_over() {
                    let index = must_pop(&mut rig, 0)?;
                    let waited = waiting.contains(index);
                    waiting.popped(index, &format!("pushed {place}, beside threads that spawn"))?;
                    if waited {
                        continue;
                    }
                    if index < 24 {
                        for _ in 0..3 {
                            if let Some(child) = unborn.pop_front() {
                                rig.push(0, child, PushKind::Spawn);
                            }
                        }
                        rig.push(0, index, PushKind::Yield);
                    } else {
                        unborn.push_back(index);
                    }
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4: threads get on though the worker that they were pushed at never pops again and the others are busy,
/// with threads of their own or with what comes from outside.
pub fn q4_stuck_worker<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    guarded(|| {
        for workers in [2, 3, 8] {
            for kind in KINDS {
                for (own, others) in [(true, 5), (false, 5), (false, 500)] {
                    let busy = (workers - 1) * others;
                    let mut rig = Rig::normal(factory, workers, busy + 3)?;
                    (0..3).for_each(|index| rig.push(0, index, kind));
                    let mut waiting = Waiting::new(0..3, workers);
                    waiting.allowed += allowance(0, busy);
                    for index in 3..busy + 3 {
                        if own {
                            rig.push(1 + index % (workers - 1), index, PushKind::Spawn);
                        } else {
                            rig.inject(index);
                        }
                    }
                    for worker in (1..workers).cycle() {
                        if waiting.is_over() {
                            break;
                        }
                        let index = must_pop(&mut rig, worker)?;
                        if index >= 3 {
                            if own { rig.push(worker, index, PushKind::Yield) } else { rig.inject(index) }
                        }
                        waiting.popped(index, &format!("pushed with {kind:?} at a worker that is stuck"))?;
                    }
                    rig.finish()?;
                }
            }
        }
        Ok(())
    })
}

/// Q4, levels: what comes out is of the most urgent level that is queued anywhere. Always under
/// [`Order::StrictPriority`]; with exceptions under [`Order::AgeingPriority`] and [`Order::FairByLevel`], but
/// more often than not.
pub fn q4_urgent_first<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    let order = <F::Output as ReadyQueue>::ORDER;
    if order == Order::Fair {
        return Ok(());
    }
    guarded(|| {
        for workers in [1, 3] {
            let mut rig = Rig::normal(factory, workers, 400)?;
            let mut dice = Dice(6);
            for index in 0..400 {
                rig.threads.set_priority(index, Priority::ALL[dice.roll(4)]);
            }
            let (mut pops, mut exceptions) = (0, 0);
            for step in 0..20_000 {
                let pushing = if step / 1_000 % 2 == 0 { 6 } else { 4 };
                let (index, worker) = (dice.roll(400), dice.roll(workers));
                if dice.roll(10) < pushing {
                    if !rig.is_queued(index) {
                        if dice.roll(4) == 0 {
                            rig.inject(index)
                        } else {
                            rig.push(worker, index, dice.kind())
                        }
                    }
                    continue;
                }
                let best =
                    (0..400).filter(|&index| rig.is_queued(index)).map(|index| rig.priority(index)).min();
                let Some(popped) = rig.pop(worker)? else { continue };
                let level = rig.priority(popped);
                pops += 1;
                if Some(level) != best {
                    exceptions += 1;
                    demand(order != Order::StrictPriority, "Q4", || {
                        format!(
                            "worker {worker} of {workers} popped a {level:?} thread while {best:?} was queued"
                        )
                    })?;
                }
            }
            demand(exceptions * 2 < pops, "Q4", || {
                format!("of {pops} pops {exceptions} passed over a more urgent thread")
            })?;
            rig.finish()?;
        }
        Ok(())
    })
}

/// Q4, levels: within a level, what one worker pushes comes out in the order of the pushes, and so does what
/// comes from outside. Not under [`Order::FairByLevel`], which lets locality deviate.
pub fn q4_arrival_within_level<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    if matches!(<F::Output as ReadyQueue>::ORDER, Order::Fair | Order::FairByLevel) {
        return Ok(());
    }
    guarded(|| {
        for workers in [1, 2] {
            for source in [Some(0), Some(workers - 1), None] {
                let mut rig = Rig::normal(factory, workers, 1_200)?;
                for index in 0..1_200 {
                    rig.threads.set_priority(index, Priority::ALL[index * 7 % 4]);
                    match source {
                        Some(worker) => rig.push(worker, index, KINDS[index * 7 % KINDS.len()]),
                        None => rig.inject(index),
                    }
                }
                let mut last = [None; 4];
                for index in rig.drain(0)? {
                    let level = rig.priority(index);
                    let before = last[level as usize].replace(index);
                    demand(before < Some(index), "Q4", || {
                        format!(
                            "of two {level:?} threads the later came out first: {before:?} behind {index}"
                        )
                    })?;
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4, levels: of few threads the more urgent come out sooner, in whatever kinds and order they are pushed:
/// in strict order under [`Order::StrictPriority`], else the first is Critical and each level comes sooner
/// than the next on the whole.
pub fn q4_few_by_level<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    const EACH: usize = 6;
    let order = <F::Output as ReadyQueue>::ORDER;
    if order == Order::Fair {
        return Ok(());
    }
    guarded(|| {
        for (workers, low) in [(1, 0), (2, 0), (2, 1), (4, 2)] {
            for kinds in 0..KINDS.len() {
                for source in [Some(0), None] {
                    for urgent_first in [false, true] {
                        let Some(mut rig) = Rig::new(factory, workers, low, 4 * EACH)? else { continue };
                        for index in 0..4 * EACH {
                            let level = if urgent_first { index / EACH } else { 3 - index / EACH };
                            rig.threads.set_priority(index, Priority::ALL[level]);
                            match source {
                                // Each level in another kind, and in another in each round.
                                Some(worker) => rig.push(worker, index, KINDS[(kinds + level) % KINDS.len()]),
                                None => rig.inject(index),
                            }
                        }
                        let out: Vec<_> =
                            rig.drain(0)?.into_iter().map(|index| rig.priority(index)).collect();
                        // As many of each, so that sums compare as means do.
                        let mut sums = [0; 4];
                        out.iter().enumerate().for_each(|(place, &level)| sums[level as usize] += place);
                        let ordered = match order {
                            Order::StrictPriority => out.is_sorted(),
                            _ => sums.is_sorted() && out[0] == Priority::Critical,
                        };
                        demand(ordered, "Q4", || {
                            format!("{EACH} threads of each level came out as {out:?}")
                        })?;
                        rig.finish()?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Q4, levels: a Critical thread that comes while all workers are busy with others is the next that each of
/// them pops, if it comes from outside; under ageing the next but few.
pub fn q4_critical_next<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    let few = match <F::Output as ReadyQueue>::ORDER {
        Order::Fair => return Ok(()),
        Order::StrictPriority => 0,
        _ => 2,
    };
    guarded(|| {
        for workers in [1, 2, 5] {
            for popper in 0..workers {
                let mut rig = Rig::normal(factory, workers, 401)?;
                rig.threads.set_priority(400, Priority::Critical);
                (0..400).for_each(|index| rig.push(index % workers, index, PushKind::Yield));
                for round in 0..100 {
                    for _ in 0..round {
                        let index = must_pop(&mut rig, popper)?;
                        rig.push(popper, index, PushKind::Yield);
                    }
                    rig.inject(400);
                    let mut passed = 0;
                    loop {
                        let index = must_pop(&mut rig, popper)?;
                        if index == 400 {
                            break;
                        }
                        passed += 1;
                        rig.push(popper, index, PushKind::Yield);
                        demand(passed <= few, "Q4", || {
                            format!(
                                "worker {popper} of {workers} passed over a Critical thread {passed} times"
                            )
                        })?;
                    }
                }
                rig.finish()?;
            }
        }
        Ok(())
    })
}

/// Q4, levels: under [`Order::AgeingPriority`] and [`Order::FairByLevel`] each level gets on beside more
/// urgent threads that are ready for ever; under [`Order::StrictPriority`] none does.
pub fn q4_levels_below<F: Factory<Output: ReadyQueue>>(factory: &F) -> Verdict {
    let order = <F::Output as ReadyQueue>::ORDER;
    if order == Order::Fair {
        return Ok(());
    }
    guarded(|| {
        for workers in [1, 2] {
            for (below, above) in [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)] {
                for outside in [false, true] {
                    let mut rig = Rig::normal(factory, workers, 30)?;
                    for index in 0..30 {
                        let level = if index < 10 { below } else { above };
                        rig.threads.set_priority(index, Priority::ALL[level]);
                        if outside && index < 10 {
                            rig.inject(index)
                        } else {
                            rig.push(0, index, PushKind::Yield)
                        }
                    }
                    let mut waiting = Waiting::new(0..10, workers);
                    let strict = order == Order::StrictPriority;
                    while !waiting.is_over() {
                        let index = must_pop(&mut rig, 0)?;
                        demand(!(strict && index < 10), "Q4", || {
                            format!("level {below} got on beside level {above} under strict order")
                        })?;
                        if index >= 10 {
                            rig.push(0, index, PushKind::Yield);
                        }
                        if strict && waiting.pops > 2_000 {
                            break;
                        }
                        waiting.popped(index, &format!("at level {below}, beside level {above}"))?;
                    }
                    rig.finish()?;
                }
            }
        }
        Ok(())
    })
}
