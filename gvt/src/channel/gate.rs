//! A waker that several waiters can wait for at once: it disconnects a channel.
//!
//! For events that can wake a future but have no list of their own: the end of a thread, any future.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::{Receiver, Sender, bounded};
use crate::wait::lock::Lock;

struct Gate {
    /// `None` once it was woken.
    sender: Lock<Option<Sender<Infallible>>>,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        let sender = self.sender.lock().take();
        drop(sender);
    }
}

/// A waker, and the channel that it disconnects. Two allocations.
pub(crate) fn gate() -> (Waker, Receiver<Infallible>) {
    let (sender, receiver) = bounded(0);
    (Arc::new(Gate { sender: Lock::new(Some(sender)) }).into(), receiver)
}
