//! Lists of threads that wait at a primitive.
//!
//! A waiter is a node on its own stack. It is linked, unlinked and filled only under the primitive's
//! [`Lock`]; who unlinks it (the *taker*) hands it a value and wakes it.
//!
//! **Hazard.** The node and the waiter's record must be there as long as a taker uses them: also if the wait
//! ends by its deadline or is unwound just when it is taken, and also if the waiter's runtime ends right after.
//!
//! **Protocol.**
//! - **N1** The taker, under the lock: unlinks the node, fills its slot, moves the waker out. It does
//!   not touch the node again.
//! - **N2** The taker wakes. A *foreign* green waiter (of another runtime than the taker's, or of any if the
//!   taker is no green thread) is marked so and woken *under* the lock; one of the taker's own runtime may be
//!   woken after, since the taker, a live thread, keeps that runtime.
//! - **N3** The owner leaves without the lock only if nothing but a taker of its own runtime could have woken it.
//!   Otherwise (a deadline, a shutdown, the mark) it takes the lock: still linked, it unlinks itself; else it was
//!   taken, and by N2 a foreign taker is done with it and with its runtime, whose queue the wake-up used.
//! - **N4** An OS thread's node carries a flag that the taker sets as its last access; the owner leaves a taken
//!   node only when that is set.
//!
//! Lists are first in, first out.

use std::cell::UnsafeCell;
use std::marker::PhantomPinned;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread::Thread;
use std::time::Duration;

use gvt_traits::{TimerType, WaitReason};

use super::lock::{Lock, LockGuard};
use crate::park::{self, Wait, WaitWaker};
use crate::sched::local;

/// A waiter's place in a list.
struct Node<V> {
    next: *mut Node<V>,
    previous: *mut Node<V>,
    linked: bool,
    /// N2's mark; set by the taker.
    foreign: bool,
    waker: Option<Waker>,
    slot: Option<V>,
    _pinned: PhantomPinned,
}

/// Threads that wait, in order of arrival.
pub(crate) struct List<V> {
    head: *mut Node<V>,
    tail: *mut Node<V>,
}

// SAFETY: nodes are reached only under the lock that guards the list; values pass between threads.
unsafe impl<V: Send> Send for List<V> {}

/// What wakes a waiter.
enum Waker {
    Green(WaitWaker),
    Os { thread: Thread, fired: *const AtomicBool },
}

impl Waker {
    /// Whether it must be used under the lock (N2).
    fn is_foreign(&self) -> bool {
        match self {
            Waker::Green(waker) => {
                // The caller holds the lock, and with it a section, so it keeps its worker.
                // SAFETY: a carried worker is alive.
                let here = unsafe { local::worker().as_ref() };
                !here.is_some_and(|worker| ptr::eq(worker.core, waker.core()))
            }
            Waker::Os { .. } => false,
        }
    }

    fn wake(self) {
        match self {
            Waker::Green(waker) => {
                waker.wake();
            }
            Waker::Os { thread, fired } => {
                // ORDERING O1: Release pairs with the Acquire in `wait_os`. N4: the last access.
                // SAFETY: the owner keeps the node until this store.
                unsafe { &*fired }.store(true, Release);
                thread.unpark();
            }
        }
    }
}

/// A waiter that was taken out of its list and is to be woken.
#[must_use = "a waiter that was taken sleeps until it is woken"]
pub(crate) struct Taken {
    waker: Waker,
    foreign: bool,
}

impl Taken {
    /// Wakes the waiter, after unlocking if it may be (N2).
    #[inline]
    pub(crate) fn wake<S>(self, guard: LockGuard<'_, S>) {
        if self.foreign {
            self.waker.wake();
            drop(guard);
        } else {
            drop(guard);
            self.waker.wake();
        }
    }

    /// Wakes the waiter under the lock, which the caller holds.
    pub(crate) fn wake_locked(self) {
        self.waker.wake();
    }
}

impl<V> List<V> {
    pub(crate) const fn new() -> Self {
        List { head: ptr::null_mut(), tail: ptr::null_mut() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Takes the first waiter and leaves its slot as it is.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        self.take_first(|_| ())
    }

    /// Takes the first waiter and puts `value` into its slot; gives it back if nobody waits.
    #[inline]
    pub(crate) fn take_with(&mut self, value: V) -> Result<Taken, V> {
        let mut value = Some(value);
        match self.take_first(|slot| *slot = value.take()) {
            Some(taken) => Ok(taken),
            None => Err(value.expect("not given to anybody")),
        }
    }

    /// Takes the first waiter and what it has brought.
    #[inline]
    pub(crate) fn take_out(&mut self) -> Option<(Taken, V)> {
        let mut value = None;
        let taken = self.take_first(|slot| value = slot.take())?;
        Some((taken, value.expect("the waiter has brought something")))
    }

    /// N1 and the mark of N2.
    #[inline]
    fn take_first(&mut self, exchange: impl FnOnce(&mut Option<V>)) -> Option<Taken> {
        let node = NonNull::new(self.head)?;
        // SAFETY: linked nodes are alive, and the caller holds the lock.
        let node = unsafe { &mut *node.as_ptr() };
        self.unlink(node);
        exchange(&mut node.slot);
        let waker = node.waker.take().expect("a linked node has a waker");
        let foreign = waker.is_foreign();
        node.foreign = foreign;
        Some(Taken { waker, foreign })
    }

    fn push(&mut self, node: &mut Node<V>) {
        node.previous = self.tail;
        node.next = ptr::null_mut();
        node.linked = true;
        match NonNull::new(self.tail) {
            // SAFETY: as in `take`.
            Some(tail) => unsafe { (*tail.as_ptr()).next = node },
            None => self.head = node,
        }
        self.tail = node;
    }

    fn unlink(&mut self, node: &mut Node<V>) {
        debug_assert!(node.linked);
        node.linked = false;
        match NonNull::new(node.previous) {
            // SAFETY: neighbours of a linked node are linked.
            Some(previous) => unsafe { (*previous.as_ptr()).next = node.next },
            None => self.head = node.next,
        }
        match NonNull::new(node.next) {
            // SAFETY: as above.
            Some(next) => unsafe { (*next.as_ptr()).previous = node.previous },
            None => self.tail = node.previous,
        }
    }
}

/// How a wait in a list came out. Each carries what lies in the waiter's slot.
#[derive(Debug)]
pub(crate) enum Outcome<V> {
    /// A taker took it, and left this.
    Taken(Option<V>),
    /// The deadline came first, or the wait ended for no reason of the primitive's; this is what the waiter
    /// brought.
    TimedOut(Option<V>),
}

/// Waits in a list of a locked primitive.
///
/// `guard` is the primitive, locked, and `list` says which of its lists to wait in. `brought` is put into the
/// waiter's slot for the taker. `abandon` gets the slot's content if the wait is unwound after it was
/// taken, with the primitive locked: a value must not be lost. What it returns is dropped after unlocking.
///
/// Context: a green thread or an OS thread. Unwinds at shutdown.
pub(crate) fn wait<S, V>(
    mut guard: LockGuard<'_, S>,
    lock: &Lock<S>,
    list: fn(&mut S) -> &mut List<V>,
    brought: Option<V>,
    reason: WaitReason,
    deadline_ns: Option<u64>,
    abandon: fn(&mut S, Option<V>) -> Option<V>,
) -> Outcome<V> {
    let fired = AtomicBool::new(false);
    let node = UnsafeCell::new(Node {
        next: ptr::null_mut(),
        previous: ptr::null_mut(),
        linked: false,
        foreign: false,
        waker: None,
        slot: brought,
        _pinned: PhantomPinned,
    });
    let me = park::current();
    let green = me.map(|record| Wait::new(record, reason));
    // SAFETY: not linked yet, so this thread's alone.
    unsafe { &mut *node.get() }.waker = Some(match &green {
        Some(wait) => Waker::Green(wait.waker()),
        None => Waker::Os { thread: std::thread::current(), fired: &fired },
    });
    // SAFETY: the node stays here until it is unlinked: by a taker, by `settle`, or by `Unwound`.
    list(&mut guard).push(unsafe { &mut *node.get() });
    drop(guard);

    match green.zip(me) {
        Some((wait, record)) => {
            let unwound = Unwound { lock, list, node: &node, abandon };
            match deadline_ns {
                None => wait.park(),
                Some(deadline) => wait.park_until(deadline, TimerType::Deadline),
            }
            std::mem::forget(unwound);
            if deadline_ns.is_none() && !record.is_asked_to_unwind() {
                // N3: nothing but a taker has ended this wait.
                // SAFETY: taken, and the taker is done with the node (N1).
                let node = unsafe { &mut *node.get() };
                if node.foreign {
                    drop(lock.lock());
                }
                return Outcome::Taken(node.slot.take());
            }
            settle(lock, list, &node)
        }
        None => {
            wait_os(&fired, deadline_ns);
            let outcome = settle(lock, list, &node);
            if matches!(outcome, Outcome::Taken(_)) {
                // N4.
                wait_os(&fired, None);
            }
            outcome
        }
    }
}

/// N3: decides under the lock.
fn settle<S, V>(lock: &Lock<S>, list: fn(&mut S) -> &mut List<V>, node: &UnsafeCell<Node<V>>) -> Outcome<V> {
    let mut guard = lock.lock();
    // SAFETY: under the lock.
    let node = unsafe { &mut *node.get() };
    if node.linked {
        list(&mut guard).unlink(node);
        Outcome::TimedOut(node.slot.take())
    } else {
        Outcome::Taken(node.slot.take())
    }
}

fn wait_os(fired: &AtomicBool, deadline_ns: Option<u64>) {
    // ORDERING O1: Acquire pairs with the Release in `Waker::wake`.
    while !fired.load(Acquire) {
        match deadline_ns {
            None => std::thread::park(),
            Some(deadline) => {
                let now = crate::os::monotonic_ns();
                if now >= deadline {
                    return;
                }
                std::thread::park_timeout(Duration::from_nanos(deadline - now));
            }
        }
    }
}

/// Takes the node back when its wait is unwound.
struct Unwound<'a, S, V> {
    lock: &'a Lock<S>,
    list: fn(&mut S) -> &mut List<V>,
    node: &'a UnsafeCell<Node<V>>,
    abandon: fn(&mut S, Option<V>) -> Option<V>,
}

impl<S, V> Drop for Unwound<'_, S, V> {
    fn drop(&mut self) {
        let mut guard = self.lock.lock();
        // SAFETY: under the lock.
        let node = unsafe { &mut *self.node.get() };
        if node.linked {
            (self.list)(&mut guard).unlink(node);
        } else {
            let slot = node.slot.take();
            let rest = (self.abandon)(&mut guard, slot);
            drop(guard);
            drop(rest);
        }
    }
}
