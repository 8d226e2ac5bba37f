//! When a worker looks beyond its local end: at urgent threads, at rested threads, and at the global list.
//!
//! A *rested* thread is one whose timer has expired and that has computed little before
//! ([`PushKind::Timer`](gvt_traits::PushKind::Timer)). It goes ahead of all others but urgent ones, so that
//! it does not wait for a slice of each thread that computes. Rested threads have a lane of their own. Urgent
//! threads are in the lists of their levels (`levels`), which are a lane for each worker that looks.
//!
//! **Hazard: starvation (Q4).** Sleepers that come back again and again would keep all others from running.
//! So of [`PAST`] + 1 pops in a row, while others wait, one is not from their lane; of [`URGENT_PAST`] + 1
//! one is not urgent. The pops that urgent threads get do not count for sleepers: of (`PAST` + 1) *
//! (`URGENT_PAST` + 1) = 112 pops one is neither's, whatever comes back.
//!
//! **Cost.** A pop counts down and compares with 0, nothing more: while a lane holds a thread the count is 1,
//! so that each pop comes to the cold path. What the count stood at is kept in `due`.

/// Pops in a row that threads which have rested may have while others wait.
pub(crate) const PAST: u32 = if cfg!(loom) { 1 } else { 6 };

/// Pops from a worker's own end until the global list has its turn.
pub(crate) use crate::TURN;
use crate::levels::URGENT_PAST;

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
    /// Pops that were served urgent threads, and those that have rested.
    urgent_pops: u32,
    rested_pops: u32,
    urgent: Lane,
    rested: Lane,
}

/// Threads that go ahead of others, so many in a row at most.
#[derive(Default)]
struct Lane {
    /// The number of the last pop that was served from the lane.
    served: u32,
    /// Pops in a row from the lane, up to `served`.
    past: u32,
}

impl Lane {
    /// Whether pop number `pop` is served from the lane, if `others` wait or not.
    fn serves(&mut self, pop: u32, most: u32, others: bool) -> bool {
        if pop != self.served.wrapping_add(1) {
            self.past = 0;
        }
        if others && self.past >= most {
            return false;
        }
        self.past = self.past.saturating_add(1);
        self.served = pop;
        true
    }
}

impl Turns {
    pub(crate) fn new() -> Self {
        Turns {
            left: TURN,
            span: TURN,
            pops: 0,
            due: TURN,
            urgent_pops: 0,
            rested_pops: 0,
            urgent: Lane::default(),
            rested: Lane::default(),
        }
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

    /// A lane holds a thread: the next pop looks.
    #[inline]
    pub(crate) fn look_next(&mut self) {
        self.settle();
        (self.left, self.span) = (1, 1);
    }

    /// Whether an urgent thread is served by this pop, which looks, if `others` wait or not.
    pub(crate) fn serves_urgent(&mut self, others: bool) -> bool {
        self.settle();
        self.urgent.serves(self.pops, URGENT_PAST, others)
    }

    /// This pop, which looks, is served an urgent thread.
    pub(crate) fn urgent_popped(&mut self) {
        self.urgent_pops = self.urgent_pops.wrapping_add(1);
    }

    /// Whether one that has rested is served by this pop, which looks and is not urgent, if `others` wait or
    /// not.
    pub(crate) fn serves_rested(&mut self, others: bool) -> bool {
        self.settle();
        // Of the pops that urgent threads leave, so that both together leave some too.
        let serves = self.rested.serves(self.pops.wrapping_sub(self.urgent_pops), PAST, others);
        self.rested_pops = self.rested_pops.wrapping_add(u32::from(serves));
        serves
    }

    /// How many pops were not served from a lane; up to this one, which looks.
    pub(crate) fn plain_pops(&mut self) -> u32 {
        self.settle();
        self.pops.wrapping_sub(self.urgent_pops).wrapping_sub(self.rested_pops)
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
    pub(crate) fn look_again(&mut self, lanes_are_empty: bool) {
        self.settle();
        self.left = if lanes_are_empty { self.until_due().max(1) } else { 1 };
        self.span = self.left;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The pops, counted from 1, at which the global list has its turn, of `count`; the lane holds a thread
    /// at those that `lane` says.
    fn turns(count: u32, lane: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut turns = Turns::new();
        let mut due = Vec::new();
        for pop in 1..=count {
            if lane(pop) {
                turns.look_next();
            }
            if turns.count() {
                if !(lane(pop) && turns.serves_rested(true)) && turns.is_due() {
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
                let served = turns.serves_rested(true);
                turns.look_again(false);
                served
            })
            .collect();
        let expected: Vec<bool> = (1..=3 * (PAST + 1)).map(|pop| pop % (PAST + 1) != 0).collect();
        assert_eq!(served, expected);
        // Without others there is no bound; after others have run the count begins afresh.
        assert!((0..3 * PAST).all(|_| turns.count() && turns.serves_rested(false) && {
            turns.look_again(false);
            true
        }));
    }

    #[test]
    fn a_sleeper_now_and_then_is_never_held_up() {
        let mut turns = Turns::new();
        for _ in 0..100 {
            turns.look_next();
            assert!(turns.count() && turns.serves_rested(true));
            turns.look_again(true);
            if turns.count() {
                turns.begin();
                turns.look_again(true);
            }
        }
    }
}
