//! When a worker looks beside its usual places: at threads that have rested, and at the global list.
//!
//! A thread whose timer has expired and that has computed little before ([`PushKind::Timer`](gvt_traits::PushKind::Timer)) goes
//! ahead of all others, so that it does not wait for a slice of each thread that computes. Such threads lie in a lane of their own.
//!
//! **Hazard: starvation (Q4).** Sleepers that come back again and again would keep all others from running. So of [`PAST`] + 1 pops
//! in a row, while others wait, one is not from the lane.
//!
//! **Cost.** A pop counts down and compares with 0, nothing more: while the lane holds a thread the count is 1, so that each pop
//! comes to the cold path. What the count stood at is kept in `due`.

/// Pops in a row that threads which have rested may have while others wait.
pub(crate) const PAST: u32 = if cfg!(loom) { 1 } else { 6 };

/// Pops from a worker's own end until the global list has its turn.
pub(crate) use crate::TURN;

/// Numbers of pops are compared modulo 2^32; they are never further apart than a few turns.
pub(crate) struct Turns {
    /// Pops until the next look, that one included.
    left: u32,
    /// What `left` was when `pops` was last right.
    span: u32,
    /// The number of the pop at which `left` was `span`.
    pops: u32,
    /// The number of the pop at which the global list has its turn.
    due: u32,
    /// The number of the last pop that was served from the lane.
    served: u32,
    /// Pops in a row from the lane, up to `served`.
    past: u32,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Turns { left: TURN, span: TURN, pops: 0, due: TURN, served: 0, past: 0 }
    }

    /// Counts a pop; whether it is one that looks.
    #[inline(always)]
    pub(crate) fn count(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    fn settle(&mut self) {
        self.pops = self.pops.wrapping_add(self.span - self.left);
        self.span = self.left;
    }

    /// The lane holds a thread: the next pop looks.
    #[inline]
    pub(crate) fn look_next(&mut self) {
        self.settle();
        (self.left, self.span) = (1, 1);
    }

    /// Whether the lane is served by this pop, which looks, if `others` wait or not.
    pub(crate) fn serves_lane(&mut self, others: bool) -> bool {
        self.settle();
        if self.pops != self.served.wrapping_add(1) {
            self.past = 0;
        }
        if others && self.past >= PAST {
            return false;
        }
        self.past += 1;
        self.served = self.pops;
        true
    }

    /// Whether the global list's turn has come.
    pub(crate) fn is_due(&mut self) -> bool {
        self.settle();
        self.until_due() == 0
    }

    fn until_due(&self) -> u32 {
        // Behind by half the range: overdue.
        let left = self.due.wrapping_sub(self.pops);
        if left > u32::MAX / 2 { 0 } else { left }
    }

    /// The global list has had its turn, or something else that counts as one.
    pub(crate) fn begin(&mut self) {
        self.settle();
        self.due = self.pops.wrapping_add(TURN);
    }

    /// Ends a look: when the next is.
    pub(crate) fn look_again(&mut self, lane_is_empty: bool) {
        self.settle();
        self.left = if lane_is_empty { self.until_due().max(1) } else { 1 };
        self.span = self.left;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The pops, counted from 1, at which the global list has its turn, of `count`; the lane holds a thread at those that `lane` says.
    fn turns(count: u32, lane: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut turns = Turns::new();
        let mut due = Vec::new();
        for pop in 1..=count {
            if lane(pop) {
                turns.look_next();
            }
            if turns.count() {
                if !(lane(pop) && turns.serves_lane(true)) && turns.is_due() {
                    due.push(pop);
                    turns.begin();
                }
                turns.look_again(!lane(pop + 1));
            }
        }
        due
    }

    #[test]
    fn the_global_list_has_its_turn_as_often_whatever_the_lane_holds() {
        assert_eq!(turns(4 * TURN, |_| false), [TURN, 2 * TURN, 3 * TURN, 4 * TURN]);
        assert_eq!(turns(3 * TURN, |pop| pop % 10 == 4), [TURN, 2 * TURN, 3 * TURN]);
        // Never more than `PAST` late.
        let beside_a_flood = turns(3 * TURN, |_| true);
        assert!(beside_a_flood.len() >= 2 && beside_a_flood[0] <= TURN + PAST, "{beside_a_flood:?}");
    }

    #[test]
    fn of_so_many_pops_in_a_row_one_is_not_from_the_lane() {
        let mut turns = Turns::new();
        turns.look_next();
        let served: Vec<bool> = (0..3 * (PAST + 1))
            .map(|_| {
                assert!(turns.count());
                let served = turns.serves_lane(true);
                turns.look_again(false);
                served
            })
            .collect();
        let expected: Vec<bool> = (1..=3 * (PAST + 1)).map(|pop| pop % (PAST + 1) != 0).collect();
        assert_eq!(served, expected);
        // With nobody else there is no bound, and who comes after others have run begins afresh.
        assert!((0..3 * PAST).all(|_| turns.count() && turns.serves_lane(false) && {
            turns.look_again(false);
            true
        }));
    }

    #[test]
    fn a_sleeper_now_and_then_is_never_held_up() {
        let mut turns = Turns::new();
        for _ in 0..100 {
            turns.look_next();
            assert!(turns.count() && turns.serves_lane(true));
            turns.look_again(true);
            if turns.count() {
                turns.begin();
                turns.look_again(true);
            }
        }
    }
}
