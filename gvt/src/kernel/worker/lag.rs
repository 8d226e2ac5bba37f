//! Lag: what a computing thread got of its worker beyond its slices, so that the next slice makes up for it
//! (Linux EEVDF's *lag*).
//!
//! A slice ends when the monitor gets to it. When every processor computes, the kernel may delay the monitor
//! by some milliseconds, and may give a thread's first microseconds to another process; over ten slices such
//! errors do not cancel out. So the monitor compares what a thread's slices took, by the CPU clock of the OS
//! thread that it keeps, with what they should have taken, and counts the next slice from that much earlier
//! or later.
//!
//! The monitor looks again when the next slice should end. A thread that had more than a quarter of a slice
//! too much reports that its slice begins (`handoff::resume`), since the slice may end sooner.
//!
//! The lag is kept with the OS thread: a thread that was preempted by force continues there, and one that
//! leaves by itself starts afresh. Written by the monitor only, read also by that OS thread; Relaxed
//! throughout: gauges.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use gvt_traits::GvtId;

/// Which charge of a slice this is: a slice is due once.
#[derive(Clone, Copy)]
pub(crate) enum Charge {
    First,
    /// One more in the same slice.
    Again,
}

#[derive(Default)]
pub(crate) struct Lag {
    /// The thread that it is about; 0 at first, which is no thread or may stand for that one.
    thread: AtomicU32,
    /// The OS thread's CPU time when it was last charged.
    charged_at_ns: AtomicU64,
    /// The time that it had too much.
    excess_ns: AtomicI64,
    /// `excess_ns` is more than a quarter of a slice.
    is_much: AtomicBool,
}

/// Slices are capped at nine years; sums and multiples of it must fit.
const FOR_EVER: u64 = 1 << 58;

impl Lag {
    /// `thread` is about to be taken off, `wall_ns` after the beginning of a slice that should take `due_ns`.
    pub(crate) fn charge(&self, thread: GvtId, cpu_ns: u64, wall_ns: u64, due_ns: u64, charge: Charge) {
        let known = self.thread.swap(thread.index(), Relaxed) == thread.index();
        let before = self.charged_at_ns.swap(cpu_ns, Relaxed);
        let (excess, had) = if known {
            // At most the slice's length: the thread may have left in between, and others had this OS thread.
            (self.excess_ns.load(Relaxed), cpu_ns.saturating_sub(before).min(wall_ns))
        } else {
            // At most the OS thread's CPU time: the thread may have started late in its first slice.
            (0, wall_ns.min(cpu_ns))
        };
        let due = due_ns.min(FOR_EVER) as i64;
        let excess = excess + had as i64
            - match charge {
                Charge::First => due,
                Charge::Again => 0,
            };
        // Bounded, so that no thread waits for a second, or computes for one.
        self.excess_ns.store(excess.clamp(-8 * due, 8 * due), Relaxed);
        self.is_much.store(excess > due / 4, Relaxed);
    }

    /// Whether `thread` has had so much too much that its next slice must be cut.
    pub(crate) fn is_much(&self, thread: GvtId) -> bool {
        self.is_much.load(Relaxed) && self.thread.load(Relaxed) == thread.index()
    }

    /// How much before now `thread`'s slice of `slice_ns` begins, after a grace period more than which it is
    /// due to be taken off. Negative: later, but by no more than a slice, since grace may be infinite.
    pub(crate) fn advance(&self, thread: GvtId, slice_ns: u64, grace_ns: u64) -> i64 {
        if self.thread.load(Relaxed) != thread.index() {
            return 0;
        }
        let due = (slice_ns + grace_ns).min(FOR_EVER) as i64;
        let most_later = due / 2;
        self.excess_ns.load(Relaxed).clamp(-most_later.min(slice_ns as i64), due - due / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GvtId = GvtId::new(7);
    const B: GvtId = GvtId::new(8);

    #[test]
    fn too_much_comes_off_the_next_and_too_little_is_added() {
        let lag = Lag::default();
        lag.charge(A, 5_000, 1_300, 1_000, Charge::First);
        assert_eq!((lag.advance(A, 1_000, 0), lag.is_much(A)), (300, true));
        lag.charge(A, 5_600, 1_000, 1_000, Charge::First);
        assert_eq!(lag.advance(A, 1_000, 0), -100, "by the CPU clock from the second on");
        assert!(!lag.is_much(A));
    }

    #[test]
    fn a_slice_becomes_neither_twice_as_long_nor_nothing() {
        let lag = Lag::default();
        lag.charge(A, 7_000, 7_000, 1_000, Charge::First);
        assert_eq!(lag.advance(A, 1_000, 0), 875);
        (0..40).for_each(|_| lag.charge(A, 7_000, 0, 1_000, Charge::First));
        assert_eq!(lag.advance(A, 1_000, 0), -500);
    }

    #[test]
    fn a_slice_is_due_once() {
        let lag = Lag::default();
        lag.charge(A, 1_000, 1_000, 1_000, Charge::First);
        lag.charge(A, 1_400, 1_400, 1_000, Charge::Again);
        assert_eq!(lag.advance(A, 1_000, 0), 400);
    }

    #[test]
    fn what_others_had_is_not_charged() {
        let lag = Lag::default();
        lag.charge(A, 5_000, 1_000, 1_000, Charge::First);
        lag.charge(A, 95_000, 1_200, 1_000, Charge::First);
        assert_eq!(lag.advance(A, 1_000, 0), 200);
    }

    #[test]
    fn a_late_start_is_not_charged() {
        let lag = Lag::default();
        lag.charge(A, 300, 5_000, 1_000, Charge::First);
        assert_eq!(lag.advance(A, 1_000, 0), -500, "700 short, of which half a slice at once");
    }

    #[test]
    fn others_begin_afresh() {
        let lag = Lag::default();
        lag.charge(A, 5_000, 3_000, 1_000, Charge::First);
        assert_eq!((lag.advance(B, 1_000, 0), lag.is_much(B)), (0, false));
        lag.charge(B, 9_000, 1_100, 1_000, Charge::First);
        assert_eq!((lag.advance(B, 1_000, 0), lag.advance(A, 1_000, 0)), (100, 0));
    }

    #[test]
    fn a_grace_for_ever_puts_nothing_off_for_ever() {
        for slice_ns in [1_000, 3_600_000_000_000] {
            let lag = Lag::default();
            for _ in 0..20 {
                lag.charge(A, 5_000, 3_000, slice_ns + u64::MAX / 8, Charge::First);
            }
            assert!((-(slice_ns as i64)..0).contains(&lag.advance(A, slice_ns, u64::MAX / 8)));
        }
    }

    #[test]
    fn the_limit_is_eight_slices() {
        let lag = Lag::default();
        lag.charge(A, 1_000_000, 1_000_000, 1_000, Charge::First);
        (0..8).for_each(|_| lag.charge(A, 1_000_000, 0, 1_000, Charge::First));
        assert_eq!(lag.advance(A, 1_000, 0), 0);
    }
}
