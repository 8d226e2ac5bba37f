//! Sending and receiving as futures, for any executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::*;
use super::queue::{Channel, Look, Passed};
use super::receiver::Source;
use super::state::{PROMISED, RECEIVE_WATCHERS, RECEIVERS, SEND_WATCHERS, SENDERS};
use super::{Receiver, Sender};
use crate::protocol::user;
use crate::wait::alarm::Alarm;
use crate::wait::clock::has_passed;
use crate::wait::list::{Seat, WaitOutcome};

/// Receives a message; see [`Receiver::recv_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct RecvFuture<'a, T> {
    receiver: &'a Receiver<T>,
    seat: Seat<T>,
    /// Set while it has asked to be polled at a time.
    alarm: Option<Alarm>,
}

/// Sends a message; see [`Sender::send_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    message: Option<T>,
    seat: Seat<T>,
}

impl<T> Receiver<T> {
    /// [`recv`](Self::recv) as a future. If it is dropped while it waits, no message is lost.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let (sender, receiver) = gvt::channel::bounded(0);
    /// gvt::spawn(move |_| sender.send("from a thread"));
    /// let message = gvt::future::block_on(async { receiver.recv_async().await });
    /// assert_eq!(message, Ok("from a thread"));
    /// # });
    /// ```
    ///
    /// Context: any executor, on any thread.
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture { receiver: self, seat: Seat::new(), alarm: None }
    }
}

impl<T> Sender<T> {
    /// [`send`](Self::send) as a future. If it is dropped while it waits, the message is dropped with it.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let (sender, receiver) = gvt::channel::bounded(0);
    /// let thread = gvt::spawn(move |_| receiver.recv());
    /// assert_eq!(gvt::future::block_on(sender.send_async("from a future")), Ok(()));
    /// assert_eq!(thread.join().unwrap(), Ok("from a future"));
    /// # });
    /// ```
    ///
    /// Context: any executor, on any thread.
    pub fn send_async(&self, message: T) -> SendFuture<'_, T> {
        SendFuture { sender: self, message: Some(message), seat: Seat::new() }
    }
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        match &this.receiver.source {
            Source::Queue(channel) => poll_receive(channel, &mut this.seat, context),
            Source::Until(channel, ending) => {
                let ends = ending.ends();
                if ends.is_some_and(has_passed) {
                    ending.look();
                }
                let polled = poll_receive(channel, &mut this.seat, context);
                match ends {
                    Some(ends) if polled.is_pending() => Alarm::wake_at(&mut this.alarm, ends, context),
                    _ => this.alarm = None,
                }
                polled
            }
            Source::Clock(instants, message) => {
                if let Ok(instant) = instants.try_recv() {
                    return Poll::Ready(Ok(message(instant)));
                }
                match instants.next() {
                    Some(next) => Alarm::wake_at(&mut this.alarm, next, context),
                    None => this.alarm = None,
                }
                Poll::Pending
            }
            Source::Never => Poll::Pending,
        }
    }
}

fn poll_receive<T>(
    channel: &Channel<T>,
    seat: &mut Seat<T>,
    context: &mut Context<'_>,
) -> Poll<Result<T, RecvError>> {
    if seat.is_taken() {
        match std::task::ready!(seat.poll(&channel.state, context)) {
            (_, Some(message)) => return Poll::Ready(Ok(message)),
            (WaitOutcome::Closed, _) => return Poll::Ready(Err(RecvError)),
            // A promise was broken.
            _ => {}
        }
    }
    let waker = user::Waker::of(context);
    let (mut state, list) = match channel.look() {
        Look::Message(message) => return Poll::Ready(Ok(message)),
        Look::Disconnected => return Poll::Ready(Err(RecvError)),
        Look::Nothing(state) => (state, RECEIVERS),
        Look::Promise(state) => (state, PROMISED),
    };
    let here = state.here();
    if state.is_rendezvous() {
        state.tell(SEND_WATCHERS, here);
    }
    // SAFETY: C1: the future is pinned, and leaves when it is dropped.
    unsafe { seat.take(state, &Channel::RECEIVE, list, None, waker) };
    Poll::Pending
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the seat.
        let this = unsafe { self.get_unchecked_mut() };
        let channel = &*this.sender.end;
        if this.seat.is_taken() {
            return match std::task::ready!(this.seat.poll(&channel.state, context)) {
                (WaitOutcome::Served, _) => Poll::Ready(Ok(())),
                (_, Some(message)) => Poll::Ready(Err(SendError(message))),
                (_, None) => unreachable!("only a taker that serves empties the slot"),
            };
        }
        let waker = user::Waker::of(context);
        let message = this.message.take().expect("a future is not polled after its end");
        match channel.pass(message) {
            Passed::Sent => Poll::Ready(Ok(())),
            Passed::Disconnected(message) => Poll::Ready(Err(SendError(message))),
            Passed::NoRoom(message, mut state) => {
                let here = state.here();
                if state.is_rendezvous() {
                    state.tell(RECEIVE_WATCHERS, here);
                }
                // SAFETY: C1: the future is pinned, and leaves when it is dropped.
                unsafe { this.seat.take(state, &Channel::SEND, SENDERS, Some(message), waker) };
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        if let Source::Queue(channel) | Source::Until(channel, _) = &self.receiver.source {
            self.seat.leave(&(), &channel.state, &Channel::RECEIVE);
        }
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        self.seat.leave(&(), &self.sender.end.state, &Channel::SEND);
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("RecvFuture { .. }")
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendFuture { .. }")
    }
}
