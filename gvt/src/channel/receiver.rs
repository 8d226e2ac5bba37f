//! The receiving end.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::ends::{End, Receiving};
use super::error::*;
use super::queue::{Channel, Discard};

/// The receiving end of a channel. Clones receive from the same channel, each message once; when the last
/// one is dropped, sending fails.
pub struct Receiver<T> {
    end: End<Channel<T>, Receiving>,
}

// SAFETY: an end passes messages between threads and never gives out a reference to one.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}

// No message is reachable through an end, so a panic leaves nothing half done to be seen.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(super) fn new(end: End<Channel<T>, Receiving>) -> Self {
        Receiver { end }
    }

    /// Receives if that needs no waiting.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// Whether there is no message now, or never will be.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.end.try_recv()
    }

    /// Receives, and waits for a message if there is none.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). At shutdown a wait
    /// for ever is unwound.
    ///
    /// # Errors
    ///
    /// If the channel is empty and no sender is left.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.end.recv(None).map_err(|_| RecvError)
    }

    /// [`recv`](Self::recv) that waits for `timeout` at the longest.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// Whether time ran out, or the channel is empty and no sender is left.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.end.recv(Instant::now().checked_add(timeout))
    }

    /// [`recv`](Self::recv) that waits until `deadline` at the longest.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.end.recv(Some(deadline))
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
        self.end.len()
    }

    /// How many messages the channel can hold; `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        self.end.capacity()
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        self.end.is_same(&other.end)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { end: self.end.again() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // SAFETY: C1: this is the end's end.
        unsafe { self.end.release(|channel| channel.disconnect(Discard::Messages)) };
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}
