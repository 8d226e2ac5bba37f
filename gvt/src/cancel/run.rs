//! Running code whose waits end with a token.
//!
//! Ordinary code waits in calls that take no token, many layers down. When the token is cancelled, the thread
//! is unwound from its wait up to the call that began it, as a shutdown unwinds threads.
//!
//! **Hazard.** The cancellation comes while the thread is about to park, when its wait is just satisfied, or
//! when the call has ended and the thread waits for something else.
//!
//! **Protocol.** Thread: **U1** puts the token on its list and sets SCOPED. Each wait then: **U2** is armed
//! (W1 of `wait`), **U3** fence, **U4** checks the tokens on its list, and parks only if none is cancelled,
//! at most until their earliest deadline. Canceller: stores the token's flag, fence (K4, K5 of `cancelled`),
//! **U5** ends the wait that the thread is in. The fences are totally ordered: U4 sees the flag, or U5 the
//! wait. **U6** After a wait, the thread first checks whether the wait is satisfied, under the lock of what
//! it waits for. Only if it is not does it check its tokens and unwind. So nothing that was handed to it is
//! lost. **U7** U5 happens under a lock, and the end of the call takes that lock: U5 ends no later wait.
//!
//! A thread that already unwinds keeps waiting in its destructors.
//!
//! **Evidence.** loom `wait::reach::*`, of U3 to U5 and U7.
//!
//! **Rejected.** Variants of every call that take a token: layers between do not pass it on. For one wait, on
//! any thread, `select!` has an arm for tokens.

use std::panic::resume_unwind;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Wake, Waker};

use gvt_traits::PushKind;

use crate::cancel::reason::CancelReason;
use crate::cancel::token::{CancellationToken, Scope};
use crate::kernel::thread::record::{Record, SCOPED};
use crate::kernel::worker::joiner;
use crate::protocol::{user, wait};
use crate::wait::cancelled::CancelUnwind;
use crate::wait::clock::deadline_ns;
use crate::wait::park;
use crate::wait::reach::Reach;

/// What a token's cancellation wakes.
struct Caller {
    /// Closed once the call has ended.
    thread: Reach<CancellationToken>,
}

impl Wake for Caller {
    /// U5.
    fn wake(self: Arc<Self>) {
        self.thread.end(|thread| {
            if let Some(record) = thread.record() {
                joiner::wake_wait(record, wait::number(&record.meta.wait), PushKind::Wake);
            }
        });
    }
}

/// A scope on its thread's list; dropping this removes it.
struct Entered<'a> {
    record: &'a Record,
    outer: *const Scope,
    caller: Arc<Caller>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // U7.
        let thread = self.caller.thread.close();
        // Relaxed: the thread's own.
        self.record.extras().scopes.store(self.outer.cast_mut(), Relaxed);
        if self.outer.is_null() {
            // Relaxed: as above; the others' bits stay.
            self.record.meta.flags.fetch_and(!SCOPED, Relaxed);
        }
        drop(thread);
    }
}

impl CancellationToken {
    /// Runs `f` on the calling green thread. When this token is cancelled, waits in `f` end: the thread is
    /// unwound from its wait, however deep, and destructors run on the way.
    ///
    /// This holds for every wait of this crate: receiving, sending, sleeping, locking, joining, acquiring,
    /// `select!`, and what is built of them. Code that computes runs until it waits. A wait that was
    /// satisfied before the cancellation returns its result, and the next wait unwinds; a message in a
    /// channel stays there, and a lock or permit that was being handed over goes to the next waiter. If `f`
    /// returns, its value is returned, cancelled or not.
    ///
    /// Destructors that wait while the thread unwinds keep waiting, and so does a
    /// [`scope`](crate::thread::scope()) for its threads. Code that catches the unwinding is unwound again
    /// from its next wait. Calls may be nested.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// use std::time::Duration;
    /// use gvt::CancelReason;
    ///
    /// // Takes no token.
    /// fn sum(numbers: &gvt::Receiver<u32>) -> u32 {
    ///     numbers.iter().take(3).sum()
    /// }
    ///
    /// let (sender, numbers) = gvt::channel(4);
    /// let token = gvt::current_token().unwrap().with_timeout(Duration::from_millis(2));
    /// sender.send(1).unwrap();
    /// let result = token.run_until_cancelled(|| sum(&numbers));
    /// assert_eq!(result, Err(CancelReason::DeadlinePassed));
    /// # });
    /// ```
    ///
    /// Context: a green thread. On an OS thread outside a runtime, and in a program built with `panic =
    /// "abort"`, waits cannot be unwound: there `f` runs to its end, unless the token is cancelled before it
    /// begins. `select!` with `cancelled(token)` works there too.
    ///
    /// # Errors
    ///
    /// Why the token is cancelled, if that was before `f` began or ended a wait in `f`.
    ///
    /// # Panics
    ///
    /// With `f`'s payload if that panics.
    pub fn run_until_cancelled<T>(&self, f: impl FnOnce() -> T) -> Result<T, CancelReason> {
        self.check()?;
        let Some(record) = park::current().filter(|_| cfg!(panic = "unwind")) else {
            return Ok(f());
        };
        let cancelled = self.cancelled();
        let caller = Arc::new(Caller { thread: Reach::new(CancellationToken::of(record)) });
        // U1.
        let scopes = &record.extras().scopes;
        let outer = scopes.load(Relaxed).cast_const();
        let scope = Scope { token: self, deadline_ns: self.deadline().map(deadline_ns), outer };
        let entered = Entered { record, outer, caller };
        scopes.store(ptr::from_ref(&scope).cast_mut(), Relaxed);
        record.meta.flags.fetch_or(SCOPED, Relaxed);
        cancelled.tell(&Waker::from(entered.caller.clone()));
        let outcome = user::catch(f);
        drop(entered);
        drop(cancelled);
        match outcome {
            Ok(value) => Ok(value),
            Err(payload) if payload.is::<CancelUnwind>() => match self.check() {
                Err(reason) => Err(reason),
                // An outer call's.
                Ok(()) => resume_unwind(payload),
            },
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// Runs `f`; its waits end when the calling thread's own token is cancelled. See
/// [`CancellationToken::run_until_cancelled`].
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::Duration;
/// let thread = gvt::spawn(|_| gvt::cancellable(|| gvt::sleep(Duration::from_secs(3600))));
/// gvt::yield_now();
/// thread.token().cancel();
/// assert_eq!(thread.join().unwrap(), Err(gvt::CancelReason::Requested));
/// # });
/// ```
///
/// Context: as there; outside a runtime there is no token, and `f` runs to its end.
///
/// # Errors
///
/// As there.
///
/// # Panics
///
/// As there.
pub fn cancellable<T>(f: impl FnOnce() -> T) -> Result<T, CancelReason> {
    match park::current().map(CancellationToken::of) {
        Some(token) => token.run_until_cancelled(f),
        None => Ok(f()),
    }
}
