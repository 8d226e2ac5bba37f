//! What the common work needs of a runtime with threads that block. Each such peer implements it
//! with its own natural means, so that the work is one text for all of them.

use std::sync::Arc;
use std::time::Duration;

/// Who uses a channel, so that a peer can take the kind that it recommends for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// One sender and one receiver.
    OneToOne,
    /// Many senders, one receiver.
    ManyToOne,
    /// Many of both.
    ManyToMany,
}

/// A runtime of threads that block.
pub trait Green: 'static {
    /// A spawned thread's handle.
    type Handle<T: Send + 'static>: Send + 'static;
    /// A channel's sending end.
    type Sender<T: Send + 'static>: Send + 'static;
    /// A channel's receiving end.
    type Receiver<T: Send + 'static>: Send + 'static;
    /// A number behind a lock.
    type Mutex: Send + Sync + 'static;

    /// Runs `main` on a thread of the runtime with `workers` workers.
    fn enter<R: Send + 'static>(
        workers: usize,
        variant: &[&str],
        main: impl FnOnce() -> R + Send + 'static,
    ) -> R;

    /// Starts a thread.
    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T>;

    /// Waits for a thread's result.
    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T;

    /// Starts a thread whose end nobody waits for.
    fn detach(body: impl FnOnce() + Send + 'static) {
        drop(Self::spawn(body));
    }

    /// Lets others run.
    fn yield_now();

    /// Sleeps.
    fn sleep(duration: Duration);

    /// A channel that holds `capacity` messages.
    fn channel<T: Send + 'static>(capacity: usize, ends: Ends) -> (Self::Sender<T>, Self::Receiver<T>);

    /// One more sending end. Not for [`Ends::OneToOne`].
    fn clone_sender<T: Send + 'static>(of: &Self::Sender<T>) -> Self::Sender<T>;

    /// One more receiving end. For [`Ends::ManyToMany`] alone.
    fn clone_receiver<T: Send + 'static>(of: &Self::Receiver<T>) -> Self::Receiver<T>;

    /// Sends, waiting for room.
    fn send<T: Send + 'static>(to: &Self::Sender<T>, message: T);

    /// Receives; `None` when every sender is gone.
    fn recv<T: Send + 'static>(from: &Self::Receiver<T>) -> Option<T>;

    /// Receives, or gives up after `limit`. Not for [`Ends::OneToOne`].
    fn recv_timeout<T: Send + 'static>(from: &Self::Receiver<T>, limit: Duration) -> Option<T>;

    /// A lock around 0.
    fn mutex() -> Arc<Self::Mutex>;

    /// Adds one under the lock and returns the sum.
    fn add_one(mutex: &Self::Mutex) -> u64;
}
