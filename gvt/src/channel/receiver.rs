//! The receiving end.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use super::ends::{End, Receiving};
use super::error::*;
use super::instants::Instants;
use super::queue::{Channel, Discard};
use super::select::{Handle, sleep_until};
use super::selected::{Token, Wish};
use crate::wait::clock::{has_passed, now};
use crate::wait::host::give_way;
use crate::wait::list::{Node, WaitOutcome};

/// The receiving end of a channel. Clones receive from the same channel, each message once; when the last one
/// is dropped, sending fails.
pub struct Receiver<T> {
    pub(super) source: Source<T>,
}

/// The source of the messages.
pub(super) enum Source<T> {
    Queue(End<Channel<T>, Receiving>),
    /// The clock, and a function that makes a message of an instant.
    Clock(Arc<Instants>, fn(Instant) -> T),
    /// A channel without messages that is disconnected at a time.
    Until(End<Channel<T>, Receiving>, Arc<dyn Ending>),
    /// No source.
    Never,
}

/// A channel's own disconnection.
pub(crate) trait Ending: Send + Sync {
    /// The time of it, at the latest; `None`: never.
    fn ends(&self) -> Option<Instant>;
    /// Disconnects it if its time has come.
    fn look(&self);
}

/// [`Ending::look`], once its time has come.
fn look(ending: &dyn Ending) {
    if ending.ends().is_some_and(has_passed) {
        ending.look();
    }
}

// SAFETY: an end passes messages between threads and never gives out a reference to one.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}

// No message is reachable through an end, so a panic leaves no broken state in view.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(super) fn new(end: End<Channel<T>, Receiving>) -> Self {
        Receiver { source: Source::Queue(end) }
    }

    pub(super) const fn never() -> Self {
        Receiver { source: Source::Never }
    }

    /// Receives if there is no need to wait.
    ///
    /// Context: anywhere but in a signal handler.
    ///
    /// # Errors
    ///
    /// Whether there is no message at the moment, or will never be one.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        give_way();
        match &self.source {
            Source::Queue(end) => end.try_recv(),
            Source::Until(end, ending) => {
                look(&**ending);
                end.try_recv()
            }
            Source::Clock(instants, message) => instants.try_recv().map(message),
            Source::Never => Err(TryRecvError::Empty),
        }
    }

    /// Receives, and waits for a message if there is none.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If the channel is empty and no sender is left.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// [`recv`](Self::recv) with a time limit.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// Whether time ran out, or the channel is empty and no sender is left.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// [`recv`](Self::recv) with a deadline.
    ///
    /// Context: as [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    #[inline]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        give_way();
        match &self.source {
            Source::Queue(end) => end.recv(deadline),
            Source::Until(end, ending) => recv_until_end(end, &**ending, deadline),
            Source::Clock(instants, message) => instants.recv(deadline).map(message),
            Source::Never => loop {
                sleep_until(deadline, WaitReason::ChannelRecv);
                if deadline.is_some_and(has_passed) {
                    return Err(RecvTimeoutError::Timeout);
                }
            },
        }
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
        match &self.source {
            Source::Queue(end) | Source::Until(end, _) => end.len(),
            Source::Clock(instants, _) => usize::from(instants.is_due()),
            Source::Never => 0,
        }
    }

    /// How many messages the channel can hold; `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        match &self.source {
            Source::Queue(end) | Source::Until(end, _) => end.capacity(),
            Source::Clock(..) => Some(1),
            Source::Never => Some(0),
        }
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.source, &other.source) {
            (Source::Queue(this), Source::Queue(other)) => this.is_same(other),
            (Source::Until(this, _), Source::Until(other, _)) => this.is_same(other),
            (Source::Clock(this, _), Source::Clock(other, _)) => Arc::ptr_eq(this, other),
            (Source::Never, Source::Never) => true,
            _ => false,
        }
    }
}

/// Receives from a channel that is disconnected at a time.
fn recv_until_end<T>(
    end: &Channel<T>,
    ending: &dyn Ending,
    deadline: Option<Instant>,
) -> Result<T, RecvTimeoutError> {
    loop {
        look(ending);
        let until = match (ending.ends(), deadline) {
            (Some(ends), Some(deadline)) => Some(ends.min(deadline)),
            (ends, deadline) => ends.or(deadline),
        };
        match end.recv(until) {
            Err(RecvTimeoutError::Timeout) if !deadline.is_some_and(has_passed) => {}
            received => return received,
        }
    }
}

impl<T> Receiver<T> {
    /// The same receiver, of a channel with an own disconnection.
    pub(crate) fn ending(self, ending: Arc<dyn Ending>) -> Self {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped afterwards.
        match unsafe { ptr::read(&this.source) } {
            Source::Queue(end) => Receiver { source: Source::Until(end, ending) },
            source => Receiver { source },
        }
    }
}

impl Receiver<Instant> {
    pub(super) fn of_clock(instants: Instants) -> Self {
        Receiver { source: Source::Clock(Arc::new(instants), |instant| instant) }
    }
}

impl<T> Receiver<T> {
    /// The second step of a select.
    pub(super) fn complete(&self, token: Token) -> Result<T, RecvError> {
        match (&self.source, token) {
            (Source::Queue(end) | Source::Until(end, _), token) => end.complete_receive(token),
            (Source::Clock(_, message), Token::Instant(instant)) => Ok(message(instant)),
            _ => Err(RecvError),
        }
    }
}

impl<T> Handle for Receiver<T> {
    fn choose(&self) -> Option<Token> {
        match &self.source {
            Source::Queue(end) => end.choose_receive(),
            Source::Until(end, ending) => {
                look(&**ending);
                end.choose_receive()
            }
            Source::Clock(instants, _) => instants.try_recv().ok().map(Token::Instant),
            Source::Never => None,
        }
    }

    fn is_ready(&self) -> bool {
        match &self.source {
            Source::Queue(end) => end.can_receive(),
            Source::Until(end, ending) => {
                look(&**ending);
                end.can_receive()
            }
            Source::Clock(instants, _) => instants.is_due(),
            Source::Never => false,
        }
    }

    unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool {
        match &self.source {
            // SAFETY: the caller's C1.
            Source::Queue(end) | Source::Until(end, _) => unsafe { end.enlist_receive(node, wish) },
            Source::Clock(instants, _) => !instants.is_due(),
            Source::Never => true,
        }
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        match &self.source {
            // SAFETY: the caller's C1.
            Source::Queue(end) | Source::Until(end, _) => unsafe { end.withdraw(node) },
            _ => WaitOutcome::Waiting,
        }
    }

    fn served(&self) -> Token {
        Token::Message
    }

    fn abandon(&self, token: Token) {
        if let Source::Queue(end) | Source::Until(end, _) = &self.source {
            end.abandon_receive(token);
        }
    }

    fn next(&self) -> Option<Instant> {
        match &self.source {
            Source::Clock(instants, _) => instants.next(),
            Source::Until(_, ending) => ending.ends(),
            _ => None,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            Source::Queue(end) => Source::Queue(end.again()),
            Source::Until(end, ending) => Source::Until(end.again(), ending.clone()),
            Source::Clock(instants, message) => Source::Clock(instants.clone(), *message),
            Source::Never => Source::Never,
        };
        Receiver { source }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Source::Queue(end) | Source::Until(end, _) = &self.source {
            // SAFETY: C1: this is the drop of the end.
            unsafe { end.release(|channel| channel.disconnect(Discard::Messages)) };
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}
