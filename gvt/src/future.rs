//! Futures and green threads: running the ones on the others.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use gvt_traits::WaitReason;

use crate::sync::list::{List, Manner, wait};
use crate::sync::{Lock, Verdict, deadline_ns};

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
/// Context: a green thread (its worker runs others meanwhile) or an OS thread. At shutdown a green thread that waits here is
/// unwound, and the future dropped.
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

/// Where a thread waits to be woken through a [`Waker`], which may be kept by anybody for as long as they like.
pub(crate) struct Parker {
    state: Lock<State>,
}

struct State {
    notified: bool,
    waiters: List<()>,
}

const MANNER: Manner<(), State, ()> =
    Manner { list: |state, _| &mut state.waiters, reason: WaitReason::Park, abandon: |_, _, _, _, _, _| {} };

impl Parker {
    pub(crate) fn new() -> Self {
        Parker { state: Lock::new(State { notified: false, waiters: List::new() }) }
    }

    /// Waits for a notification and takes it; `false` if the deadline came first.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.notified) {
            return true;
        }
        wait(&(), state, &MANNER, 0, &mut None, deadline.map(deadline_ns)) == Verdict::Served
    }

    fn notify(&self) {
        let mut state = self.state.lock();
        let here = state.here();
        match state.waiters.take() {
            Some(waiter) => {
                let wake = waiter.end(Verdict::Served, here);
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
