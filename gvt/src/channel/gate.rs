//! A waker that several waits at once can wait for: it disconnects a channel.
//!
//! For what can wake a future but has no list of its own: the end of a thread, a future of anybody's.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::{Receiver, Sender, bounded};
use crate::wait::lock::Lock;

struct Gate {
    /// Gone once it was woken.
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
