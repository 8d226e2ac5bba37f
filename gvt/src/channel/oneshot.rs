//! A channel for one message.
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! let (sender, receiver) = gvt::channel::oneshot::channel();
//! gvt::spawn(move |_| sender.send(6 * 7));
//! assert_eq!(receiver.recv(), Ok(42));
//! # });
//! ```

// **Protocol.** Under one lock: **H1** the sender hands its message to the waiting receiver, or leaves it;
// **H2** an end that goes notes that, and wakes the other. **H3** A message that was handed over unseen (its
// receiver was unwound, or its future dropped) is dropped with the receiver.
//
// There is a list for each end: both may wait at once, the sender for the receiver to go.
//
// **Evidence.** loom `models::oneshot_*`; mutant `CloseSilently` (H2 wakes nobody) fails.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::arms::{On, Operation, Waited, waited};
use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::selected::Token;
use crate::protocol::atomics::{Mutant, is_failing, mutant};
use crate::protocol::user;
use crate::wait::clock::{deadline_ns, now};
use crate::wait::host::give_way;
use crate::wait::list::{List, Seat, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::{Lock, LockGuard};

/// Sends the one message.
pub struct Sender<T> {
    shared: Arc<Lock<State<T>>>,
    sent: bool,
}

/// Receives the one message. As a future: `receiver.await`.
pub struct Receiver<T> {
    shared: Arc<Lock<State<T>>>,
}

#[doc(hidden)]
pub struct State<T> {
    message: Option<T>,
    /// The other end is gone, or has nothing left to say.
    closed: bool,
    receiver: List<T>,
    /// The sender that waits for the receiver to go.
    sender: List<()>,
}

impl<T> State<T> {
    const POLICY: WaitPolicy<(), State<T>, T> = WaitPolicy {
        list: |state, _| &mut state.receiver,
        reason: WaitReason::ChannelRecv,
        // H3: the slot's content is dropped with its owner.
        abandon: |_, _, _, _, _, _| {},
    };

    const CLOSING: WaitPolicy<(), State<T>, ()> = WaitPolicy {
        list: |state, _| &mut state.sender,
        reason: WaitReason::ChannelSend,
        abandon: |_, _, _, _, _, _| {},
    };
}

/// H2 for the receiver.
fn close<T>(mut state: LockGuard<'_, State<T>>) {
    state.closed = true;
    let here = state.here();
    if let Some(waiter) = state.sender.take() {
        let wake = waiter.end(WaitOutcome::Closed, here);
        state.wake(wake);
    }
}

/// Makes the two ends.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Lock::new(State {
        message: None,
        closed: false,
        receiver: List::new(),
        sender: List::new(),
    }));
    (Sender { shared: shared.clone(), sent: false }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Sends the message; does not wait.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// The message, if the receiver is gone.
    pub fn send(mut self, message: T) -> Result<(), T> {
        give_way();
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            self.sent = true;
            return Err(message);
        }
        // H1.
        state.closed = true;
        let here = state.here();
        match state.receiver.take() {
            Some(mut waiter) => {
                match waiter.slot() {
                    Some(slot) => *slot = Some(message),
                    // A select has no slot: it comes and takes the message.
                    None => state.message = Some(message),
                }
                let wake = waiter.end(WaitOutcome::Served, here);
                state.wake(wake);
            }
            None => {
                state.message = Some(message);
                drop(state);
            }
        }
        self.sent = true;
        Ok(())
    }

    /// Whether the receiver is gone, so that a message would come back.
    ///
    /// Context: anywhere.
    pub fn is_closed(&self) -> bool {
        give_way();
        self.shared.lock().closed
    }

    /// Waits until the receiver is gone or closed.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    pub fn closed(&mut self) {
        let state = self.shared.lock();
        if !state.closed {
            wait(&(), state, &State::CLOSING, 0, &mut None, None);
        }
    }

    /// [`closed`](Self::closed) as a future.
    ///
    /// Context: any executor, on any thread.
    pub fn closed_async(&mut self) -> ClosedFuture<'_, T> {
        ClosedFuture { sender: self, seat: Seat::new() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.sent || is_failing() {
            return;
        }
        // H2.
        let mut state = self.shared.lock();
        state.closed = true;
        let here = state.here();
        if mutant(Mutant::CloseSilently) {
            return;
        }
        if let Some(waiter) = state.receiver.take() {
            let wake = waiter.end(WaitOutcome::Closed, here);
            state.wake(wake);
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the message.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If the sender is gone without having sent one.
    pub fn recv(self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// [`recv`](Self::recv) with a time limit.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// Whether time ran out, or the sender is gone.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// The message, if it is there.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// Whether there is none yet, or the sender is gone.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        give_way();
        let mut state = self.shared.lock();
        match state.message.take() {
            Some(message) => Ok(message),
            None if state.closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Refuses messages. One that was sent before can still be received.
    ///
    /// Context: anywhere.
    pub fn close(&mut self) {
        close(self.shared.lock());
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        give_way();
        let mut state = self.shared.lock();
        if let Some(message) = state.message.take() {
            return Ok(message);
        }
        if state.closed {
            return Err(RecvTimeoutError::Disconnected);
        }
        let mut slot = None;
        let outcome = wait(&(), state, &State::POLICY, 0, &mut slot, deadline.map(deadline_ns));
        match (slot, outcome) {
            (Some(message), _) => Ok(message),
            (None, WaitOutcome::TimedOut) => Err(RecvTimeoutError::Timeout),
            (None, _) => Err(RecvTimeoutError::Disconnected),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if is_failing() {
            return;
        }
        let mut state = self.shared.lock();
        let message = state.message.take();
        close(state);
        drop(message);
    }
}

waited! {
    /// `recv(receiver) -> result` in `select!`.
    Receiving = recv(Receiver), State<T>, T;
    lock: |receiver| &receiver.shared;
    ready: |_, state| state.message.is_some() || state.closed;
    list: |state| (&mut state.receiver, 0);
}

impl<T> Operation for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn complete(&self, _: Token) -> Self::Output {
        self.0.shared.lock().message.take().ok_or(RecvError)
    }
}

waited! {
    /// `closed(sender) -> ()` in `select!`.
    Closed = closed(Sender), State<T>, ();
    lock: |sender| &sender.shared;
    ready: |_, state| state.closed;
    list: |state| (&mut state.sender, 0);
}

impl<T> Operation for Closed<'_, T> {
    type Output = ();

    fn complete(&self, _: Token) {}
}

/// Waits for the message of a [`Receiver`].
#[must_use = "a future does nothing unless it is polled"]
pub struct RecvFuture<T> {
    receiver: Receiver<T>,
    seat: Seat<T>,
}

impl<T> IntoFuture for Receiver<T> {
    type Output = Result<T, RecvError>;
    type IntoFuture = RecvFuture<T>;

    fn into_future(self) -> RecvFuture<T> {
        RecvFuture { receiver: self, seat: Seat::new() }
    }
}

impl<T> Future for RecvFuture<T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        if this.seat.is_taken() {
            let (_, message) = ready!(this.seat.poll(&this.receiver.shared, context));
            return Poll::Ready(message.ok_or(RecvError));
        }
        let waker = user::Waker::of(context);
        let mut state = this.receiver.shared.lock();
        if let Some(message) = state.message.take() {
            return Poll::Ready(Ok(message));
        }
        if state.closed {
            return Poll::Ready(Err(RecvError));
        }
        // SAFETY: C1: the future is pinned, and leaves when it is dropped.
        unsafe { this.seat.take(state, &State::POLICY, 0, None, waker) };
        Poll::Pending
    }
}

impl<T> Drop for RecvFuture<T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &*self.receiver.shared, &State::POLICY);
    }
}

/// Waits until the receiver is gone; see [`Sender::closed_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct ClosedFuture<'a, T> {
    sender: &'a mut Sender<T>,
    seat: Seat<()>,
}

impl<T> Future for ClosedFuture<'_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        if this.seat.is_taken() {
            return this.seat.poll(&this.sender.shared, context).map(|_| ());
        }
        let waker = user::Waker::of(context);
        let state = this.sender.shared.lock();
        if state.closed {
            return Poll::Ready(());
        }
        // SAFETY: C1: the future is pinned, and leaves when it is dropped.
        unsafe { this.seat.take(state, &State::CLOSING, 0, None, waker) };
        Poll::Pending
    }
}

impl<T> Drop for ClosedFuture<'_, T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &*self.sender.shared, &State::CLOSING);
    }
}

impl<T> fmt::Debug for ClosedFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ClosedFuture { .. }")
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

impl<T> fmt::Debug for RecvFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("RecvFuture { .. }")
    }
}
