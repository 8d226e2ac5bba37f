//! `mpsc`: std's channels with one receiver, for green threads.
//!
//! The interface and the errors are those of [`std::sync::mpsc`]: code moves here by a change of its `use`
//! lines. The channels are those of [`channel`](mod@crate::channel), which can do more.
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! use gvt::sync::mpsc;
//! let (sender, receiver) = mpsc::channel();
//! for i in 0..3 {
//!     let sender = sender.clone();
//!     gvt::spawn(move |_| sender.send(i).unwrap());
//! }
//! drop(sender);
//! assert_eq!(receiver.iter().sum::<i32>(), 3);
//! # });
//! ```

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::RefUnwindSafe;
use std::time::Duration;

#[doc(no_inline)]
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use super as channels;
use super::iter::iterators;

/// Makes a channel for any number of messages.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = channels::unbounded();
    (Sender(sender), Receiver::new(receiver))
}

/// Makes a channel for `bound` messages. With 0, sending waits until the receiver takes the message.
///
/// # Panics
///
/// If there is no memory for so many messages.
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = channels::bounded(bound);
    (SyncSender(sender), Receiver::new(receiver))
}

/// Sends into a [`channel`]. Clones send into the same.
pub struct Sender<T>(channels::Sender<T>);

/// Sends into a [`sync_channel`]. Clones send into the same.
pub struct SyncSender<T>(channels::Sender<T>);

/// Receives from a [`channel`] or a [`sync_channel`].
pub struct Receiver<T> {
    receiver: channels::Receiver<T>,
    /// Not `Sync`, like std's.
    one_thread: PhantomData<Cell<()>>,
}

// Like std's: no message is reachable through it.
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Sends; never waits.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// The message, if the receiver is gone.
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.0.send(t).map_err(|channels::SendError(message)| SendError(message))
    }
}

impl<T> SyncSender<T> {
    /// Sends, and waits for room if there is none; in a channel for 0 messages, until the message is taken.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// The message, if the receiver is gone.
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.0.send(t).map_err(|channels::SendError(message)| SendError(message))
    }

    /// Sends if there is no need to wait.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// The message, and whether there was no room or the receiver is gone.
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(t).map_err(|error| match error {
            channels::TrySendError::Full(message) => TrySendError::Full(message),
            channels::TrySendError::Disconnected(message) => TrySendError::Disconnected(message),
        })
    }
}

impl<T> Receiver<T> {
    fn new(receiver: channels::Receiver<T>) -> Self {
        Receiver { receiver, one_thread: PhantomData }
    }

    /// Receives if a message is there.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// Whether there is no message at the moment, or will never be one.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().map_err(|error| match error {
            channels::TryRecvError::Empty => TryRecvError::Empty,
            channels::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Receives, and waits for a message if there is none.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If there is none and no sender is left.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().map_err(|channels::RecvError| RecvError)
    }

    /// [`recv`](Self::recv) with a time limit.
    ///
    /// # Errors
    ///
    /// Whether time ran out, or there is no message and no sender is left.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map_err(|error| match error {
            channels::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
            channels::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }
}

iterators!(Receiver, #[derive(Debug)]);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> Self {
        SyncSender(self.0.clone())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
