//! Waiting for a cancellation.
//!
//! **Hazard.** A token is cancelled by a store to it or to an ancestor, and the canceller knows that node
//! only. A waiter must not check just before the store and sleep just after it.
//!
//! **Protocol.** A [`Watch`] is one wait. Waiter: **K1** enters the watch in a table under the address of its
//! token's node and of each ancestor, and increments the count; **K2** fence; **K3** checks the token.
//! Canceller: **K4** stores the flag, **K5** fence, **K6** unless the count is zero, looks up the address of
//! its node and lets each watch there check its token. The fences are totally ordered: K3 sees K4, or K6 sees
//! K1. A watch that finds its token cancelled disconnects its channel, which wakes all threads that wait
//! there, and wakes its future.
//!
//! An address may be another node's by then (a thread passes over ancestors that have ended); such a check
//! only costs time. Ancestors are removed and never added, so all of them are entered.
//!
//! The waiter handles the ancestors' deadlines itself: it waits at most until the earliest, by its own clock,
//! and then checks (`channel::receiver`, `Ending`). Only a future needs an alarm (`wait::alarm`).
//!
//! **Cost.** For tokens without waiters, K5 and a load in `cancel`. A wait is two allocations, and one entry
//! for each ancestor.
//!
//! **Rejected.** Lists of waiters in the nodes: a thread's record has no room for one. Polling: late, and
//! never idle.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering::*, fence};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::cancel::registry::{self, Watching};
use crate::cancel::token::CancellationToken;
use crate::channel::arms::{On, Operation};
use crate::channel::select::Handle;
use crate::channel::selected::{Token, Wish};
use crate::channel::{Ending, Receiver, RecvTimeoutError, Sender, bounded};
use crate::protocol::user;
use crate::wait::alarm::Alarm;
use crate::wait::clock::has_passed;
use crate::wait::list::{Node, WaitOutcome};
use crate::wait::lock::Lock;

struct Watch {
    token: CancellationToken,
    /// The earliest deadline of the token and its ancestors.
    deadline: Option<Instant>,
    state: Lock<State>,
}

struct State {
    /// `None` once the token is cancelled.
    sender: Option<Sender<Infallible>>,
    waker: Option<user::Waker>,
}

impl Watching for Watch {
    /// Wakes all that wait here if the token is cancelled.
    fn look(&self) {
        if !self.token.is_cancelled() {
            return;
        }
        let mut state = self.state.lock();
        let (sender, waker) = (state.sender.take(), state.waker.take());
        drop(state);
        drop(sender);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A watch in the table; dropping this removes it.
struct Registration {
    watch: Arc<Watch>,
    number: u64,
    addresses: Vec<usize>,
}

impl Ending for Registration {
    fn ends(&self) -> Option<Instant> {
        self.watch.deadline
    }

    fn look(&self) {
        self.watch.look();
    }
}

/// A token's cancellation, to wait for; see [`CancellationToken::cancelled`].
///
/// It is a [`Receiver`] that receives nothing and is disconnected by the cancellation, and it is a future.
pub struct Cancelled {
    receiver: Receiver<Infallible>,
    registration: Arc<Registration>,
    /// Used when it is polled as a future.
    alarm: Option<Alarm>,
}

impl CancellationToken {
    /// The cancellation as something to wait for: in [`select!`](crate::select), by
    /// [`wait`](Cancelled::wait), or as a future, with any executor.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let (requests, incoming) = gvt::channel::<u32>(1);
    /// let server = gvt::spawn(move |token| {
    ///     let (cancelled, mut served) = (token.cancelled(), 0);
    ///     loop {
    ///         gvt::select! {
    ///             recv(incoming) -> _request => served += 1,
    ///             recv(cancelled) -> _ => return served,
    ///         }
    ///     }
    /// });
    /// requests.send(1).unwrap();
    /// # gvt::sleep_ms(1);
    /// server.token().cancel();
    /// assert_eq!(server.join().unwrap(), 1);
    /// # });
    /// ```
    ///
    /// Making one costs a look-up for each ancestor and two allocations: make it once, before the loop.
    ///
    /// Context: anywhere but in a signal handler.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(self)
    }
}

impl Cancelled {
    fn new(token: &CancellationToken) -> Self {
        let (sender, receiver) = bounded(0);
        let state = Lock::new(State { sender: Some(sender), waker: None });
        let (mut addresses, mut deadline) = (Vec::new(), None::<Instant>);
        token.each_ancestor(&mut |step| {
            addresses.push(step.address());
            deadline = deadline.into_iter().chain(step.deadline()).min();
            true
        });
        let watch = Arc::new(Watch { token: token.clone(), deadline, state });
        // K1.
        let number = registry::enter(&addresses, &watch);
        let registration = Arc::new(Registration { watch, number, addresses });
        // K2. ORDERING O1: pairs with the fence in `tell`.
        fence(SeqCst);
        // K3.
        registration.watch.look();
        Cancelled { receiver: receiver.ending(registration.clone()), registration, alarm: None }
    }

    /// Registers `waker` for the cancellation, unless the token is cancelled.
    pub(super) fn tell(&self, waker: &std::task::Waker) {
        let waker = user::Waker::from_ref(waker);
        let mut state = self.registration.watch.state.lock();
        if state.sender.is_some() {
            state.waker = Some(waker);
        }
    }

    /// Waits for the cancellation.
    ///
    /// Context: a green thread or an OS thread; parks. Unwinds at a shutdown of another runtime than the
    /// token's.
    pub fn wait(&self) {
        let _ = self.receiver.recv();
    }

    /// Waits for the cancellation, at most for `timeout`: a sleep that can be cancelled. Returns whether it
    /// was.
    ///
    /// Context: as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.receiver.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }
}

/// `cancelled(token) -> ()` in `select!`: registers only if it must wait.
#[doc(hidden)]
pub struct Cancelling<'a> {
    token: &'a CancellationToken,
    cancelled: OnceCell<Cancelled>,
}

impl On<CancellationToken> {
    #[doc(hidden)]
    pub fn cancelled(&self) -> Cancelling<'_> {
        Cancelling { token: self.end(), cancelled: OnceCell::new() }
    }
}

impl Handle for Cancelling<'_> {
    fn choose(&self) -> Option<Token> {
        self.is_ready().then_some(Token::Free)
    }

    fn is_ready(&self) -> bool {
        self.token.is_cancelled()
    }

    unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool {
        let cancelled = self.cancelled.get_or_init(|| self.token.cancelled());
        // SAFETY: the caller's C1.
        unsafe { cancelled.receiver.enlist(node, wish) }
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        let cancelled = self.cancelled.get().expect("enlisted");
        // SAFETY: the caller's C1.
        unsafe { cancelled.receiver.withdraw(node) }
    }

    fn served(&self) -> Token {
        Token::Free
    }

    fn abandon(&self, _: Token) {}

    fn next(&self) -> Option<Instant> {
        self.cancelled.get()?.receiver.next()
    }
}

impl Operation for Cancelling<'_> {
    type Output = ();

    fn complete(&self, _: Token) {}
}

impl Drop for Registration {
    fn drop(&mut self) {
        registry::leave(&self.addresses, self.number);
    }
}

impl Deref for Cancelled {
    type Target = Receiver<Infallible>;

    fn deref(&self) -> &Receiver<Infallible> {
        &self.receiver
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let watch = self.registration.watch.clone();
        let deadline = watch.deadline;
        if deadline.is_some_and(has_passed) {
            watch.look();
        }
        let waker = user::Waker::of(context);
        let mut state = watch.state.lock();
        if state.sender.is_none() {
            drop(state);
            return Poll::Ready(());
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        if let Some(deadline) = deadline {
            Alarm::wake_at(&mut self.alarm, deadline, context);
        }
        Poll::Pending
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").field("token", &self.registration.watch.token).finish_non_exhaustive()
    }
}
