//! `RwLock`: std's, for green threads.
//!
//! **Protocol.** One word: the number of readers (or one writer), and WAITING. **F1** The fast paths touch
//! the word only while WAITING is clear. **F2** A thread that cannot have the lock sets WAITING under the
//! list's lock, checks once more, and links itself. **F3** The last reader, or the writer, that leaves a word
//! with WAITING takes the list's lock and *grants* the lock to the first waiter, and if that is a reader, to
//! all readers right behind it; it counts them in the word before it wakes them. **F4** The thread that
//! empties the list clears WAITING, under its lock.
//!
//! So waiters are served in order: neither writers nor readers starve. The exception is **F5**: `watch` reads
//! past waiting writers, also under the list's lock.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, TryLockError, TryLockResult};

use gvt_traits::WaitReason;

use super::owner::Owner;
use super::poison::{Before, Poison};
use crate::protocol::atomics::AtomicU32;
use crate::protocol::atomics::Ordering::*;
use crate::wait::host::{Here, give_way};
use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

const WRITER: u32 = 1 << 31;
const WAITING: u32 = 1 << 30;
const READERS: u32 = WAITING - 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Read,
    Write,
}

struct RawRwLock {
    word: AtomicU32,
    waiters: Lock<List<Kind>>,
}

// For guards, like std's: its state is never broken.
impl RefUnwindSafe for RawRwLock {}

const POLICY: WaitPolicy<RawRwLock, List<Kind>, Kind> = WaitPolicy {
    list: |list, _| list,
    reason: WaitReason::Mutex,
    abandon: |lock, list, slot, outcome, wakes, here| {
        if outcome == WaitOutcome::Served {
            lock.let_go(slot.expect("a waiter says what it waits for"));
        }
        lock.grant(list, wakes, here);
    },
};

impl RawRwLock {
    const_fn! {
        const fn new() -> Self {
            RawRwLock { word: AtomicU32::new(0), waiters: Lock::new(List::new()) }
        }
    }

    #[inline]
    fn try_read(&self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & (WRITER | WAITING) == 0 {
            assert!(word < READERS, "more threads read than can be counted");
            // ORDERING O1: Acquire pairs with the Release of the writer that left.
            match self.word.compare_exchange_weak(word, word + 1, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    fn try_write(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release of the threads that left.
        self.word.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self, kind: Kind) {
        let mut list = self.waiters.lock();
        // F2. ORDERING O1: as in `try_read`.
        let word = self.word.fetch_or(WAITING, AcqRel);
        let free = match kind {
            Kind::Read => word & WRITER == 0,
            Kind::Write => word & (WRITER | READERS) == 0,
        };
        if free && list.is_empty() {
            self.count(kind);
            self.settle(&mut list);
            return;
        }
        let outcome = wait(self, list, &POLICY, 0, &mut Some(kind), None);
        debug_assert_eq!(outcome, WaitOutcome::Served);
    }

    /// Takes the lock for reading before other waiters; waits only for the present writer.
    #[cold]
    fn read_past_waiters(&self) {
        let list = self.waiters.lock();
        // F2. ORDERING O1: as in `try_read`.
        if self.word.fetch_or(WAITING, AcqRel) & WRITER != 0 {
            let outcome = wait(self, list, &POLICY, 0, &mut Some(Kind::Read), None);
            debug_assert_eq!(outcome, WaitOutcome::Served);
            return;
        }
        let mut list = list;
        self.count(Kind::Read);
        self.settle(&mut list);
    }

    /// Under the list's lock, with WAITING set: only leaving readers change the word.
    fn count(&self, kind: Kind) {
        // ORDERING: Acquire pairs with the Release of the threads that unlock.
        match kind {
            Kind::Read => self.word.fetch_add(1, Acquire),
            Kind::Write => self.word.fetch_or(WRITER, Acquire),
        };
    }

    /// The reverse of `count`; returns whether to grant.
    fn let_go(&self, kind: Kind) -> bool {
        // ORDERING O1: Release pairs with the Acquire of the next thread that locks.
        let left = match kind {
            Kind::Read => self.word.fetch_sub(1, Release) - 1,
            Kind::Write => self.word.fetch_and(!WRITER, Release) & !WRITER,
        };
        left == WAITING
    }

    /// F3.
    fn grant(&self, list: &mut List<Kind>, wakes: &mut WakeList, here: Here) {
        loop {
            let word = self.word.load(Acquire);
            let free = match list.first_slot().copied() {
                None => break,
                Some(Kind::Read) => word & WRITER == 0,
                Some(Kind::Write) => word & (WRITER | READERS) == 0,
            };
            if !free {
                break;
            }
            let Some(mut waiter) = list.take() else { break };
            if let Some(Some(kind)) = waiter.slot() {
                self.count(*kind);
            }
            wakes.push(waiter.end(WaitOutcome::Served, here));
        }
        self.settle(list);
    }

    /// F4.
    fn settle(&self, list: &mut List<Kind>) {
        if list.is_empty() {
            self.word.fetch_and(!WAITING, Relaxed);
        }
    }

    #[cold]
    fn grant_outside(&self) {
        let mut wakes = WakeList::new();
        let mut list = self.waiters.lock();
        let here = list.here();
        self.grant(&mut list, &mut wakes, here);
        drop(list);
        wakes.fire();
    }

    #[inline]
    fn unlock(&self, kind: Kind) {
        if self.let_go(kind) {
            self.grant_outside();
        }
    }

    fn downgrade(&self) {
        // ORDERING O1: Release: readers see what was written.
        if self.word.fetch_sub(WRITER - 1, Release) & WAITING != 0 {
            self.grant_outside();
        }
    }
}

/// Many readers or one writer, with the interface of [`std::sync::RwLock`]; parks the green thread, not its
/// worker.
///
/// Its guards may be held over any wait. Waiting threads are served in order of arrival, adjacent readers
/// together. In builds with debug assertions, a writer that locks once more panics instead of waiting for
/// itself.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let lock = gvt::sync::RwLock::new(5);
/// {
///     let (one, two) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one + *two, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// # });
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Poison,
    writer: Owner,
    value: UnsafeCell<T>,
}

// SAFETY: only guards reach the value: those of readers on several threads, or that of one writer.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// Poisoning announces a panic under the lock.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        RwLock {
            raw: RawRwLock::new(),
            poison: Poison::new(),
            writer: Owner::nobody(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// If the lock is poisoned; the error holds the value.
    pub fn into_inner(self) -> LockResult<T> {
        let RwLock { poison, value, .. } = self;
        poison.wrap(value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for the writer and for earlier waiters, and takes the lock for reading. A thread that is already
    /// a reader may wait for itself, if a writer waits between.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Errors
    ///
    /// If the lock is poisoned; the error holds the guard.
    ///
    /// # Panics
    ///
    /// In builds with debug assertions, if this thread is the writer.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        give_way();
        if !self.raw.try_read() {
            self.refuse_own();
            self.raw.wait(Kind::Read);
        }
        self.poison.wrap(self.reading())
    }

    /// [`read`](Self::read) before waiting writers: it waits only for the present writer. So a thread that is
    /// already a reader never waits here.
    #[track_caller]
    pub(crate) fn read_past_waiters(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.try_read() {
            self.refuse_own();
            self.raw.read_past_waiters();
        }
        self.poison.wrap(self.reading())
    }

    /// The guard, after the lock was taken for reading.
    fn reading(&self) -> RwLockReadGuard<'_, T> {
        // SAFETY: a cell's pointer is not null.
        let value = unsafe { NonNull::new_unchecked(self.value.get()) };
        RwLockReadGuard { value, raw: &self.raw, lives: PhantomData }
    }

    /// Takes the lock for reading if there is no need to wait.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// If there is, or if the lock is poisoned; then the error holds the guard.
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        give_way();
        if !self.raw.try_read() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(self.reading())?)
    }

    /// Waits until the lock is free and takes it for writing.
    ///
    /// Context: as [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// If the lock is poisoned; the error holds the guard.
    ///
    /// # Panics
    ///
    /// In builds with debug assertions, if this thread is the writer.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        give_way();
        if !self.raw.try_write() {
            self.refuse_own();
            self.raw.wait(Kind::Write);
        }
        self.writer.set_me();
        self.poison.wrap(RwLockWriteGuard { lock: self, before: self.poison.enter(), stays: PhantomData })
    }

    /// Panics if this thread is the writer.
    #[inline]
    #[track_caller]
    fn refuse_own(&self) {
        assert!(
            !self.writer.is_me(),
            "this thread has locked the `RwLock` for writing already; locking it once more would wait for ever"
        );
    }

    /// Takes the lock for writing if it is free.
    ///
    /// Context: anywhere.
    ///
    /// # Errors
    ///
    /// If it is not, or if it is poisoned; then the error holds the guard.
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        give_way();
        if !self.raw.try_write() {
            return Err(TryLockError::WouldBlock);
        }
        self.writer.set_me();
        let guard = RwLockWriteGuard { lock: self, before: self.poison.enter(), stays: PhantomData };
        Ok(self.poison.wrap(guard)?)
    }

    /// Whether a panic has cut short a writer.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Clears the poison: the value is consistent again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: the exclusive borrow proves that there is no holder.
    ///
    /// # Errors
    ///
    /// If the lock is poisoned; the error holds the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let RwLock { poison, value, .. } = self;
        poison.wrap(value.get_mut())
    }
}

/// Holds an [`RwLock`] for reading; dropping it unlocks.
#[must_use = "a lock is unlocked when its guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    /// Covariant, like std's; and not `Send`.
    value: NonNull<T>,
    raw: &'a RawRwLock,
    lives: PhantomData<&'a T>,
}

/// Holds an [`RwLock`] for writing; dropping it unlocks.
#[must_use = "a lock is unlocked when its guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    before: Before,
    /// Not `Send`, like std's.
    stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Becomes a reader of what was written, without another writer in between.
    pub fn downgrade(this: Self) -> RwLockReadGuard<'a, T> {
        let this = ManuallyDrop::new(this);
        this.lock.poison.leave(this.before);
        this.lock.writer.clear();
        this.lock.raw.downgrade();
        this.lock.reading()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: there is no writer while this guard lives.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard's holder is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock(Kind::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.before);
        self.lock.writer.clear();
        self.lock.raw.unlock(Kind::Write);
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

macro_rules! show {
    ($($guard:ident)+) => {
        $(
            impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    (**self).fmt(f)
                }
            }

            impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    (**self).fmt(f)
                }
            }
        )+
    };
}

show! { RwLockReadGuard RwLockWriteGuard }
