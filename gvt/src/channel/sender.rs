//! The sending end.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::ends::{End, Sending};
use super::error::*;
use super::queue::{Channel, Discard};
use super::select::Handle;
use super::selected::{Token, Wish};
use crate::wait::clock::now;
use crate::wait::host::give_way;
use crate::wait::list::{Node, WaitOutcome};

/// The sending end of a channel. Clones send into the same channel; when the last one is dropped, receivers
/// learn that there will be no more messages.
pub struct Sender<T> {
    pub(super) end: End<Channel<T>, Sending>,
}

// SAFETY: an end passes messages between threads and never gives out a reference to one.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Sender<T> {}

// No message is reachable through an end, so a panic leaves no broken state in view.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    pub(super) fn new(end: End<Channel<T>, Sending>) -> Self {
        Sender { end }
    }

    /// Sends if there is no need to wait. In a channel of capacity 0: if a receiver waits at this moment.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// The message, and whether there was no room or no receiver is left.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        give_way();
        self.end.try_send(message)
    }

    /// Sends, and waits for room if there is none. In a channel of capacity 0: until a receiver takes the
    /// message.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// The message, if no receiver is left.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        give_way();
        self.end.send(message, None).map_err(|refused| SendError(refused.into_inner()))
    }

    /// [`send`](Self::send) with a time limit.
    ///
    /// Context: as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// The message, and whether time ran out or no receiver is left.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        give_way();
        self.end.send(message, now().checked_add(timeout))
    }

    /// [`send`](Self::send) with a deadline.
    ///
    /// Context: as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        give_way();
        self.end.send(message, Some(deadline))
    }

    /// Whether the channel holds no message; always so with capacity 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the channel holds as many messages as it can; always so with capacity 0.
    pub fn is_full(&self) -> bool {
        self.capacity() == Some(self.len())
    }

    /// How many messages the channel holds.
    pub fn len(&self) -> usize {
        give_way();
        self.end.len()
    }

    /// How many messages the channel can hold; `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        self.end.capacity()
    }

    /// Whether both send into the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.end.is_same(&other.end)
    }
}

impl<T> Sender<T> {
    /// The second step of a select.
    pub(super) fn complete(&self, token: Token, message: T) -> Result<(), SendError<T>> {
        self.end.complete_send(token, message)
    }
}

impl<T> Handle for Sender<T> {
    fn choose(&self) -> Option<Token> {
        self.end.choose_send()
    }

    fn is_ready(&self) -> bool {
        self.end.can_send()
    }

    unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool {
        // SAFETY: the caller's C1.
        unsafe { self.end.enlist_send(node, wish) }
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        // SAFETY: the caller's C1.
        unsafe { self.end.withdraw(node) }
    }

    fn served(&self) -> Token {
        if self.end.capacity() == Some(0) { Token::Promise } else { Token::Room }
    }

    fn abandon(&self, token: Token) {
        self.end.abandon_send(token);
    }

    fn next(&self) -> Option<Instant> {
        None
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { end: self.end.again() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // SAFETY: C1: this is the drop of the end.
        unsafe { self.end.release(|channel| channel.disconnect(Discard::Nothing)) };
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}
