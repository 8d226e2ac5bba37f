//! Waiting for a thread's end, and taking its result.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use gvt_traits::{GvtState, WaitReason};

use crate::park::{self, Wait};
use crate::sched::join::{self, Foreign, Waiter};
use crate::sched::record::{Record, Step};
use crate::sched::root;
use crate::thread::ThreadId;
use crate::token::{self, CancellationToken};

/// Owns the right to a green thread's result.
///
/// Dropping it leaves the thread running; the thread then drops its result itself.
pub struct JoinHandle<T> {
    record: NonNull<Record>,
    result: PhantomData<fn() -> T>,
}

// SAFETY: the handle is a counted reference to a `Sync` record, and passes on a `T`, which is `Send` by
// the bounds of every function that spawns.
unsafe impl<T> Send for JoinHandle<T> {}
// SAFETY: through `&JoinHandle` only atomics are read; no `&T` is given out.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// **C1**: the reference that thread and handle share has not been let go of, it is the only handle, and the
    /// thread's result is a `T`.
    pub(crate) unsafe fn from_record(record: &Record) -> Self {
        JoinHandle { record: NonNull::from(record), result: PhantomData }
    }

    fn record(&self) -> &Record {
        // SAFETY: kept by the reference that the handle shares with the thread.
        unsafe { self.record.as_ref() }
    }

    /// Waits for the thread's end and returns what its closure returned, or, if that panicked, the
    /// panic's payload as `Err`. A thread that a shutdown has unwound, or that could not be given a stack, ends with
    /// a [`SchedError`](crate::SchedError) as payload.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too; not one that the joined
    /// thread waits for). At shutdown a wait for ever is unwound.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        self.wait();
        let this = ManuallyDrop::new(self);
        // SAFETY: ended; this was the only handle, and its record holds a `T`.
        let result = unsafe { this.record().take_result::<T>() };
        token::release(this.record, root::own_references(this.record()));
        result
    }

    /// Waits for the thread's end; whether it ever ran.
    pub(crate) fn wait_and_see(&self) -> bool {
        self.wait();
        self.record().state() != GvtState::Cancelled
    }

    /// Waits for the thread's end.
    fn wait(&self) {
        let word = &self.record().meta.join_waiters;
        if join::has_ended(word) {
            return;
        }
        match park::current() {
            Some(me) if ptr::eq(me.core(), self.record().core()) => wait_green(word, me),
            Some(me) => wait_foreign(word, me),
            None => wait_os(word),
        }
    }

    /// Whether the thread has ended, so that [`join`](Self::join) returns at once.
    ///
    /// Context: anywhere.
    pub fn is_finished(&self) -> bool {
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

    /// The thread's token, to cancel it by.
    ///
    /// Context: anywhere.
    pub fn token(&self) -> CancellationToken {
        CancellationToken::of(self.record())
    }
}

fn wait_green(word: &AtomicU64, me: &Record) {
    /// Takes the registration back if the wait is unwound.
    struct Registered<'a>(&'a AtomicU64, Waiter);
    impl Drop for Registered<'_> {
        fn drop(&mut self) {
            join::unregister(self.0, self.1);
        }
    }
    while !join::has_ended(word) {
        let wait = Wait::new(me, WaitReason::Join);
        let waiter = Waiter::green(me);
        if !join::register(word, waiter) {
            return;
        }
        let _registered = Registered(word, waiter);
        wait.park();
    }
}

/// The joined thread is of another runtime: J4 of `join`.
fn wait_foreign(word: &AtomicU64, me: &Record) {
    /// Takes the registration back, or waits until the waker is done.
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
    }
}

fn wait_os(word: &AtomicU64) {
    let waiter = Waiter::os(std::thread::current());
    if !join::register(word, waiter) {
        // SAFETY: never registered.
        unsafe { waiter.discard() };
        return;
    }
    while !join::has_ended(word) {
        std::thread::park();
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if join::detach(&self.record().meta.join_waiters) {
            // Relaxed: written before the thread was pushed.
            let entry = self.record().meta.entry_fn.load(Relaxed);
            // SAFETY: `spawn_on` stored an `EntryFn` there.
            let entry = unsafe { std::mem::transmute::<u64, crate::sched::record::EntryFn>(entry) };
            // SAFETY: ended, so the result is the handle's.
            unsafe { entry(self.record(), Step::DropResult) };
            token::release(self.record, root::own_references(self.record()));
        }
        // Otherwise the record is the thread's.
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}
