//! Waiting for a thread's end and taking its result.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gvt_traits::{GvtState, WaitReason};

use crate::cancel::token::CancellationToken;
use crate::channel::Receiver;
use crate::channel::arms::{On, Operation};
use crate::channel::gate::gate;
use crate::channel::select::Handle;
use crate::channel::selected::{Token, Wish};
use crate::future::Parker;
use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::record::{Record, SCOPED, Step};
use crate::kernel::worker::joiner::Foreign;
use crate::kernel::worker::lineage;
use crate::protocol::join::Waiter;
use crate::protocol::{join, user};
use crate::wait::clock::now;
use crate::wait::host::{OsFlag, give_way};
use crate::wait::list::{Node, WaitOutcome};
use crate::wait::park::Wait;
use crate::wait::{cancelled, park};

/// Owns the right to a green thread's result.
///
/// Dropping it detaches the thread, which then drops its result itself.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::time::Duration;
/// let thread = gvt::spawn(|token| {
///     token.cancelled().wait();
///     "was told"
/// });
/// // In time, or the handle again.
/// let thread = thread.join_timeout(Duration::from_millis(1)).unwrap_err();
/// thread.token().cancel();
/// assert_eq!(thread.join().unwrap(), "was told");
/// // A panic is the result of its thread.
/// assert!(gvt::spawn(|_| panic!("on purpose")).join().is_err());
/// # });
/// ```
pub struct JoinHandle<T> {
    record: NonNull<Record>,
    result: PhantomData<fn() -> T>,
}

// SAFETY: the handle is a counted reference to a `Sync` record and yields a `T`, which is `Send` by the
// bounds of every function that spawns.
unsafe impl<T> Send for JoinHandle<T> {}
// SAFETY: through `&JoinHandle` only atomics are read; no `&T` is given out.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// **C1**: the reference that thread and handle share is not released, this is the only handle, and the
    /// thread's result is a `T`.
    pub(crate) unsafe fn from_record(record: &Record) -> Self {
        JoinHandle { record: NonNull::from(record), result: PhantomData }
    }

    /// The record; `from_record` makes the handle again.
    pub(crate) fn into_record(self) -> NonNull<Record> {
        ManuallyDrop::new(self).record
    }

    pub(crate) fn record(&self) -> &Record {
        // SAFETY: kept by the reference that the handle shares with the thread.
        unsafe { self.record.as_ref() }
    }

    /// Waits for the thread's end and returns what its closure returned, or `Err` with the panic's payload.
    /// The payload is a [`SchedError`](crate::SchedError) if a shutdown unwound the thread or there was no
    /// stack for it.
    ///
    /// Context: a green thread or an OS thread; parks. The joined thread must not wait for the caller. At
    /// shutdown a wait without a limit is unwound.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        self.wait();
        let this = ManuallyDrop::new(self);
        // SAFETY: ended; this was the only handle, and its record holds a `T`.
        let result = unsafe { this.record().take_result::<T>() };
        lineage::release_own_anywhere(this.record);
        result
    }

    /// [`join`](Self::join) with a limit.
    ///
    /// Context: as [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// The handle, if the thread had not ended in time.
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, Box<dyn Any + Send>>, Self> {
        match now().checked_add(timeout) {
            Some(deadline) => self.join_deadline(deadline),
            None => Ok(self.join()),
        }
    }

    /// [`join`](Self::join) with a deadline.
    ///
    /// Context: as [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// The handle, if the thread had not ended in time.
    pub fn join_deadline(self, deadline: Instant) -> Result<Result<T, Box<dyn Any + Send>>, Self> {
        give_way();
        let parker = Arc::new(Parker::new());
        let mut registered = Registered::new(&self.record().meta.join_waiters);
        while !registered.renew(|| std::task::Waker::from(parker.clone()).into()) {
            if !parker.park(Some(deadline)) && !self.is_finished() {
                drop(registered);
                return Err(self);
            }
        }
        drop(registered);
        Ok(self.join())
    }

    /// Waits for the thread's end; returns whether it ever ran.
    pub(crate) fn wait_and_see(&self) -> bool {
        self.wait();
        self.record().state() != GvtState::Cancelled
    }

    /// Waits for the thread's end.
    fn wait(&self) {
        give_way();
        let word = &self.record().meta.join_waiters;
        if join::has_ended(word) {
            return;
        }
        match park::current() {
            // In a cancellable wait, as in one across runtimes, the waker may be late: the wait has a number.
            Some(me) if ptr::eq(me.core(), self.record().core()) && !me.has_flag(SCOPED) => {
                wait_green(self.record(), me);
            }
            Some(me) => wait_foreign(word, me),
            None => wait_os(word),
        }
    }

    /// Waits for the end of a thread of `me`'s runtime, as a part of the wait for `reason`. Is not unwound.
    pub(crate) fn wait_shielded(&self, me: &Record, reason: WaitReason) {
        let word = &self.record().meta.join_waiters;
        while !join::has_ended(word) {
            let wait = Wait::new(me, reason);
            let waiter = Waiter::green(me);
            if !join::register(word, waiter) {
                return;
            }
            wait.park_shielded_for(self.record());
            if !join::unregister(word, waiter) {
                return;
            }
        }
    }

    /// Whether the thread has ended, so that [`join`](Self::join) returns at once.
    ///
    /// Context: anywhere.
    pub fn is_finished(&self) -> bool {
        give_way();
        join::has_ended(&self.record().meta.join_waiters)
    }

    /// The thread's id.
    ///
    /// Context: anywhere.
    pub fn id(&self) -> ThreadId {
        // Relaxed: written before the handle was made.
        ThreadId(self.record().meta.unique_id.load(Relaxed))
    }

    /// The thread's name.
    ///
    /// Context: anywhere.
    pub fn name(&self) -> Option<&str> {
        self.record().name()
    }

    /// A handle to the thread, as [`current`](crate::thread::current()) returns it there.
    ///
    /// Context: anywhere.
    pub fn thread(&self) -> crate::Thread {
        crate::Thread::of(self.record())
    }

    /// The thread's token, to cancel it with.
    ///
    /// Context: anywhere.
    pub fn token(&self) -> CancellationToken {
        CancellationToken::of(self.record())
    }
}

/// Joins all threads and returns their results, in the order of the handles.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let squares = gvt::join_all((0..4).map(|i| gvt::spawn(move |_| i * i)));
/// assert_eq!(squares.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 4, 9]);
/// # });
/// ```
///
/// Takes all handles before it joins the first, so a lazy iterator spawns all its threads first. Waits for
/// the newest first, so that trees of threads run depth first. After a panic it still waits for the other
/// threads.
///
/// Context: as [`JoinHandle::join`].
pub fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T, Box<dyn Any + Send>>> {
    let handles: Vec<_> = handles.into_iter().collect();
    handles.iter().rev().for_each(JoinHandle::wait);
    handles.into_iter().map(JoinHandle::join).collect()
}

/// A waker that is registered for a thread's end.
struct Registered<'a> {
    word: &'a AtomicU64,
    waiter: Option<Waiter>,
}

impl<'a> Registered<'a> {
    fn new(word: &'a AtomicU64) -> Self {
        Registered { word, waiter: None }
    }

    /// Replaces the registered waker; `true`: the thread has ended.
    fn renew(&mut self, waker: impl FnOnce() -> user::Waker) -> bool {
        self.withdraw();
        if join::has_ended(self.word) {
            return true;
        }
        let waiter = Waiter::task(waker());
        if !join::register(self.word, waiter) {
            // SAFETY: never registered.
            unsafe { waiter.discard() };
            return true;
        }
        self.waiter = Some(waiter);
        false
    }

    fn withdraw(&mut self) {
        if let Some(waiter) = self.waiter.take()
            && join::unregister(self.word, waiter)
        {
            // SAFETY: taken back.
            unsafe { waiter.discard() };
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The future of [`JoinHandle`]: waits for the thread's end. Dropping it detaches the thread.
#[must_use = "a future does nothing unless it is polled"]
pub struct JoinFuture<T> {
    /// Refers to the handle's record; dropped first.
    registered: Registered<'static>,
    handle: Option<JoinHandle<T>>,
}

/// `handle.await` is [`join`](JoinHandle::join), for any executor.
impl<T> IntoFuture for JoinHandle<T> {
    type Output = Result<T, Box<dyn Any + Send>>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(self) -> JoinFuture<T> {
        let word: *const AtomicU64 = &self.record().meta.join_waiters;
        // SAFETY: the handle keeps the record; it is beside the registration and dropped after it.
        let registered = Registered::new(unsafe { &*word });
        JoinFuture { registered, handle: Some(self) }
    }
}

impl<T> Future for JoinFuture<T> {
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.handle.is_some(), "a future is not polled after its end");
        if !self.registered.renew(|| user::Waker::of(context)) {
            return Poll::Pending;
        }
        let handle = self.handle.take().expect("just seen");
        Poll::Ready(handle.join())
    }
}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinFuture").finish_non_exhaustive()
    }
}

/// `join(handle) -> result` and `ended(handle) -> ()` in `select!`: waits for the end; the macro takes the
/// result.
#[doc(hidden)]
pub struct Ending<'a> {
    word: &'a AtomicU64,
    waiting: RefCell<Option<(Registered<'a>, Receiver<Infallible>)>>,
}

impl<'a> Ending<'a> {
    pub(super) fn new(word: &'a AtomicU64) -> Self {
        Ending { word, waiting: RefCell::new(None) }
    }
}

impl<T> On<JoinHandle<T>> {
    #[doc(hidden)]
    pub fn join(&self) -> Ending<'_> {
        self.ended()
    }

    #[doc(hidden)]
    pub fn ended(&self) -> Ending<'_> {
        Ending::new(&self.end().record().meta.join_waiters)
    }
}

impl Handle for Ending<'_> {
    fn choose(&self) -> Option<Token> {
        self.is_ready().then_some(Token::Free)
    }

    fn is_ready(&self) -> bool {
        join::has_ended(self.word)
    }

    unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool {
        let (waker, receiver) = gate();
        let mut registered = Registered::new(self.word);
        if registered.renew(|| waker.into()) {
            return false;
        }
        // SAFETY: the caller's C1; the receiver is kept until `withdraw`.
        let enlisted = unsafe { receiver.enlist(node, wish) };
        if enlisted {
            self.waiting.replace(Some((registered, receiver)));
        }
        enlisted
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        let waiting = self.waiting.take();
        // SAFETY: the caller's C1.
        waiting.map_or(WaitOutcome::Waiting, |(_, receiver)| unsafe { receiver.withdraw(node) })
    }

    fn served(&self) -> Token {
        Token::Free
    }

    fn abandon(&self, _: Token) {}

    fn next(&self) -> Option<Instant> {
        None
    }
}

impl Operation for Ending<'_> {
    type Output = ();

    fn complete(&self, _: Token) {}
}

fn wait_green(awaited: &Record, me: &Record) {
    /// Withdraws the registration if the wait is unwound.
    struct Registered<'a>(&'a AtomicU64, Waiter);
    impl Drop for Registered<'_> {
        fn drop(&mut self) {
            join::unregister(self.0, self.1);
        }
    }
    let word = &awaited.meta.join_waiters;
    while !join::has_ended(word) {
        let wait = Wait::new(me, WaitReason::Join);
        let waiter = Waiter::green(me);
        if !join::register(word, waiter) {
            return;
        }
        let _registered = Registered(word, waiter);
        wait.park_for(awaited);
    }
}

/// Joins a thread of another runtime: J4 of `join`.
fn wait_foreign(word: &AtomicU64, me: &Record) {
    /// Withdraws the registration, or waits until the waker is done.
    struct Registered<'a>(&'a AtomicU64, Waiter, Arc<Foreign>);
    impl Drop for Registered<'_> {
        fn drop(&mut self) {
            if join::unregister(self.0, self.1) {
                // SAFETY: taken back.
                unsafe { self.1.discard() };
            } else {
                self.2.wait_until_done();
            }
        }
    }
    while !join::has_ended(word) {
        let wait = Wait::new(me, WaitReason::Join);
        let foreign = Foreign::new(me);
        let waiter = Waiter::foreign(&foreign);
        if !join::register(word, waiter) {
            // SAFETY: never registered.
            unsafe { waiter.discard() };
            return;
        }
        let _registered = Registered(word, waiter, foreign);
        wait.park();
        if !join::has_ended(word) {
            cancelled::unwind_if_cancelled(me);
        }
    }
}

/// Never unwinds, also where an OS thread's thread-locals are gone (`std::thread::current` panics there): the
/// caller may have lent its stack to the thread.
fn wait_os(word: &AtomicU64) {
    let flag = Arc::new(OsFlag::new());
    let waiter = Waiter::os(&flag);
    if !join::register(word, waiter) {
        // SAFETY: never registered.
        unsafe { waiter.discard() };
        return;
    }
    while !join::has_ended(word) {
        flag.wait(None);
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if join::detach(&self.record().meta.join_waiters) {
            // Relaxed: written before the thread was pushed.
            let entry = self.record().meta.entry_fn.load(Relaxed);
            // SAFETY: `spawn_on` stored an `EntryFn` there.
            let entry = unsafe { std::mem::transmute::<u64, crate::kernel::thread::record::EntryFn>(entry) };
            // SAFETY: ended, so the result is the handle's.
            unsafe { entry(self.record(), Step::DropResult) };
            lineage::release_own_anywhere(self.record);
        }
        // Otherwise the thread frees the record.
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}
