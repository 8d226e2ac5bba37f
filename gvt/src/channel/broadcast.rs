//! A channel in which every receiver gets every message.
//!
//! It keeps a limited number of messages. A receiver that falls further behind loses the oldest and is told
//! how many.
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! use gvt::channel::broadcast::{self, RecvError};
//! let (sender, mut one) = broadcast::channel(2);
//! let mut two = sender.subscribe();
//! sender.send("a").unwrap();
//! sender.send("b").unwrap();
//! assert_eq!((one.recv(), one.recv()), (Ok("a"), Ok("b")));
//! sender.send("c").unwrap();
//! assert_eq!(two.recv(), Err(RecvError::Lagged(1)));
//! assert_eq!((two.recv(), one.recv()), (Ok("b"), Ok("c")));
//! # });
//! ```

// **Protocol.** Under one lock: messages with consecutive numbers, and for each receiver the number of its
// next. **M1** A receiver that has seen all messages waits; a send wakes all waiters, and each looks again.
// **M2** A message counts the receivers that have yet to receive it: those whose next number is not above its
// own. So the counts never fall along the queue, and messages without readers are at its front; they are
// dropped at once. The last receiver of a message gets the message itself, the others a clone.
//
// A message is boxed, so that it is cloned and dropped without the lock: that is users' code. One allocation
// a message.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::arms::{On, Operation, Waited, waited};
use super::selected::Token;
use super::state::room;
use crate::protocol::user;
use crate::wait::clock::{deadline_ns, has_passed, now};
use crate::wait::host::give_way;
use crate::wait::list::{List, Seat, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

struct Kept<T> {
    message: Arc<T>,
    /// M2.
    awaited_by: usize,
}

#[doc(hidden)]
pub struct State<T> {
    messages: VecDeque<Kept<T>>,
    capacity: usize,
    /// The number of the first message in the queue.
    first: u64,
    senders: usize,
    receivers: usize,
    waiters: List<()>,
}

impl<T> State<T> {
    const POLICY: WaitPolicy<(), State<T>, ()> = WaitPolicy {
        list: |state, _| &mut state.waiters,
        reason: WaitReason::ChannelRecv,
        abandon: |_, _, _, _, _, _| {},
    };

    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// The messages that a receiver has yet to see.
    fn awaited(&mut self, next: u64) -> impl Iterator<Item = &mut Kept<T>> {
        let skip = next.saturating_sub(self.first) as usize;
        self.messages.iter_mut().skip(skip)
    }

    /// The next message for a receiver.
    fn next(&mut self, next: &mut u64) -> Result<Arc<T>, TryRecvError> {
        if *next < self.first {
            let lost = self.first - *next;
            *next = self.first;
            return Err(TryRecvError::Lagged(lost));
        }
        let place = (*next - self.first) as usize;
        match self.messages.get_mut(place) {
            Some(kept) if kept.awaited_by > 1 => {
                *next += 1;
                kept.awaited_by -= 1;
                Ok(kept.message.clone())
            }
            Some(_) => {
                // M2: no receiver is behind the last one, so this message is the first.
                debug_assert_eq!(place, 0);
                *next += 1;
                self.first += 1;
                Ok(self.messages.pop_front().expect("just seen").message)
            }
            None if self.senders == 0 => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

fn wake_all<T>(mut state: crate::wait::lock::LockGuard<'_, State<T>>) {
    let here = state.here();
    let mut wakes = WakeList::new();
    while let Some(waiter) = state.waiters.take() {
        wakes.push(waiter.end(WaitOutcome::Again, here));
    }
    drop(state);
    wakes.fire();
}

/// Makes a channel that keeps the last `capacity` messages, with one receiver.
///
/// # Panics
///
/// If `capacity` is 0, or there is no memory for so many messages.
#[track_caller]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast channel keeps one message at least");
    let shared = Arc::new(Lock::new(State {
        messages: room(capacity),
        capacity,
        first: 0,
        senders: 1,
        receivers: 1,
        waiters: List::new(),
    }));
    (Sender { shared: shared.clone() }, Receiver { shared, next: AtomicU64::new(0) })
}

/// Sends to all receivers. Clones send to the same.
pub struct Sender<T> {
    shared: Arc<Lock<State<T>>>,
}

/// Receives every message that is sent after its creation. A clone continues from the same position.
pub struct Receiver<T> {
    shared: Arc<Lock<State<T>>>,
    /// The number of its next message. Relaxed: through a shared borrow it is used only under the lock.
    next: AtomicU64,
}

/// There is no receiver; holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// Why a receiver got no message.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum RecvError {
    /// No sender is left, and all messages have been received.
    Closed,
    /// This many messages were lost; the next is the oldest that is kept.
    Lagged(u64),
}

/// Why a receiver got no message at once, or in time.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum TryRecvError {
    /// All messages so far have been received.
    Empty,
    /// No sender is left, and all messages have been received.
    Closed,
    /// This many messages were lost; the next is the oldest that is kept.
    Lagged(u64),
}

impl<T> Sender<T> {
    /// Sends a message to all receivers; returns their number. Does not wait.
    ///
    /// Context: anywhere but in a signal handler; allocates.
    ///
    /// # Errors
    ///
    /// The message, if there is no receiver.
    pub fn send(&self, message: T) -> Result<usize, SendError<T>> {
        give_way();
        if self.receiver_count() == 0 {
            return Err(SendError(message));
        }
        let message = Arc::new(message);
        let mut state = self.shared.lock();
        if state.receivers == 0 {
            drop(state);
            let message = Arc::into_inner(message).expect("nobody else has it");
            return Err(SendError(message));
        }
        let receivers = state.receivers;
        let oldest = if state.messages.len() == state.capacity {
            state.first += 1;
            state.messages.pop_front()
        } else {
            None
        };
        state.messages.push_back(Kept { message, awaited_by: receivers });
        wake_all(state);
        drop(oldest);
        Ok(receivers)
    }

    /// A receiver of all messages sent from this point on.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.lock();
        state.receivers += 1;
        let next = state.end();
        drop(state);
        Receiver { shared: self.shared.clone(), next: AtomicU64::new(next) }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        give_way();
        self.shared.lock().receivers
    }

    /// How many messages are kept: those that at least one receiver has yet to receive.
    pub fn len(&self) -> usize {
        give_way();
        self.shared.lock().messages.len()
    }

    /// Whether every receiver has received every message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both send to the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next message.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If messages were lost, or no sender is left.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        match self.recv_until(None) {
            Ok(message) => Ok(message),
            Err(TryRecvError::Lagged(lost)) => Err(RecvError::Lagged(lost)),
            Err(_) => Err(RecvError::Closed),
        }
    }

    /// [`recv`](Self::recv) with a time limit.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); `Empty` if time ran out.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, TryRecvError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// The next message, if it is there.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// If there is none yet, messages were lost, or no sender is left.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        give_way();
        let message = self.shared.lock().next(self.next.get_mut())?;
        Ok(unwrap(message))
    }

    /// A receiver of all messages sent from this point on; a clone continues from this one's position.
    pub fn resubscribe(&self) -> Self {
        let mut state = self.shared.lock();
        state.receivers += 1;
        let next = state.end();
        drop(state);
        Receiver { shared: self.shared.clone(), next: AtomicU64::new(next) }
    }

    /// How many messages wait for this receiver, without those that it has lost.
    pub fn len(&self) -> usize {
        give_way();
        let state = self.shared.lock();
        (state.end() - self.next.load(Relaxed).max(state.first)) as usize
    }

    /// Whether no message waits for this receiver.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no sender is left.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().senders == 0
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<T, TryRecvError> {
        give_way();
        loop {
            let mut state = self.shared.lock();
            match state.next(self.next.get_mut()) {
                Ok(message) => {
                    drop(state);
                    return Ok(unwrap(message));
                }
                Err(TryRecvError::Empty) if !deadline.is_some_and(has_passed) => {
                    wait(&(), state, &State::POLICY, 0, &mut None, deadline.map(deadline_ns));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// [`recv`](Self::recv) as a future.
    ///
    /// Context: any executor, on any thread.
    pub fn recv_async(&mut self) -> RecvFuture<'_, T> {
        RecvFuture { receiver: self, seat: Seat::new() }
    }
}

waited! {
    /// `recv(receiver) -> result` in `select!`.
    Receiving = recv(Receiver), State<T>, ();
    lock: |receiver| &receiver.shared;
    ready: |receiver, state| receiver.next.load(Relaxed) < state.end() || state.senders == 0;
    list: |state| (&mut state.waiters, 0);
}

impl<T: Clone> Operation for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn complete(&self, _: Token) -> Self::Output {
        loop {
            let mut state = self.0.shared.lock();
            let mut next = self.0.next.load(Relaxed);
            let message = state.next(&mut next);
            self.0.next.store(next, Relaxed);
            match message {
                Ok(message) => {
                    drop(state);
                    return Ok(unwrap(message));
                }
                Err(TryRecvError::Lagged(lost)) => return Err(RecvError::Lagged(lost)),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                // Another thread with the same receiver was faster.
                Err(TryRecvError::Empty) => {
                    wait(&(), state, &State::POLICY, 0, &mut None, None);
                }
            }
        }
    }
}

/// The message, cloned unless this is its last holder. Without the lock: cloning is users' code.
fn unwrap<T: Clone>(message: Arc<T>) -> T {
    Arc::unwrap_or_clone(message)
}

/// Waits for the next message; see [`Receiver::recv_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct RecvFuture<'a, T> {
    receiver: &'a mut Receiver<T>,
    seat: Seat<()>,
}

impl<T: Clone> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        if this.seat.is_taken() {
            ready!(this.seat.poll(&this.receiver.shared, context));
        }
        let waker = user::Waker::of(context);
        let mut state = this.receiver.shared.lock();
        match state.next(this.receiver.next.get_mut()) {
            Ok(message) => {
                drop(state);
                Poll::Ready(Ok(unwrap(message)))
            }
            Err(TryRecvError::Empty) => {
                // SAFETY: C1: the future is pinned, and leaves when it is dropped.
                unsafe { this.seat.take(state, &State::POLICY, 0, None, waker) };
                Poll::Pending
            }
            Err(TryRecvError::Lagged(lost)) => Poll::Ready(Err(RecvError::Lagged(lost))),
            Err(TryRecvError::Closed) => Poll::Ready(Err(RecvError::Closed)),
        }
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &*self.receiver.shared, &State::POLICY);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            wake_all(state);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let mut state = self.shared.lock();
        state.receivers += 1;
        let next = self.next.load(Relaxed);
        state.awaited(next).for_each(|kept| kept.awaited_by += 1);
        drop(state);
        Receiver { shared: self.shared.clone(), next: AtomicU64::new(next) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receivers -= 1;
        state.awaited(*self.next.get_mut()).for_each(|kept| kept.awaited_by -= 1);
        // M2: they are at the front.
        let unneeded = state.messages.iter().take_while(|kept| kept.awaited_by == 0).count();
        state.first += unneeded as u64;
        let unneeded: Vec<_> = state.messages.drain(..unneeded).collect();
        drop(state);
        drop(unneeded);
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

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("RecvFuture { .. }")
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("the channel has no receiver")
    }
}

impl<T> Error for SendError<T> {}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Closed => f.pad("the channel has no sender left"),
            RecvError::Lagged(lost) => write!(f, "{lost} messages came too fast and are lost"),
        }
    }
}

impl Error for RecvError {}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.pad("the channel holds no new message"),
            TryRecvError::Closed => f.pad("the channel has no sender left"),
            TryRecvError::Lagged(lost) => write!(f, "{lost} messages came too fast and are lost"),
        }
    }
}

impl Error for TryRecvError {}
