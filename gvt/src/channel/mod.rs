//! Channels: many senders, many receivers, and green threads that park while they wait.
//!
//! The interface is that of the crate `crossbeam-channel`, version 0.5: code that uses it moves here by a change
//! of its `use` lines. Every operation works from a green thread, which parks, and from a plain OS thread, which
//! parks too; both may share a channel.
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! let (sender, receiver) = gvt::channel::bounded(4);
//! gvt::spawn(move |_| {
//!     for i in 0..10 {
//!         sender.send(i).unwrap();
//!     }
//! });
//! assert_eq!(receiver.iter().sum::<i32>(), 45);
//! # });
//! ```
//!
//! A channel is disconnected when the last of its senders, or of its receivers, is dropped. Messages that are in it
//! then can still be received.
//!
//! A green thread that waits in a channel when its runtime shuts down is unwound; a message that had been handed to
//! it, but that it has not seen, goes to another receiver.

mod ends;
mod error;
mod iter;
mod queue;
mod receiver;
mod sender;
mod state;

pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use iter::{IntoIter, Iter, TryIter};
pub use receiver::Receiver;
pub use sender::Sender;

/// A channel for any number of messages: sending never waits.
///
/// ```
/// let (sender, receiver) = gvt::channel::unbounded();
/// sender.send("one").unwrap();
/// sender.send("two").unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["one", "two"]);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    connect(None)
}

/// A channel for `capacity` messages. With capacity 0, sending waits until a receiver takes the message.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let (sender, receiver) = gvt::channel::bounded(0);
/// let thread = gvt::spawn(move |_| sender.send("hello"));
/// assert_eq!(receiver.recv(), Ok("hello"));
/// assert_eq!(thread.join().unwrap(), Ok(()));
/// # });
/// ```
///
/// # Panics
///
/// If memory for `capacity` messages cannot be had.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    connect(Some(capacity))
}

fn connect<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let (sending, receiving) = ends::new(queue::Channel::new(capacity));
    (Sender::new(sending), Receiver::new(receiving))
}
