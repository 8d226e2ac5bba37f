//! Futures on green threads: running them, and timers for them.
//!
//! | to | names |
//! |---|---|
//! | run a future on the calling thread | [`block_on`] |
//! | sleep, limit a future's time | [`sleep`], [`sleep_until`], [`timeout`], [`Sleep`], [`Timeout`] |
//! | await green threads, with any executor | `handle.await`, `recv_async`, `lock_async`, `cancelled().await` |
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! use gvt::future;
//! let (sender, receiver) = gvt::channel(1);
//! gvt::spawn(move |_| sender.send(7));
//! assert_eq!(future::block_on(async { receiver.recv_async().await }), Ok(7));
//! # });
//! ```

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use gvt_traits::WaitReason;

use crate::wait::alarm::Alarm;
use crate::wait::clock::{TimedOut, deadline_ns, has_passed, now};
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;

/// Runs a future on the calling thread, which parks while the future waits.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let thread = gvt::spawn(|_| 6 * 7);
/// let answer = gvt::future::block_on(async { thread.await.unwrap() });
/// assert_eq!(answer, 42);
/// # });
/// ```
///
/// Context: a green thread or an OS thread; parks. At shutdown a green thread that waits here is unwound, and
/// the future is dropped.
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(parker.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        parker.park(None);
    }
}

/// Where a thread waits for a call of a [`Waker`], which may live longer than the wait.
pub(crate) struct Parker {
    state: Lock<State>,
}

struct State {
    notified: bool,
    waiters: List<()>,
}

const POLICY: WaitPolicy<(), State, ()> = WaitPolicy {
    list: |state, _| &mut state.waiters,
    reason: WaitReason::Park,
    abandon: |_, _, _, _, _, _| {},
};

impl Parker {
    pub(crate) fn new() -> Self {
        Parker { state: Lock::new(State { notified: false, waiters: List::new() }) }
    }

    /// Waits for a notification and takes it; `false`: the deadline has passed.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.notified) {
            return true;
        }
        wait(&(), state, &POLICY, 0, &mut None, deadline.map(deadline_ns)) == WaitOutcome::Served
    }

    fn notify(&self) {
        let mut state = self.state.lock();
        let here = state.here();
        match state.waiters.take() {
            Some(waiter) => {
                let wake = waiter.end(WaitOutcome::Served, here);
                state.wake(wake);
            }
            None => state.notified = true,
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

/// Completes at its deadline; made by [`sleep`] and [`sleep_until`].
#[must_use = "a future does nothing unless it is polled"]
#[derive(Debug)]
pub struct Sleep {
    /// `None`: never.
    deadline: Option<Instant>,
    alarm: Option<Alarm>,
}

/// A future that completes after `duration`.
///
/// Context: any executor, on any thread.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { deadline: now().checked_add(duration), alarm: None }
}

/// A future that completes at `deadline`.
///
/// Context: any executor, on any thread.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Some(deadline), alarm: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if has_passed(deadline) {
            return Poll::Ready(());
        }
        Alarm::wake_at(&mut self.alarm, deadline, context);
        Poll::Pending
    }
}

/// A future with a time limit; made by [`timeout`].
#[must_use = "a future does nothing unless it is polled"]
#[derive(Debug)]
pub struct Timeout<F> {
    future: F,
    sleep: Sleep,
}

/// Limits a future to `limit`.
///
/// ```
/// use std::time::Duration;
/// use gvt::future::{block_on, timeout};
/// let (sender, receiver) = gvt::channel(1);
/// let received = block_on(timeout(Duration::from_millis(2), receiver.recv_async()));
/// assert_eq!(received, Err(gvt::TimedOut));
/// sender.send("late").unwrap();
/// ```
///
/// Context: any executor, on any thread.
pub fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep(limit) }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned with `self` and never moved; `Sleep` may be moved.
        let (future, sleep) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), Pin::new(&mut this.sleep))
        };
        if let Poll::Ready(output) = future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        sleep.poll(context).map(|()| Err(TimedOut))
    }
}
