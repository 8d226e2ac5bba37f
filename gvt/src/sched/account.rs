//! What a thread that computes has had of its worker, so that the next slice makes up for the last.
//!
//! A slice ends when the monitor gets to it. When every processor computes, the kernel may let the monitor wait for some
//! milliseconds, and a thread's first microseconds may go to somebody else; over ten slices such things do not even out. So the
//! monitor notes what a thread's slices took, by the CPU clock of the OS thread that it keeps, against what they should have
//! taken, and begins to count the next slice that much earlier or later.
//!
//! It is kept with the OS thread: a thread that was taken off by force goes on where it was, and one that leaves by
//! itself starts afresh. Used by the monitor only; Relaxed throughout.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use gvt_traits::GvtId;

#[derive(Default)]
pub(crate) struct Account {
    /// Whose it is; 0 to begin with, which is nobody's or will do.
    thread: AtomicU32,
    /// The OS thread's CPU time when it was last charged.
    charged_at_ns: AtomicU64,
    /// What it has had too much.
    excess_ns: AtomicI64,
}

impl Account {
    /// `thread` is about to be taken off after a slice that should have taken `due_ns`, and took about `wall_ns`.
    pub(crate) fn charge(&self, thread: GvtId, cpu_ns: u64, wall_ns: u64, due_ns: u64) {
        let known = self.thread.swap(thread.index(), Relaxed) == thread.index();
        let before = self.charged_at_ns.swap(cpu_ns, Relaxed);
        let (excess, had) =
            if known { (self.excess_ns.load(Relaxed), cpu_ns.saturating_sub(before)) } else { (0, wall_ns) };
        // Not without limit: nobody shall have to wait for a second, or compute for one.
        let limit = 8 * due_ns as i64;
        let excess = (excess + had as i64 - due_ns as i64).clamp(-limit, limit);
        self.excess_ns.store(excess, Relaxed);
    }

    /// How much earlier than now to begin `thread`'s slice of `due_ns`; later, if negative.
    pub(crate) fn advance(&self, thread: GvtId, due_ns: u64) -> i64 {
        if self.thread.load(Relaxed) != thread.index() {
            return 0;
        }
        let due = due_ns as i64;
        self.excess_ns.load(Relaxed).clamp(-due / 2, due - due / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GvtId = GvtId::new(7);
    const B: GvtId = GvtId::new(8);

    #[test]
    fn too_much_comes_off_the_next_and_too_little_is_added() {
        let account = Account::default();
        account.charge(A, 5_000, 1_300, 1_000);
        assert_eq!(account.advance(A, 1_000), 300);
        account.charge(A, 5_600, 9_999, 1_000);
        assert_eq!(account.advance(A, 1_000), -100, "by the CPU clock from the second on");
    }

    #[test]
    fn a_slice_becomes_neither_twice_as_long_nor_nothing() {
        let account = Account::default();
        account.charge(A, 0, 7_000, 1_000);
        assert_eq!(account.advance(A, 1_000), 875);
        (0..40).for_each(|_| account.charge(A, 0, 0, 1_000));
        assert_eq!(account.advance(A, 1_000), -500);
    }

    #[test]
    fn others_begin_afresh() {
        let account = Account::default();
        account.charge(A, 5_000, 3_000, 1_000);
        assert_eq!(account.advance(B, 1_000), 0);
        account.charge(B, 9_000, 1_100, 1_000);
        assert_eq!((account.advance(B, 1_000), account.advance(A, 1_000)), (100, 0));
    }

    #[test]
    fn the_limit_is_eight_slices() {
        let account = Account::default();
        account.charge(A, 0, 1_000_000, 1_000);
        (0..8).for_each(|_| account.charge(A, 0, 0, 1_000));
        assert_eq!(account.advance(A, 1_000), 0);
    }
}
