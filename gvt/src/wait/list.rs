//! Lists of threads that wait at a primitive.
//!
//! A waiter is a node on its own stack (or in its future). It is linked, unlinked and filled only under the
//! primitive's [`Lock`]; the thread that unlinks it (the *taker*) sets the wait's outcome and wakes it. Lists
//! are first in, first out.
//!
//! **Hazard.** The node and the waiter's record must exist as long as a taker uses them: also if the wait
//! ends by its deadline or is unwound just when it is taken, and also if the waiter's runtime ends right
//! after.
//!
//! **Protocol.**
//! - **N1** The taker, under the lock: unlinks the node, moves values from or into its slot, writes the
//!   outcome, moves the waker out. It does not touch the node again.
//! - **N2** The taker wakes. It marks a *foreign* green waiter (of another runtime than the taker's, or of
//!   any if the taker is no green thread) as such and wakes it *under* the lock; it may wake a waiter of its
//!   own runtime after, since the taker, a live thread, keeps that runtime alive. A future's waker is users'
//!   code, and is called after unlocking.
//! - **N3** The owner leaves without the lock only if the node has an outcome and only a taker of its own
//!   runtime can have woken it: then that taker has unlocked. Otherwise (a deadline, a shutdown, the mark, no
//!   outcome) it takes the lock: if still linked, it unlinks itself or waits on; else it was taken, and a
//!   foreign taker is done with it and, by N2, with its runtime.
//! - **N4** An OS thread's node has a flag that the taker sets as its last access; the owner leaves a taken
//!   node only when that is set.
//! - **N5** A thread that waits in several lists has a node in each, and one [`Claim`] for all. A taker moves
//!   the claim from open to its operation by compare-exchange; if that fails another taker was faster, and
//!   the node is unlinked and left alone. The owner gives up by the same exchange. Then it goes through the
//!   lock of every list that it was in, which ends all use of its nodes and of the claim, and by N4 waits for
//!   the flag if it was claimed.
//!
//! **Evidence.** loom `channel::models`: mutants `ClaimBlind` (N5 by a plain store), `NoOutcome` (N1),
//! `LeaveUnfired` (N4).

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem;
use std::ptr;

use gvt_traits::WaitReason;

pub(crate) use crate::wait::seat::Seat;
pub(crate) use crate::wait::select_wait::SelectWait;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicU8, AtomicU32, Mutant, is_failing, mutant};
use crate::wait::clock;
use crate::wait::host::{Green, Here, Inside, OsFlag};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::{Wake, WakeList, Waker};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum WaitOutcome {
    /// It has not ended.
    Waiting = 0,
    /// The waiter has what it waits for.
    Served,
    /// The waiter will never have it.
    Closed,
    /// The waiter must start over.
    Again,
    /// The deadline came first.
    TimedOut,
}

/// `Node::list` of a node in no list.
const NOWHERE: u8 = u8::MAX;
/// A bit in a list's number: its waiters have a promise and stay beyond their deadline.
pub(crate) const BOUND: u8 = 0x40;
/// A bit in a list's number, when a wait begins: the waiter goes to the front.
pub(crate) const FRONT: u8 = 0x20;

/// A waiter's entry in a list.
pub struct Node {
    next: *mut Node,
    previous: *mut Node,
    pub(super) waker: Waker,
    /// Null except for a select's node.
    claim: *const Claim,
    /// The waiter's `Option<V>`, or null.
    slot: *mut (),
    operation: u32,
    list: u8,
    /// A [`WaitOutcome`].
    outcome: AtomicU8,
    /// N2's mark; written before the outcome.
    foreign: bool,
}

impl Node {
    const_fn! {
    pub(super) const fn new(slot: *mut ()) -> Self {
        Node {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            waker: Waker::None,
            claim: ptr::null(),
            slot,
            operation: 0,
            list: NOWHERE,
            outcome: AtomicU8::new(WaitOutcome::Waiting as u8),
            foreign: false,
        }
    }
    }

    /// A node of a thread that waits in several lists; `operation` is what `claim` reports if it is taken
    /// here.
    pub(crate) fn of_several(claim: *const Claim, operation: u32) -> Self {
        Node { claim, operation, ..Node::new(ptr::null_mut()) }
    }

    /// Gives a select's node a slot, which says what it needs.
    ///
    /// # Safety
    ///
    /// **C1**: `slot` stays where it is until the node is unlinked, and its owner leaves it alone meanwhile;
    /// `V` is that of the lists that the node is linked into.
    pub(crate) unsafe fn set_slot<V>(&mut self, slot: *mut Option<V>) {
        self.slot = slot.cast();
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.list != NOWHERE
    }

    /// The number of the list that holds it.
    pub(crate) fn list(&self) -> u8 {
        self.list
    }

    pub(crate) fn claim(&self) -> *const Claim {
        self.claim
    }

    #[inline]
    pub(crate) fn outcome(&self) -> WaitOutcome {
        // ORDERING O2: Acquire pairs with the Release in `Waiter::end`: all of N1 is seen.
        let outcome = self.outcome.load(Acquire);
        // SAFETY: only `WaitOutcome`s are stored there.
        unsafe { mem::transmute::<u8, WaitOutcome>(outcome) }
    }
}

/// N5: which of several waits has come true.
pub(crate) struct Claim {
    word: AtomicU32,
    /// Written before the first node is linked, taken by the claimer.
    pub(super) waker: UnsafeCell<Waker>,
}

const OPEN: u32 = 0;
const GIVEN_UP: u32 = 1;
/// The code of operation 0.
const FIRST: u32 = 2;

impl Claim {
    pub(crate) fn new() -> Self {
        Claim { word: AtomicU32::new(OPEN), waker: UnsafeCell::new(Waker::None) }
    }

    fn try_claim(&self, operation: u32) -> bool {
        if mutant(Mutant::ClaimBlind) {
            let open = self.word.load(SeqCst) == OPEN;
            self.word.store(operation + FIRST, SeqCst);
            return open;
        }
        // ORDERING O1: AcqRel: the waker is seen; what the claimer did is seen in `give_up`.
        self.word.compare_exchange(OPEN, operation + FIRST, AcqRel, Relaxed).is_ok()
    }

    /// The owner gives up; returns the operation that was claimed before, if any.
    pub(crate) fn give_up(&self) -> Option<u32> {
        // ORDERING O1 on failure.
        match self.word.compare_exchange(OPEN, GIVEN_UP, Relaxed, Acquire) {
            Ok(_) | Err(GIVEN_UP) => None,
            Err(claimed) => Some(claimed - FIRST),
        }
    }
}

/// Waiting threads, in order of arrival; their slots hold an `Option<V>`.
pub(crate) struct List<V> {
    head: *mut Node,
    tail: *mut Node,
    slots: PhantomData<V>,
}

// SAFETY: nodes are reached only under the lock that guards the list; values pass between threads.
unsafe impl<V: Send> Send for List<V> {}

/// A waiter that was taken out of its list, under the lock.
pub(crate) struct Waiter<V> {
    node: *mut Node,
    waker: Waker,
    slots: PhantomData<V>,
}

impl<V> Waiter<V> {
    /// Its slot; `None` for a select's node without one.
    #[inline]
    pub(crate) fn slot(&mut self) -> Option<&mut Option<V>> {
        // SAFETY: the node and its slot, an `Option<V>` (`push`), exist until the waiter is woken or the lock
        // released, and the owner does not touch them meanwhile.
        unsafe { (*self.node).slot.cast::<Option<V>>().as_mut() }
    }

    /// The end of N1.
    #[inline]
    pub(crate) fn end(self, outcome: WaitOutcome, here: Here) -> Wake {
        let foreign = matches!(self.waker, Waker::Green(waker) if waker.is_foreign(here));
        if !mutant(Mutant::NoOutcome) {
            // SAFETY: as in `slot`.
            unsafe {
                (*self.node).foreign = foreign;
                // ORDERING O2: Release pairs with the Acquire in `Node::outcome`.
                (*self.node).outcome.store(outcome as u8, Release);
            }
        }
        Wake { waker: self.waker, foreign }
    }

    /// Moves it to another list of the primitive, to wait on there. Not for a select's node.
    pub(crate) fn move_to(self, list: &mut List<V>, number: u8) {
        // SAFETY: as in `slot`.
        unsafe { (*self.node).waker = self.waker };
        // SAFETY: the node was linked before, so it may be; the caller holds the lock.
        unsafe { list.push(self.node, number) };
    }
}

impl<V> List<V> {
    pub(crate) const fn new() -> Self {
        List { head: ptr::null_mut(), tail: ptr::null_mut(), slots: PhantomData }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Whether there is a waiter that can be taken, other than `mine`.
    pub(crate) fn has_other(&self, mine: *const Claim) -> bool {
        let mut at = self.head;
        while !at.is_null() {
            // SAFETY: linked nodes are alive, and the caller holds the lock. So is their claim (N5).
            let (node, claim) = unsafe { (&*at, (*at).claim.as_ref()) };
            match claim {
                None => return true,
                Some(claim) if !ptr::eq(claim, mine) && claim.word.load(Relaxed) == OPEN => return true,
                Some(_) => at = node.next,
            }
        }
        false
    }

    /// The content of the first waiter's slot. Not for lists with a select's nodes.
    #[inline]
    pub(crate) fn first_slot(&self) -> Option<&V> {
        // SAFETY: linked nodes are alive, and the caller holds the lock; the slot is an `Option<V>` (`push`).
        unsafe { self.head.as_ref()?.slot.cast::<Option<V>>().as_ref()?.as_ref() }
    }

    /// The content of the slot of the first waiter that can be taken; unlinks those before it (N5).
    pub(crate) fn first_open_slot(&mut self) -> Option<&V> {
        // SAFETY: linked nodes are alive, and the caller holds the lock. So is their claim (N5).
        while let Some(node) = unsafe { self.head.as_ref() } {
            // SAFETY: as above. Relaxed: a hint; the exchange decides.
            let is_open = unsafe { node.claim.as_ref() }.is_none_or(|claim| claim.word.load(Relaxed) == OPEN);
            if is_open {
                break;
            }
            // SAFETY: linked, and the caller holds the lock.
            unsafe { self.unlink(self.head) };
        }
        self.first_slot()
    }

    /// Takes the first waiter out, or unlinks it if it was taken in another list (N1, N5). There is one.
    pub(crate) fn take_first(&mut self) -> Option<Waiter<V>> {
        let node = self.head;
        // SAFETY: linked, and the caller holds the lock.
        unsafe { self.unlink(node) };
        // SAFETY: C1: just unlinked.
        unsafe { Self::claim(node) }
    }

    /// Claims a node that was unlinked; `None`: another taker was faster (N5).
    ///
    /// # Safety
    ///
    /// **C1**: the caller has just unlinked `node`, and holds the lock.
    #[inline]
    unsafe fn claim(node: *mut Node) -> Option<Waiter<V>> {
        // SAFETY: C1: alive until woken or the lock is released; its claim until its owner went through the
        // lock.
        let (claim, operation) = unsafe { ((*node).claim.as_ref(), (*node).operation) };
        let waker = match claim {
            // SAFETY: as above.
            None => unsafe { &mut (*node).waker },
            // SAFETY: only the claimer gets it.
            Some(claim) if claim.try_claim(operation) => unsafe { &mut *claim.waker.get() },
            Some(_) => return None,
        };
        Some(Waiter { node, waker: mem::replace(waker, Waker::None), slots: PhantomData })
    }

    /// Takes the first waiter out (N1, N5).
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Waiter<V>> {
        loop {
            let node = self.head;
            if node.is_null() {
                return None;
            }
            // SAFETY: linked, and the caller holds the lock.
            unsafe { self.unlink(node) };
            // SAFETY: C1: just unlinked.
            if let Some(waiter) = unsafe { Self::claim(node) } {
                return Some(waiter);
            }
        }
    }

    /// # Safety
    ///
    /// **C1**: `node` stays where it is until it is unlinked, and is in no list now; its slot is null or that
    /// of an `Option<V>`, which its owner leaves alone meanwhile. **C2**: the caller holds the lock.
    #[inline]
    pub(crate) unsafe fn push(&mut self, node: *mut Node, number: u8) {
        // SAFETY: C1, C2.
        unsafe {
            (*node).previous = self.tail;
            (*node).next = ptr::null_mut();
            (*node).list = number;
            if self.tail.is_null() {
                self.head = node;
            } else {
                (*self.tail).next = node;
            }
        }
        self.tail = node;
    }

    /// [`push`](Self::push) to the front.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub(super) unsafe fn push_front(&mut self, node: *mut Node, number: u8) {
        // SAFETY: C1, C2.
        unsafe {
            (*node).previous = ptr::null_mut();
            (*node).next = self.head;
            (*node).list = number;
            if self.head.is_null() {
                self.tail = node;
            } else {
                (*self.head).previous = node;
            }
        }
        self.head = node;
    }

    /// # Safety
    ///
    /// **C1**: `node` is in this list. **C2**: the caller holds the lock.
    #[inline]
    pub(crate) unsafe fn unlink(&mut self, node: *mut Node) {
        // SAFETY: C1, C2; neighbours of a linked node are linked.
        unsafe {
            debug_assert!((*node).is_linked());
            (*node).list = NOWHERE;
            let (previous, next) = ((*node).previous, (*node).next);
            if previous.is_null() {
                self.head = next;
            } else {
                (*previous).next = next;
            }
            if next.is_null() {
                self.tail = previous;
            } else {
                (*next).previous = previous;
            }
        }
    }
}

/// How a primitive waits.
pub(crate) struct WaitPolicy<C, S, V> {
    /// Its lists, by number.
    pub(crate) list: fn(&mut S, u8) -> &mut List<V>,
    pub(crate) reason: WaitReason,
    /// Called with the primitive locked when the wait is unwound. If the waiter was taken, the content of its
    /// slot, and whatever else it was given, must not be lost; if the outcome is `Waiting`, it left its list.
    pub(crate) abandon: fn(&C, &mut S, &mut Option<V>, WaitOutcome, &mut WakeList, Here),
}

/// Waits in list `number` of a locked primitive.
///
/// `slot` is what the waiter brings, or what it will be given. `primitive` is passed to `abandon`.
///
/// Context: a green thread or an OS thread. Unwinds at shutdown.
#[inline]
pub(crate) fn wait<C, S, V>(
    primitive: &C,
    guard: LockGuard<'_, S>,
    policy: &WaitPolicy<C, S, V>,
    number: u8,
    slot: &mut Option<V>,
    deadline_ns: Option<u64>,
) -> WaitOutcome {
    wait_then(primitive, guard, policy, number, slot, deadline_ns, None)
}

/// [`wait`] that calls `then` once, after it has entered the list and unlocked; `then` must not wait.
#[inline]
pub(crate) fn wait_then<C, S, V>(
    primitive: &C,
    mut guard: LockGuard<'_, S>,
    policy: &WaitPolicy<C, S, V>,
    number: u8,
    slot: &mut Option<V>,
    deadline_ns: Option<u64>,
    then: Option<&mut dyn FnMut()>,
) -> WaitOutcome {
    let node = UnsafeCell::new(Node::new(ptr::from_mut(slot).cast()));
    let node = node.get();
    let list = (policy.list)(&mut guard, number & !FRONT);
    // SAFETY: C1: the node stays here until it is unlinked: by a taker, by `wait_green` or `wait_os`, or by
    // `Unwound`.
    unsafe {
        if number & FRONT == 0 {
            list.push(node, number);
        } else {
            list.push_front(node, number & !FRONT);
        }
    }
    match guard.here().green(policy.reason) {
        Some(green) => {
            let place = Unwound { primitive, lock: guard.lock(), policy, node };
            wait_green(place, green, guard, deadline_ns, then)
        }
        None => wait_os(policy, node, guard, deadline_ns, then),
    }
}

fn wait_green<'a, C, S, V>(
    place: Unwound<'a, C, S, V>,
    mut green: Green<'_>,
    mut guard: LockGuard<'a, S>,
    mut deadline_ns: Option<u64>,
    mut then: Option<&mut dyn FnMut()>,
) -> WaitOutcome {
    let Unwound { lock, policy, node, .. } = place;
    loop {
        // SAFETY: under the lock.
        unsafe { (*node).waker = Waker::Green(green.waker()) };
        let mut inside = guard.unlock_inside();
        if let Some(then) = then.take() {
            drop(inside);
            then();
            inside = Inside::enter();
        }
        let parked = green.park(inside, deadline_ns);
        // SAFETY: the node is here; atomic.
        let outcome = unsafe { (*node).outcome() };
        if parked.surely && outcome != WaitOutcome::Waiting {
            // N3: a taker has ended this wait.
            mem::forget(place);
            // SAFETY: taken, and the taker is done with the node (N1).
            if unsafe { (*node).foreign } {
                drop(lock.lock());
            }
            return outcome;
        }
        guard = lock.lock();
        if let Some(outcome) = resolve(policy, &mut guard, node, &mut deadline_ns) {
            mem::forget(place);
            return outcome;
        }
        guard = parked.unless_cancelled(guard);
        green = guard.here().green(policy.reason).expect("a green thread stays one");
    }
}

fn wait_os<C, S, V>(
    policy: &WaitPolicy<C, S, V>,
    node: *mut Node,
    mut guard: LockGuard<'_, S>,
    mut deadline_ns: Option<u64>,
    mut then: Option<&mut dyn FnMut()>,
) -> WaitOutcome {
    let lock = guard.lock();
    let flag = OsFlag::new();
    loop {
        // SAFETY: under the lock.
        unsafe { (*node).waker = Waker::Os(flag.waker()) };
        drop(guard);
        if let Some(then) = then.take() {
            then();
        }
        flag.wait(deadline_ns);
        if flag.is_fired() {
            // N4. SAFETY: taken, and the taker is done with the node.
            return unsafe { (*node).outcome() };
        }
        guard = lock.lock();
        if let Some(outcome) = resolve(policy, &mut guard, node, &mut deadline_ns) {
            drop(guard);
            if outcome != WaitOutcome::TimedOut {
                wait_until_fired(&flag);
            }
            return outcome;
        }
    }
}

/// How the wait ended if it is not certain that a taker ended it, decided under the lock (N3); `None`: it
/// goes on.
fn resolve<C, S, V>(
    policy: &WaitPolicy<C, S, V>,
    primitive: &mut S,
    node: *mut Node,
    deadline_ns: &mut Option<u64>,
) -> Option<WaitOutcome> {
    // SAFETY: under the lock.
    let (list, outcome) = unsafe { ((*node).list, (*node).outcome()) };
    if list == NOWHERE {
        return Some(outcome);
    }
    match *deadline_ns {
        Some(_) if list & BOUND != 0 => *deadline_ns = None,
        Some(deadline) if clock::now_ns() >= deadline => {
            // SAFETY: linked, and the caller holds the lock.
            unsafe { (policy.list)(primitive, list).unlink(node) };
            return Some(WaitOutcome::TimedOut);
        }
        // Woken, but not by the primitive.
        _ => {}
    }
    None
}

/// N4, on an OS thread.
pub(super) fn wait_until_fired(flag: &OsFlag) {
    while !flag.is_fired() && !mutant(Mutant::LeaveUnfired) {
        flag.wait(None);
    }
}

/// Unlinks the node when its wait is unwound.
pub(super) struct Unwound<'a, C, S, V> {
    pub(super) primitive: &'a C,
    pub(super) lock: &'a Lock<S>,
    pub(super) policy: &'a WaitPolicy<C, S, V>,
    pub(super) node: *mut Node,
}

impl<C, S, V> Drop for Unwound<'_, C, S, V> {
    fn drop(&mut self) {
        if is_failing() {
            return;
        }
        let mut guard = self.lock.lock();
        let here = guard.here();
        let mut wakes = WakeList::new();
        // SAFETY: under the lock.
        let (list, outcome) = unsafe { ((*self.node).list, (*self.node).outcome()) };
        if list != NOWHERE {
            // SAFETY: linked, under the lock.
            unsafe { (self.policy.list)(&mut guard, list).unlink(self.node) };
        }
        // SAFETY: in no list, so the slot is the owner's again; it is an `Option<V>`.
        let slot = unsafe { &mut *(*self.node).slot.cast::<Option<V>>() };
        (self.policy.abandon)(self.primitive, &mut guard, slot, outcome, &mut wakes, here);
        drop(guard);
        wakes.fire();
    }
}
