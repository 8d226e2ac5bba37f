//! A future as a waiter: its node is in the future itself, not on a stack.

use std::cell::UnsafeCell;
use std::marker::PhantomPinned;
use std::mem;
use std::ptr;
use std::task::{Context, Poll};

use crate::protocol::user;
use crate::wait::list::{FRONT, Node, Unwound, WaitOutcome, WaitPolicy};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::Waker;

/// A future's waiter: its node in a list, and its slot.
///
/// The future is pinned while it is linked. It acts only with the lock (N3 of `list`), and keeps nothing that
/// a taker uses after unlocking: the waker is moved out (N1 of `list`).
pub(crate) struct Seat<V> {
    node: UnsafeCell<Node>,
    slot: UnsafeCell<Option<V>>,
    taken: bool,
    _pinned: PhantomPinned,
}

// SAFETY: node and slot are used under the list's lock, or while the seat is not taken; values pass between
// threads.
unsafe impl<V: Send> Send for Seat<V> {}
// SAFETY: a shared reference to a seat gives access to nothing.
unsafe impl<V: Send> Sync for Seat<V> {}

impl<V> Seat<V> {
    const_fn! {
    pub(crate) const fn new() -> Self {
        Seat {
            node: UnsafeCell::new(Node::new(ptr::null_mut())),
            slot: UnsafeCell::new(None),
            taken: false,
            _pinned: PhantomPinned,
        }
    }
    }

    /// Whether the future is in a list, or was taken and has not seen the outcome.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken
    }

    /// Takes a seat in list `number` of a locked primitive.
    ///
    /// # Safety
    ///
    /// **C1**: the seat is pinned, not taken, and `leave` is called before it is dropped.
    pub(crate) unsafe fn take<C, S>(
        &mut self,
        mut guard: LockGuard<'_, S>,
        policy: &WaitPolicy<C, S, V>,
        number: u8,
        value: Option<V>,
        waker: user::Waker,
    ) {
        debug_assert!(!self.taken);
        self.taken = true;
        *self.slot.get_mut() = value;
        let mut node = Node::new(self.slot.get().cast());
        node.waker = Waker::Task(waker);
        let place = self.node.get();
        // SAFETY: in no list.
        unsafe { place.write(node) };
        let list = (policy.list)(&mut guard, number & !FRONT);
        // SAFETY: C1.
        unsafe {
            if number & FRONT == 0 {
                list.push(place, number);
            } else {
                list.push_front(place, number & !FRONT);
            }
        }
    }

    /// The outcome of the wait, with the slot's content; the seat is free then.
    pub(crate) fn poll<S>(
        &mut self,
        lock: &Lock<S>,
        context: &mut Context<'_>,
    ) -> Poll<(WaitOutcome, Option<V>)> {
        // Wakers are users' code: cloned before the lock, dropped after it.
        let waker = Waker::Task(user::Waker::of(context));
        let guard = lock.lock();
        let node = self.node.get();
        // SAFETY: under the lock.
        if unsafe { (*node).is_linked() } {
            // SAFETY: under the lock.
            let old = unsafe { mem::replace(&mut (*node).waker, waker) };
            drop(guard);
            drop(old);
            return Poll::Pending;
        }
        drop(guard);
        self.taken = false;
        // SAFETY: taken, and the taker is done with it (N1 of `list`).
        Poll::Ready(unsafe { ((*node).outcome(), (*self.slot.get()).take()) })
    }

    /// The future is dropped: gives the seat up, like an unwound wait.
    pub(crate) fn leave<C, S>(&mut self, primitive: &C, lock: &Lock<S>, policy: &WaitPolicy<C, S, V>) {
        if mem::take(&mut self.taken) {
            drop(Unwound { primitive, lock, policy, node: self.node.get() });
        }
    }
}
