//! `Once`, `OnceLock`, `LazyLock`: std's, for green threads.
//!
//! **Protocol.** One word. **A1** The thread that moves it from NEW or POISONED to RUNNING runs the closure.
//! **A2** It stores COMPLETE, or POISONED if the closure panicked, and then takes the list's lock and wakes
//! all. **A3** A thread that finds RUNNING takes the list's lock, checks once more, and waits; so either A2
//! finds it in the list, or it has seen what A2 stored.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering::*};

use gvt_traits::WaitReason;

use crate::wait::list::{List, WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::Lock;
use crate::wait::wake::WakeList;

const NEW: u32 = 0;
const POISONED: u32 = 1;
const RUNNING: u32 = 2;
const COMPLETE: u32 = 3;

/// Runs a closure once, with the interface of [`std::sync::Once`]; parks green threads that come meanwhile,
/// not their workers. The closure may wait.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// static BEGIN: gvt::sync::Once = gvt::sync::Once::new();
/// let mut runs = 0;
/// BEGIN.call_once(|| runs += 1);
/// BEGIN.call_once(|| runs += 1);
/// assert_eq!(runs, 1);
/// # });
/// ```
pub struct Once {
    word: AtomicU32,
    waiters: Lock<List<()>>,
}

const POLICY: WaitPolicy<(), List<()>, ()> =
    WaitPolicy { list: |list, _| list, reason: WaitReason::Mutex, abandon: |_, _, _, _, _, _| {} };

// Poisoning announces a panic in the closure.
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// The argument of the closure of [`Once::call_once_force`].
pub struct OnceState {
    poisoned: bool,
    /// Not `Sync`, like std's.
    one_thread: PhantomData<Cell<()>>,
}

impl OnceState {
    /// Whether an earlier closure has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.poisoned).finish()
    }
}

/// A2.
struct Running<'a> {
    once: &'a Once,
    end: u32,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // ORDERING O1: Release pairs with the Acquire of the threads that find it.
        self.once.word.store(self.end, Release);
        let mut wakes = WakeList::new();
        let mut list = self.once.waiters.lock();
        let here = list.here();
        while let Some(waiter) = list.take() {
            wakes.push(waiter.end(WaitOutcome::Again, here));
        }
        drop(list);
        wakes.fire();
    }
}

impl Once {
    /// A `Once` whose closure has not run.
    pub const fn new() -> Self {
        Once { word: AtomicU32::new(NEW), waiters: Lock::new(List::new()) }
    }

    /// Runs `f` if no closure has run; if one is running, waits until that has ended.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Calling it again from `f`
    /// waits for ever.
    ///
    /// # Panics
    ///
    /// If an earlier closure has panicked.
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.run(Again::Refused(What::Once), &mut |_| f.take().expect("run once")());
        }
    }

    /// [`call_once`](Self::call_once) that tries again after a closure that panicked.
    ///
    /// Context: as [`call_once`](Self::call_once).
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.run(Again::Allowed, &mut |state| f.take().expect("run once")(state));
        }
    }

    /// Whether a closure has completed.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // ORDERING O1: Acquire pairs with the Release in `Running`: what the closure did is seen.
        self.word.load(Acquire) == COMPLETE
    }

    /// Waits until a closure has completed.
    ///
    /// Context: as [`call_once`](Self::call_once).
    ///
    /// # Panics
    ///
    /// If a closure has panicked.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_for(Again::Refused(What::Once));
    }

    /// [`wait`](Self::wait) that waits on after a closure that panicked.
    pub fn wait_force(&self) {
        self.wait_for(Again::Allowed);
    }

    #[track_caller]
    fn wait_for(&self, again: Again) {
        loop {
            // ORDERING: Acquire, here and below, pairs with the Release that completes it: what the closure
            // did is seen.
            match (self.word.load(Acquire), again) {
                (COMPLETE, _) => return,
                (POISONED, Again::Refused(what)) => poisoned(what),
                _ => {
                    let list = self.waiters.lock();
                    let word = self.word.load(Acquire);
                    if word != COMPLETE && (word != POISONED || again == Again::Allowed) {
                        wait(&(), list, &POLICY, 0, &mut None, None);
                    }
                }
            }
        }
    }

    #[cold]
    #[track_caller]
    fn run(&self, again: Again, f: &mut dyn FnMut(&OnceState)) {
        loop {
            // ORDERING: Acquire pairs with the Release that completes it.
            let word = self.word.load(Acquire);
            match (word, again) {
                (COMPLETE, _) => return,
                (POISONED, Again::Refused(what)) => poisoned(what),
                (NEW | POISONED, _) => {
                    // A1. ORDERING O1: Acquire: what a closure that panicked did is seen.
                    if self.word.compare_exchange(word, RUNNING, Acquire, Relaxed).is_err() {
                        continue;
                    }
                    let mut running = Running { once: self, end: POISONED };
                    f(&OnceState { poisoned: word == POISONED, one_thread: PhantomData });
                    running.end = COMPLETE;
                    return;
                }
                _ => {
                    // A3.
                    let list = self.waiters.lock();
                    if self.word.load(Acquire) == RUNNING {
                        wait(&(), list, &POLICY, 0, &mut None, None);
                    }
                }
            }
        }
    }
}

#[cold]
#[track_caller]
fn poisoned(what: What) -> ! {
    // std's messages.
    match what {
        What::Once => panic!("Once instance has previously been poisoned"),
        What::Lazy => lazy_poisoned(),
    }
}

#[cold]
#[track_caller]
fn lazy_poisoned() -> ! {
    panic!("LazyLock instance has previously been poisoned")
}

/// The purpose of a closure's run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Once,
    Lazy,
}

/// Whether a closure that has panicked is the last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Refused(What),
    Allowed,
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

/// A cell that is written once, with the interface of [`std::sync::OnceLock`]; parks green threads that wait
/// for it, not their workers. Its initialiser may wait.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// static ANSWER: gvt::sync::OnceLock<u32> = gvt::sync::OnceLock::new();
/// assert_eq!(ANSWER.get(), None);
/// assert_eq!(*ANSWER.get_or_init(|| 42), 42);
/// assert_eq!(ANSWER.set(43), Err(43));
/// # });
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Present when `once` is completed. An `Option`, so that no `Drop` of this type keeps the value's
    /// borrows alive, as with std's.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: one thread writes the value, and it is shared after that; another thread may drop or take it.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        OnceLock { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if the cell is written.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: completed, so written, and only shared from then on.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// The value, if the cell is written.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Waits until the cell is written.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too).
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("completed")
    }

    /// Writes the value; waits if another thread is writing.
    ///
    /// # Errors
    ///
    /// The value, if the cell was written.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("run once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; if there is none, writes the result of `f`. Of several threads one runs its `f`, and the
    /// others wait.
    ///
    /// Context: as [`wait`](Self::wait). If `f` panics the cell stays empty.
    #[inline]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: only this closure runs, and there is no reader before it has ended.
            unsafe { *self.value.get() = Some(value) };
        });
        self.get().expect("just initialised")
    }

    /// Takes the value; the cell is empty then.
    pub fn take(&mut self) -> Option<T> {
        self.once = Once::new();
        self.value.get_mut().take()
    }

    /// The value.
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let place = Self::new();
        let _ = place.set(value);
        place
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        self.get().cloned().map_or_else(Self::new, Self::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}

/// A value that is made on first use, with the interface of [`std::sync::LazyLock`]; parks green threads that
/// wait for it, not their workers. Its initialiser may wait.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// static WORDS: gvt::sync::LazyLock<Vec<&str>> = gvt::sync::LazyLock::new(|| vec!["made", "once"]);
/// assert_eq!(WORDS.len(), 2);
/// # });
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    state: UnsafeCell<Lazy<T, F>>,
}

enum Lazy<T, F> {
    Unmade(F),
    Made(T),
    /// The initialiser runs, or has panicked.
    Making,
}

// SAFETY: like `OnceLock`; the closure may run on another thread than it came from.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make.
    pub const fn new(f: F) -> Self {
        LazyLock { once: Once::new(), state: UnsafeCell::new(Lazy::Unmade(f)) }
    }

    /// The value; makes it on first use. Of several threads one makes it, and the others wait.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too).
    ///
    /// # Panics
    ///
    /// If the initialiser panics, or has panicked before.
    #[inline]
    #[track_caller]
    pub fn force(this: &Self) -> &T {
        if !this.once.is_completed() {
            this.make();
        }
        // SAFETY: completed, so there are no more writes.
        match unsafe { &*this.state.get() } {
            Lazy::Made(value) => value,
            _ => unreachable!("completed"),
        }
    }

    #[cold]
    #[track_caller]
    fn make(&self) {
        self.once.run(Again::Refused(What::Lazy), &mut |_| {
            // SAFETY: only this closure runs, and there is no reader before it has ended.
            let Lazy::Unmade(f) = mem::replace(unsafe { &mut *self.state.get() }, Lazy::Making) else {
                unreachable!("made once")
            };
            let value = f();
            // SAFETY: as above.
            unsafe { *self.state.get() = Lazy::Made(value) };
        });
    }

    /// [`force`](Self::force) through an exclusive borrow.
    ///
    /// # Panics
    ///
    /// As [`force`](Self::force).
    #[track_caller]
    pub fn force_mut(this: &mut Self) -> &mut T {
        /// Poisons if the initialiser panics.
        struct Poisons<'a>(&'a Once);
        impl Drop for Poisons<'_> {
            fn drop(&mut self) {
                // Relaxed: the borrow is exclusive.
                self.0.word.store(POISONED, Relaxed);
            }
        }
        let state = this.state.get_mut();
        if matches!(state, Lazy::Making) {
            lazy_poisoned();
        }
        if let Lazy::Unmade(_) = state {
            let poisons = Poisons(&this.once);
            let Lazy::Unmade(f) = mem::replace(state, Lazy::Making) else { unreachable!("just seen") };
            *state = Lazy::Made(f());
            mem::forget(poisons);
            // Relaxed: the borrow is exclusive.
            this.once.word.store(COMPLETE, Relaxed);
        }
        match state {
            Lazy::Made(value) => value,
            _ => unreachable!("just made"),
        }
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it has been made.
    #[inline]
    pub fn get(this: &Self) -> Option<&T> {
        // SAFETY: completed, so there are no more writes.
        match this.once.is_completed().then(|| unsafe { &*this.state.get() }) {
            Some(Lazy::Made(value)) => Some(value),
            _ => None,
        }
    }

    /// The value, if it has been made.
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        match this.state.get_mut() {
            Lazy::Made(value) => Some(value),
            _ => None,
        }
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("LazyLock");
        // SAFETY: completed, so there are no more writes.
        match self.once.is_completed().then(|| unsafe { &*self.state.get() }) {
            Some(Lazy::Made(value)) => debug.field(value),
            _ => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
