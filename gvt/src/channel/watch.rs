//! A watched value: receivers see the latest, and can wait for a change.
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! let (sender, mut receiver) = gvt::channel::watch::channel("starting");
//! let thread = gvt::spawn(move |_| {
//!     receiver.changed().unwrap();
//!     *receiver.borrow()
//! });
//! gvt::yield_now();
//! sender.send("running").unwrap();
//! assert_eq!(thread.join().unwrap(), "running");
//! # });
//! ```

// **Protocol.** The value is behind an `RwLock`; its version and the waiters are behind one short lock.
// **W1** A change writes the value and raises the version under the `RwLock`, then wakes all waiters. **W2**
// A receiver that has seen the version waits. **W3** A borrow that marks the value as seen reads the version
// with the value locked, so that the two belong together. **W4** A borrow passes waiting senders, since the
// borrower may hold another `Ref`, which they wait for.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::arms::{On, Operation, Waited, waited};
use super::selected::Token;
use crate::protocol::user;
use crate::sync::{RwLock, RwLockReadGuard};
use crate::wait::clock::{deadline_ns, has_passed, now};
use crate::wait::host::give_way;
use crate::wait::list::{List, Seat, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::WakeList;

struct Shared<T> {
    value: RwLock<T>,
    state: Lock<State>,
}

#[doc(hidden)]
pub struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    /// Waiters for a change, and for the last receiver to go.
    waiters: [List<()>; 2],
}

/// Numbers of the lists.
const CHANGE: u8 = 0;
const CLOSED: u8 = 1;

const POLICY: WaitPolicy<(), State, ()> = WaitPolicy {
    list: |state, number| &mut state.waiters[usize::from(number)],
    reason: WaitReason::ChannelRecv,
    abandon: |_, _, _, _, _, _| {},
};

impl<T> Shared<T> {
    /// Calls `f` to change the value; if it returns `true`, wakes all waiters (W1). If `f` panics it wakes
    /// none.
    fn change(&self, f: impl FnOnce(&mut T) -> bool) -> bool {
        give_way();
        let mut value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        if !f(&mut value) {
            return false;
        }
        let mut state = self.state.lock();
        state.version += 1;
        let wakes = take_all(&mut state, CHANGE);
        drop(state);
        drop(value);
        wakes.fire();
        true
    }

    fn read(&self) -> RwLockReadGuard<'_, T> {
        give_way();
        self.value.read_past_waiters().unwrap_or_else(PoisonError::into_inner)
    }

    /// W2; returns whether there was a change in time.
    fn wait_changed(&self, seen: &mut u64, deadline: Option<Instant>) -> Result<bool, RecvError> {
        give_way();
        loop {
            let state = self.state.lock();
            if state.version != *seen {
                *seen = state.version;
                return Ok(true);
            }
            if state.senders == 0 {
                return Err(RecvError);
            }
            if deadline.is_some_and(has_passed) {
                return Ok(false);
            }
            wait(&(), state, &POLICY, CHANGE, &mut None, deadline.map(deadline_ns));
        }
    }

    /// W3.
    fn see(&self, seen: &mut u64) -> RwLockReadGuard<'_, T> {
        let guard = self.read();
        *seen = self.state.lock().version;
        guard
    }
}

/// Takes all waiters out of a list; the caller wakes them without the lock.
fn take_all(state: &mut LockGuard<'_, State>, number: u8) -> WakeList {
    let here = state.here();
    let mut wakes = WakeList::new();
    while let Some(waiter) = (POLICY.list)(state, number).take() {
        wakes.push(waiter.end(WaitOutcome::Again, here));
    }
    wakes
}

/// Makes a watched value, with one receiver that has seen it.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = State { version: 0, senders: 1, receivers: 1, waiters: [List::new(), List::new()] };
    let shared = Arc::new(Shared { value: RwLock::new(value), state: Lock::new(state) });
    (Sender { shared: shared.clone() }, Receiver { shared, seen: AtomicU64::new(0) })
}

/// Changes the value. Clones change the same.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Sees the value, and waits for changes. A clone has seen what its original has seen.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The last version that was seen. Relaxed: one thread uses a receiver; if several share a borrow of it,
    /// one of them may see a change twice.
    seen: AtomicU64,
}

/// The value, for reading; it does not change meanwhile. Further borrows, on any thread, do not wait for
/// senders that wait for this one; so senders wait as long as any borrow is held, and a thread that sends
/// while it holds one waits for itself.
#[must_use = "the value cannot change while this lives"]
pub struct Ref<'a, T> {
    guard: RwLockReadGuard<'a, T>,
}

/// There is no receiver; holds the value.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// No sender is left, and the last value has been seen.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct RecvError;

impl<T> Sender<T> {
    /// Replaces the value.
    ///
    /// Context: a green thread or an OS thread; waits while a [`Ref`] is held, for ever if the caller holds
    /// one.
    ///
    /// # Errors
    ///
    /// The new value, if there is no receiver.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Replaces the value, also without a receiver; returns the old one.
    ///
    /// Context: as [`send`](Self::send).
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|place| std::mem::swap(place, &mut value));
        value
    }

    /// Changes the value in place.
    ///
    /// Context: as [`send`](Self::send).
    pub fn send_modify(&self, f: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            f(value);
            true
        });
    }

    /// Changes the value in place; receivers are told only if `f` returns `true`, which is the result.
    ///
    /// Context: as [`send`](Self::send).
    pub fn send_if_modified(&self, f: impl FnOnce(&mut T) -> bool) -> bool {
        self.shared.change(f)
    }

    /// The value.
    ///
    /// Context: a green thread or an OS thread; waits while it is being changed.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { guard: self.shared.read() }
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.state.lock();
        state.receivers += 1;
        let seen = state.version;
        drop(state);
        Receiver { shared: self.shared.clone(), seen: AtomicU64::new(seen) }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        give_way();
        self.shared.state.lock().receivers
    }

    /// Whether there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there is no receiver.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    pub fn closed(&self) {
        loop {
            let state = self.shared.state.lock();
            if state.receivers == 0 {
                return;
            }
            wait(&(), state, &POLICY, CLOSED, &mut None, None);
        }
    }

    /// Whether both change the same value.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Receiver<T> {
    /// The value; does not count as seen.
    ///
    /// Context: as [`Sender::borrow`].
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { guard: self.shared.read() }
    }

    /// The value; counts as seen.
    ///
    /// Context: as [`Sender::borrow`].
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        Ref { guard: self.shared.see(self.seen.get_mut()) }
    }

    /// Whether there is a value that has not been seen.
    ///
    /// # Errors
    ///
    /// If there is none and no sender is left.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        give_way();
        let state = self.shared.state.lock();
        let seen = self.seen.load(Relaxed);
        if state.version == seen && state.senders == 0 {
            return Err(RecvError);
        }
        Ok(state.version != seen)
    }

    /// Waits for a value that has not been seen, which then counts as seen.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If there is none and no sender is left.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        self.shared.wait_changed(self.seen.get_mut(), None).map(|_| ())
    }

    /// [`changed`](Self::changed) with a time limit; returns whether there was a change.
    ///
    /// Context: as [`changed`](Self::changed).
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.shared.wait_changed(self.seen.get_mut(), now().checked_add(timeout))
    }

    /// Waits until the value fulfils a condition, and returns it; it then counts as seen.
    ///
    /// Context: as [`changed`](Self::changed).
    ///
    /// # Errors
    ///
    /// If it does not and no sender is left.
    pub fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        let shared = &self.shared;
        loop {
            let guard = shared.see(self.seen.get_mut());
            if condition(&guard) {
                return Ok(Ref { guard });
            }
            drop(guard);
            shared.wait_changed(self.seen.get_mut(), None)?;
        }
    }

    /// Marks the present value as not seen.
    pub fn mark_changed(&mut self) {
        *self.seen.get_mut() = self.shared.state.lock().version.wrapping_sub(1);
    }

    /// Marks the present value as seen.
    pub fn mark_unchanged(&mut self) {
        *self.seen.get_mut() = self.shared.state.lock().version;
    }

    /// Whether both see the same value.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// [`changed`](Self::changed) as a future.
    ///
    /// Context: any executor, on any thread.
    pub fn changed_async(&mut self) -> ChangedFuture<'_, T> {
        ChangedFuture { receiver: self, seat: Seat::new() }
    }
}

waited! {
    /// `changed(receiver) -> result` in `select!`.
    Changed = changed(Receiver), State, ();
    lock: |receiver| &receiver.shared.state;
    ready: |receiver, state| state.version != receiver.seen.load(Relaxed) || state.senders == 0;
    list: |state| ((POLICY.list)(state, CHANGE), CHANGE);
}

impl<T> Operation for Changed<'_, T> {
    type Output = Result<(), RecvError>;

    fn complete(&self, _: Token) -> Self::Output {
        let mut seen = self.0.seen.load(Relaxed);
        // Waits only if another thread with the same receiver was faster.
        let changed = self.0.shared.wait_changed(&mut seen, None);
        self.0.seen.store(seen, Relaxed);
        changed.map(|_| ())
    }
}

waited! {
    /// `closed(sender) -> ()` in `select!`.
    Closed = closed(Sender), State, ();
    lock: |sender| &sender.shared.state;
    ready: |_, state| state.receivers == 0;
    list: |state| ((POLICY.list)(state, CLOSED), CLOSED);
}

impl<T> Operation for Closed<'_, T> {
    type Output = ();

    fn complete(&self, _: Token) {}
}

/// Waits for a change; see [`Receiver::changed_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct ChangedFuture<'a, T> {
    receiver: &'a mut Receiver<T>,
    seat: Seat<()>,
}

impl<T> Future for ChangedFuture<'_, T> {
    type Output = Result<(), RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        let shared = &this.receiver.shared;
        if this.seat.is_taken() {
            ready!(this.seat.poll(&shared.state, context));
        }
        let waker = user::Waker::of(context);
        let state = shared.state.lock();
        if state.version != *this.receiver.seen.get_mut() {
            *this.receiver.seen.get_mut() = state.version;
            return Poll::Ready(Ok(()));
        }
        if state.senders == 0 {
            return Poll::Ready(Err(RecvError));
        }
        // SAFETY: C1: the future is pinned, and leaves when it is dropped.
        unsafe { this.seat.take(state, &POLICY, CHANGE, None, waker) };
        Poll::Pending
    }
}

impl<T> Drop for ChangedFuture<'_, T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &self.receiver.shared.state, &POLICY);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().senders += 1;
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            let wakes = take_all(&mut state, CHANGE);
            drop(state);
            wakes.fire();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let mut state = self.shared.state.lock();
        state.receivers += 1;
        let seen = self.seen.load(Relaxed);
        drop(state);
        Receiver { shared: self.shared.clone(), seen: AtomicU64::new(seen) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            let wakes = take_all(&mut state, CLOSED);
            drop(state);
            wakes.fire();
        }
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

impl<T> fmt::Debug for ChangedFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ChangedFuture { .. }")
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("nobody watches the value")
    }
}

impl<T> Error for SendError<T> {}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("nobody is left who could change the value")
    }
}

impl Error for RecvError {}
