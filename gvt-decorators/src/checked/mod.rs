//! `Checked`: a part, and beside it a ledger of what it holds.
//!
//! Every call is noted in the ledger: before it where something goes in, after it where something comes out,
//! so that the ledger never lacks what the part may give out. A clause that is promised "with no other call
//! under way" is checked only for calls that were alone from begin to end ([`Calls`]).
//!
//! A broken clause is a panic whose text begins with the clause's number. The runtime turns it into an abort
//! (B3).
//!
//! **Rejected.** Holding the ledger's lock over the call: every call would be alone and every clause exact,
//! but calls that race, which is where backends break, could not.

mod preempt;
mod queue;
mod slots;
mod timer;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use gvt_traits::{Factory, Plan, SchedError};

/// Any part, its laws asserted while it works.
///
/// `Checked(GoQueue)` is passed to the builder like `GoQueue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked<B>(pub B);

impl<B: Factory> Factory for Checked<B> {
    type Output = CheckedPart<B::Output>;

    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        Ok(CheckedPart {
            part: self.0.build(plan)?,
            plan: plan.clone(),
            calls: Calls::default(),
            queue: Mutex::default(),
            timer: Mutex::default(),
            slots: Mutex::default(),
            attached: AtomicUsize::new(0),
        })
    }
}

/// What [`Checked`] builds: a part of the same kind.
#[derive(Debug)]
pub struct CheckedPart<B> {
    part: B,
    plan: Plan,
    calls: Calls,
    // One of these is used.
    queue: Mutex<queue::Ledger>,
    timer: Mutex<timer::Ledger>,
    slots: Mutex<slots::Ledger>,
    attached: AtomicUsize,
}

impl<B> Drop for CheckedPart<B> {
    /// Q1: nobody may be queued in a queue that goes.
    fn drop(&mut self) {
        let left = lock(&self.queue).len();
        demand(left == 0 || std::thread::panicking(), "Q1", || {
            format!("{left} threads were pushed and never popped")
        });
    }
}

/// A worker's end of a [`CheckedPart`].
#[derive(Debug)]
pub struct CheckedLocal<L> {
    local: L,
    worker: usize,
}

/// Tells calls that were alone from those that were not.
///
/// How many are under way and how many have ever begun, in one word: with two words, a call that begins
/// between another's two additions would be missed by that other one.
#[derive(Debug, Default)]
struct Calls(AtomicU64);

/// A call under way, in the low bits of [`Calls`].
const UNDER_WAY: u64 = 1;
/// A call that has begun, in the bits above; 2^20 calls may be under way at once.
const BEGUN: u64 = 1 << 20;

/// A call under way.
struct Call<'a> {
    calls: &'a Calls,
    /// What [`Calls`] held when this one was counted.
    began_at: u64,
}

impl Calls {
    fn begin(&self) -> Call<'_> {
        // ORDERING O1: SeqCst, in one order with the accesses below: of two calls that overlap, the later
        // sees the earlier under way, and the earlier sees that another has begun. A call that sees no other
        // under way is ordered after the end of each, and so after what it did.
        let before = self.0.fetch_add(BEGUN + UNDER_WAY, SeqCst);
        Call { calls: self, began_at: before.wrapping_add(BEGUN + UNDER_WAY) }
    }
}

impl Call<'_> {
    /// Whether no other call has been under way since this one began.
    fn is_alone(&self) -> bool {
        // ORDERING O1: as in `begin`.
        self.began_at % BEGUN == UNDER_WAY && self.calls.0.load(SeqCst) == self.began_at
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // ORDERING O1: as in `begin`.
        self.calls.0.fetch_sub(UNDER_WAY, SeqCst);
    }
}

fn lock<L>(ledger: &Mutex<L>) -> MutexGuard<'_, L> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ledger, unless another thread has it, which may be preempted meanwhile: for what the monitor calls
/// (B6).
fn look<L>(ledger: &Mutex<L>) -> Option<MutexGuard<'_, L>> {
    match ledger.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Panics with a clause's number unless `holds`.
#[track_caller]
fn demand(holds: bool, clause: &str, what: impl FnOnce() -> String) {
    if !holds {
        broken(clause, &what());
    }
}

#[cold]
#[track_caller]
fn broken(clause: &str, what: &str) -> ! {
    panic!("{clause} is broken: {what}");
}
