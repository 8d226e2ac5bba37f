//! Waiting for the first of several operations.
//!
//! **Protocol.** **S1** Try each operation, in random order; choose the first that need not wait. **S2** If
//! there is none, put a node into the list of each, checking again under that channel's lock whether it must
//! wait. **S3** Wait until a taker claims one of the nodes (N5 of `list`), or until the deadline, or not at
//! all if S2 found one ready. **S4** Take all nodes back. The claimed operation is chosen; if there is none
//! start over with S1, unless the deadline has passed.
//!
//! **S5** Before it returns without a choice it checks all operations once more: while S1 went from one to
//! the next, a message may have come to one that had been tried and been taken from one that had not, so that
//! there was never a moment without a ready operation.
//!
//! A thread in S1 has no node anywhere, so no taker can choose for it without its knowledge. Two threads
//! cannot both wait in S3 for each other, since the second finds the first in S2.
//!
//! **Evidence.** loom `models::*`; mutant `EnlistBlind` (S2 without the look) fails.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::selected::{Token, Wish};
use crate::protocol::atomics::is_failing;
use crate::wait::clock::{deadline_ns, now};
use crate::wait::host::{OsFlag, draw, give_way};
use crate::wait::list::{Claim, Node, SelectWait, WaitOutcome};

/// One end of a channel as an operation of a select.
pub trait Handle {
    /// Chooses the operation if it need not wait.
    fn choose(&self) -> Option<Token>;
    /// Whether `choose` would choose it.
    fn is_ready(&self) -> bool;
    /// Links a node unless the operation is ready; returns whether it is linked.
    ///
    /// # Safety
    ///
    /// **C1**: the node stays where it is until `withdraw`.
    unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool;
    /// Takes a node back; returns how its wait ended.
    ///
    /// # Safety
    ///
    /// **C1**: `enlist` of this end answered `true` for the node.
    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome;
    /// The reservation of an operation that was served while it waited.
    fn served(&self) -> Token;
    /// Releases a reservation.
    fn abandon(&self, token: Token);
    /// The time at which the operation becomes ready by itself.
    fn next(&self) -> Option<Instant>;
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Not at all.
    Now,
    /// Until then at the latest.
    Until(Instant),
    /// Without a limit.
    Never,
}

impl Limit {
    /// This long from now.
    pub fn after(timeout: Duration) -> Self {
        now().checked_add(timeout).map_or(Limit::Never, Limit::Until)
    }
}

/// Which of several ready operations is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Any, each as likely as the others.
    Fair,
    /// The first in the order of the arms.
    First,
}

/// One operation of a select.
pub struct Arm<'a> {
    handle: &'a dyn Handle,
    /// Its index for the caller.
    pub(super) index: usize,
    /// The end of its operation.
    pub(super) end: *const (),
    /// Written before it is linked. Needs no drop.
    node: UnsafeCell<MaybeUninit<Node>>,
}

impl<'a> Arm<'a> {
    pub(super) fn new(handle: &'a dyn Handle, end: *const (), index: usize) -> Self {
        Arm { handle, index, end, node: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

impl Clone for Arm<'_> {
    fn clone(&self) -> Self {
        Self::new(self.handle, self.end, self.index)
    }
}

/// A chosen operation, which must be completed or abandoned.
pub(super) struct Chosen<'a> {
    pub(super) handle: &'a dyn Handle,
    pub(super) token: Token,
    pub(super) index: usize,
    pub(super) end: *const (),
}

impl<'a> Chosen<'a> {
    fn new(arm: &Arm<'a>, token: Token) -> Self {
        Chosen { handle: arm.handle, token, index: arm.index, end: arm.end }
    }
}

/// Chooses an operation, or finds a ready one (`wish`); `None` if the limit came first.
pub(super) fn run<'a>(arms: &mut [Arm<'a>], limit: Limit, wish: Wish, choice: Choice) -> Option<Chosen<'a>> {
    give_way();
    if choice == Choice::Fair {
        shuffle(arms);
    }
    loop {
        // S1.
        for arm in &*arms {
            let token = match wish {
                Wish::Operate => arm.handle.choose(),
                Wish::Watch => arm.handle.is_ready().then_some(Token::Ready),
            };
            if let Some(token) = token {
                return Some(Chosen::new(arm, token));
            }
        }
        let deadline = match limit {
            Limit::Never => None,
            Limit::Until(deadline) if now() < deadline => Some(deadline),
            // S5.
            _ if !arms.iter().any(|arm| arm.handle.is_ready()) => return None,
            _ => continue,
        };
        if let Some(chosen) = wait(arms, deadline, wish) {
            return Some(chosen);
        }
        if cfg!(loom) && limit != Limit::Never {
            // In models every deadline has passed after a wait.
            return None;
        }
    }
}

/// S2 to S4.
fn wait<'a>(arms: &mut [Arm<'a>], limit: Option<Instant>, wish: Wish) -> Option<Chosen<'a>> {
    let claim = Claim::new();
    let flag = OsFlag::new();
    let several = SelectWait::new(&claim, &flag, WaitReason::Select);
    let mut enlisted = Enlisted { arms, count: 0, claim: &claim, wish };
    let mut deadline = limit;
    let mut ready = false;
    for (operation, arm) in enlisted.arms.iter().enumerate() {
        let node = arm.node.get().cast::<Node>();
        // SAFETY: not linked; this thread's alone.
        unsafe { node.write(Node::of_several(&claim, operation as u32)) };
        // SAFETY: C1: arms are not moved before `withdraw`.
        if !unsafe { arm.handle.enlist(node, wish) } {
            ready = true;
            break;
        }
        enlisted.count += 1;
        if let Some(next) = arm.handle.next() {
            deadline = Some(deadline.map_or(next, |deadline| deadline.min(next)));
        }
    }
    let claimed = if ready { several.give_up() } else { several.park(deadline.map(deadline_ns)) };
    let chosen = enlisted.withdraw(claimed);
    std::mem::forget(enlisted);
    chosen
}

/// Operations whose nodes are linked.
struct Enlisted<'r, 'a> {
    arms: &'r mut [Arm<'a>],
    count: usize,
    claim: &'r Claim,
    wish: Wish,
}

impl<'a> Enlisted<'_, 'a> {
    /// S4.
    fn withdraw(&mut self, claimed: Option<u32>) -> Option<Chosen<'a>> {
        let mut chosen = None;
        for (operation, arm) in self.arms.iter().enumerate().take(self.count) {
            // SAFETY: C1: linked by `wait`.
            let outcome = unsafe { arm.handle.withdraw(arm.node.get().cast()) };
            if claimed == Some(operation as u32) {
                let token = match (self.wish, outcome) {
                    (Wish::Watch, _) => Token::Ready,
                    (Wish::Operate, WaitOutcome::Closed) => Token::Closed,
                    (Wish::Operate, _) => arm.handle.served(),
                };
                chosen = Some(Chosen::new(arm, token));
            }
        }
        chosen
    }
}

impl Drop for Enlisted<'_, '_> {
    /// The wait was unwound.
    fn drop(&mut self) {
        if is_failing() {
            return;
        }
        let claimed = self.claim.give_up();
        if let Some(chosen) = self.withdraw(claimed)
            && self.wish == Wish::Operate
        {
            chosen.handle.abandon(chosen.token);
        }
    }
}

/// Sleeps until the deadline; `None`: for ever.
pub(super) fn sleep_until(deadline: Option<Instant>, reason: WaitReason) {
    let claim = Claim::new();
    let flag = OsFlag::new();
    SelectWait::new(&claim, &flag, reason).park(deadline.map(deadline_ns));
}

fn shuffle(arms: &mut [Arm<'_>]) {
    for i in (1..arms.len()).rev() {
        arms.swap(i, random_below(i + 1));
    }
}

/// A random number below `n`.
fn random_below(n: usize) -> usize {
    let random = match draw() {
        Some(count) => mix(count.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        None => next_random(),
    };
    (((random >> 32) * n as u64) >> 32) as usize
}

/// A random number, from a generator of the OS thread.
#[inline(never)]
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        if x == 0 {
            x = next_seed();
        }
        // xorshift64* (Marsaglia; Vigna).
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

/// A seed that no other OS thread gets: successive OS threads often have the same addresses.
#[cold]
fn next_seed() -> u64 {
    static SEEDS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: they only have to differ.
    let count = SEEDS.fetch_add(1, Relaxed);
    // Starts from this process's address layout; odd, so never 0.
    mix((&raw const SEEDS as u64) ^ count.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1
}

/// SplitMix64's output (Steele, Lea, Flood).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
