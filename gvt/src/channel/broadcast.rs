//! A channel whose every receiver gets every message.
//!
//! It keeps the last so many messages. A receiver that falls further behind loses the oldest and is told how many.
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

// **Protocol.** Under one lock: messages with consecutive numbers, each receiver with the number of its next. A receiver that
// has seen all waits; a send wakes all that wait, and each looks again.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use crate::sync::list::{Seat, Wakes};
use crate::sync::{List, Lock, Manner, Verdict, deadline_ns, has_passed, wait};

struct State<T> {
    /// Each shared, so that it is cloned without the lock.
    messages: VecDeque<Arc<T>>,
    capacity: usize,
    /// The number of the first message in the queue.
    first: u64,
    senders: usize,
    receivers: usize,
    waiters: List<()>,
}

impl<T> State<T> {
    const MANNER: Manner<(), State<T>, ()> = Manner {
        list: |state, _| &mut state.waiters,
        reason: WaitReason::ChannelRecv,
        abandon: |_, _, _, _, _, _| {},
    };

    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// The next message for a receiver.
    fn next(&self, next: &mut u64) -> Result<Arc<T>, TryRecvError> {
        if *next < self.first {
            let lost = self.first - *next;
            *next = self.first;
            return Err(TryRecvError::Lagged(lost));
        }
        match self.messages.get((*next - self.first) as usize) {
            Some(message) => {
                *next += 1;
                Ok(message.clone())
            }
            None if self.senders == 0 => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

fn wake_all<T>(mut state: crate::sync::LockGuard<'_, State<T>>) {
    let here = state.here();
    let mut wakes = Wakes::new();
    while let Some(waiter) = state.waiters.take() {
        wakes.push(waiter.end(Verdict::Again, here));
    }
    drop(state);
    wakes.fire();
}

/// Makes a channel that keeps the last `capacity` messages, with one receiver.
///
/// # Panics
///
/// If `capacity` is 0.
#[track_caller]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast channel keeps one message at least");
    let shared = Arc::new(Lock::new(State {
        messages: VecDeque::with_capacity(capacity),
        capacity,
        first: 0,
        senders: 1,
        receivers: 1,
        waiters: List::new(),
    }));
    (Sender { shared: shared.clone() }, Receiver { shared, next: 0 })
}

/// Sends to all receivers. Clones send to the same.
pub struct Sender<T> {
    shared: Arc<Lock<State<T>>>,
}

/// Receives every message that is sent after it came to be. A clone goes on from the same place.
pub struct Receiver<T> {
    shared: Arc<Lock<State<T>>>,
    next: u64,
}

/// No receiver is there; holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// Why a receiver got no message.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum RecvError {
    /// No sender is left, and all messages have been received.
    Closed,
    /// So many messages were lost; the next is the oldest that is kept.
    Lagged(u64),
}

/// Why a receiver got no message at once, or in time.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum TryRecvError {
    /// All messages so far have been received.
    Empty,
    /// No sender is left, and all messages have been received.
    Closed,
    /// So many messages were lost; the next is the oldest that is kept.
    Lagged(u64),
}

impl<T> Sender<T> {
    /// Sends a message to all receivers; says how many there are. Does not wait.
    ///
    /// Context: anywhere but in a signal handler; allocates.
    ///
    /// # Errors
    ///
    /// The message, if there is no receiver.
    pub fn send(&self, message: T) -> Result<usize, SendError<T>> {
        let mut state = self.shared.lock();
        if state.receivers == 0 {
            drop(state);
            return Err(SendError(message));
        }
        let receivers = state.receivers;
        let oldest = if state.messages.len() == state.capacity {
            state.first += 1;
            state.messages.pop_front()
        } else {
            None
        };
        state.messages.push_back(Arc::new(message));
        wake_all(state);
        drop(oldest);
        Ok(receivers)
    }

    /// A receiver for the messages from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.lock();
        state.receivers += 1;
        let next = state.end();
        drop(state);
        Receiver { shared: self.shared.clone(), next }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.lock().receivers
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next message.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Unwinds at shutdown if it would wait for
    /// ever.
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

    /// [`recv`](Self::recv) that waits for `timeout` at the longest.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); `Empty` if time ran out.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, TryRecvError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// The next message, if it is there.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// If there is none yet, messages were lost, or no sender is left.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let message = self.shared.lock().next(&mut self.next)?;
        Ok(unwrap(message))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<T, TryRecvError> {
        loop {
            let state = self.shared.lock();
            match state.next(&mut self.next) {
                Ok(message) => {
                    drop(state);
                    return Ok(unwrap(message));
                }
                Err(TryRecvError::Empty) if !deadline.is_some_and(has_passed) => {
                    wait(&(), state, &State::MANNER, 0, &mut None, deadline.map(deadline_ns));
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

/// The message, cloned unless this was its last holder. Without the lock: cloning is user code.
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
        // SAFETY: nothing is moved out of the seat's place.
        let this = unsafe { self.get_unchecked_mut() };
        if this.seat.is_taken() {
            ready!(this.seat.poll(&this.receiver.shared, context));
        }
        let waker = context.waker().clone();
        let state = this.receiver.shared.lock();
        match state.next(&mut this.receiver.next) {
            Ok(message) => {
                drop(state);
                Poll::Ready(Ok(unwrap(message)))
            }
            Err(TryRecvError::Empty) => {
                // SAFETY: C1: the future is pinned, and leaves when it is dropped.
                unsafe { this.seat.take(state, &State::MANNER, 0, None, waker) };
                Poll::Pending
            }
            Err(TryRecvError::Lagged(lost)) => Poll::Ready(Err(RecvError::Lagged(lost))),
            Err(TryRecvError::Closed) => Poll::Ready(Err(RecvError::Closed)),
        }
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &*self.receiver.shared, &State::MANNER);
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
        self.shared.lock().receivers += 1;
        Receiver { shared: self.shared.clone(), next: self.next }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receivers -= 1;
        let mut messages = VecDeque::new();
        if state.receivers == 0 {
            state.first = state.end();
            messages.append(&mut state.messages);
        }
        drop(state);
        drop(messages);
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
