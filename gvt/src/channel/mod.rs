//! Channels: many senders, many receivers, and green threads that park while they wait.
//!
//! The interface is that of the crate `crossbeam-channel`, version 0.5: code moves here by a change of its
//! `use` lines. Every operation works from a green thread, which parks, and from a plain OS thread, which
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
//! A channel is disconnected when the last of its senders, or of its receivers, is dropped. Messages that are
//! left in it can still be received.
//!
//! Beside these: [`oneshot`] for one message, [`broadcast`] for messages that every receiver gets, [`watch`]
//! for a value of which only the latest counts.
//!
//! A green thread that waits in a channel when its runtime shuts down is unwound; a message that was handed
//! to it unseen goes to another receiver.

#[cfg(not(loom))]
mod acquire;
pub(crate) mod arms;
#[cfg(not(loom))]
pub mod broadcast;
mod ends;
mod error;
mod futures;
#[cfg(not(loom))]
pub(crate) mod gate;
mod instants;
mod iter;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod mpsc;
pub mod oneshot;
mod queue;
mod receiver;
pub(crate) mod select;
mod select_api;
mod select_macro;
pub(crate) mod selected;
mod sender;
mod state;
#[cfg(not(loom))]
pub mod watch;

use std::time::{Duration, Instant};

pub use error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError,
    TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use futures::{RecvFuture, SendFuture};
pub use iter::{IntoIter, Iter, TryIter};
#[cfg(not(loom))]
pub(crate) use receiver::Ending;
pub use receiver::Receiver;
pub use select_api::{Select, SelectedOperation};
pub use sender::Sender;

#[doc(inline)]
pub use crate::{select, select_biased};

use crate::wait::clock::now;

/// The expansion of `select!`.
#[doc(hidden)]
pub mod __private {
    pub use super::arms::{On, Reserved, arm, complete, end, select, send};
    pub use super::select::{Choice, Limit};
}

/// A channel for any number of messages: sending never waits. The memory of a burst is released while it is
/// received.
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
/// If there is no memory for `capacity` messages.
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    connect(Some(capacity))
}

#[track_caller]
fn connect<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let (sending, receiving) = ends::new(queue::Channel::new(capacity));
    (Sender::new(sending), Receiver::new(receiving))
}

/// A channel that delivers one message, the instant `duration` from now, when that has come. Instants are
/// those of [`gvt::now`](crate::now()).
///
/// Context: anywhere. Needs no thread, and no timer until a receiver waits.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::{Duration, Instant};
/// let begin = Instant::now();
/// let receiver = gvt::channel::after(Duration::from_millis(2));
/// assert_eq!(receiver.recv().map(|instant| instant > begin), Ok(true));
/// assert!(begin.elapsed() >= Duration::from_millis(2));
/// # });
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    now().checked_add(duration).map_or(never(), at)
}

/// A channel that delivers one message, `when`, when that has come.
///
/// Context: as [`after`].
pub fn at(when: Instant) -> Receiver<Instant> {
    Receiver::of_clock(instants::Instants::once(when))
}

/// A channel that delivers an instant every `duration`, the first `duration` from now.
///
/// Ticks keep to their schedule: the next comes one period after the last *was due*, however late that was
/// taken. The channel holds one message at most: if a tick waits for more than a period, the ones in between
/// are skipped, and the next comes one period after it is taken, so that ticks never come in a burst.
///
/// Context: as [`after`].
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match now().checked_add(duration) {
        Some(first) => Receiver::of_clock(instants::Instants::every(first, duration)),
        None => never(),
    }
}

/// A channel that never delivers anything and is never disconnected: a select arm that is switched off.
pub const fn never<T>() -> Receiver<T> {
    Receiver::never()
}
