//! Green-thread locals: one value for each thread, made at its first access and dropped at its end.
//!
//! **Hazard.** A green thread may resume on another OS thread after any wait. std's `thread_local!` then has
//! another value there, or the compiler still uses the first address. And a destructor is user code: it may
//! wait, panic, or use other locals.
//!
//! **Protocol.** Values are boxed and listed in the cold part of the thread's record (**L1**: only the
//! running thread itself uses its list), so neither a switch nor a growing list moves them. No list is
//! borrowed while user code runs. At its end, on its own stack and before its result is published, a thread
//! drops its values, the newest first, until none is left: destructors may make new ones. **L2** A value is
//! marked as gone before it is dropped; an access then returns [`AccessError`].
//!
//! On an OS thread the list is in a `thread_local!` of std's, which green threads never use
//! (`park::current`), not even while they have no worker.
//!
//! **Cost.** One load at the end of a thread that uses none. An access searches the list of the locals that
//! the thread has used.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::ptr;

use crate::wait::locals::{Entry, Locals, State};
use crate::wait::park;

/// A green-thread local; made by [`gvt_local!`](crate::gvt_local). Its interface is that of
/// [`std::thread::LocalKey`].
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

/// The local is dropped: its thread is ending.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

/// Drops the running thread's locals, at its end.
pub(crate) fn end_of_running() {
    if let Some(record) = park::current() {
        record.end_locals();
    }
}

/// An OS thread's values.
#[derive(Default)]
struct OsLocals(Locals);

impl Drop for OsLocals {
    fn drop(&mut self) {
        let locals = &raw const self.0;
        ENDING.set(locals);
        // SAFETY: C1: the thread ends.
        unsafe { (*locals).end() };
        ENDING.set(ptr::null());
    }
}

thread_local! {
    static OS_LOCALS: OsLocals = OsLocals::default();
    /// While the values are dropped, when std refuses access to `OS_LOCALS`: their address, for destructors
    /// that use others.
    static ENDING: Cell<*const Locals> = const { Cell::new(ptr::null()) };
}

/// The calling OS thread's values; null once they are dropped. Not for green threads.
#[inline(never)]
fn of_os_thread() -> *const Locals {
    OS_LOCALS.try_with(|locals| &raw const locals.0).unwrap_or_else(|_| ENDING.get())
}

/// The calling thread's values.
fn here<'a>() -> Result<&'a Locals, AccessError> {
    match park::current() {
        // The record outlives its thread, and keeps its cold part.
        Some(record) => Ok(&record.extras().locals),
        // SAFETY: null, or the calling thread's own.
        None => unsafe { of_os_thread().as_ref() }.ok_or(AccessError),
    }
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(init: fn() -> T) -> Self {
        LocalKey { init }
    }

    fn value(&'static self) -> Result<*const T, AccessError> {
        let locals = here()?;
        let key: *const () = ptr::from_ref(self).cast();
        // SAFETY: C1: `here` returned the calling thread's; so for all calls below.
        match unsafe { locals.state(key) } {
            Some(State::Alive(value)) => return Ok(value.cast_const().cast()),
            Some(State::Gone) => return Err(AccessError),
            Some(State::Initialising) => panic!("a green-thread local asks for itself while it is made"),
            None => {}
        }
        let entry = Entry { key, state: State::Initialising, drop: drop_box::<T> };
        // SAFETY: C1.
        unsafe { locals.with(|entries| entries.push(entry)) };
        /// Removes the entry of a value that was not made.
        struct Undo<'a>(&'a Locals, *const ());
        impl Drop for Undo<'_> {
            fn drop(&mut self) {
                // SAFETY: C1.
                unsafe { self.0.with(|entries| entries.retain(|entry| !ptr::eq(entry.key, self.1))) };
            }
        }
        let undo = Undo(locals, key);
        // User code: may wait, and resume on another OS thread. The list stays where it is.
        let value = Box::into_raw(Box::new((self.init)()));
        std::mem::forget(undo);
        // SAFETY: C1.
        unsafe { locals.set_state(key, State::Alive(value.cast())) };
        Ok(value)
    }

    /// Calls `f` with this thread's value, which the first access makes.
    ///
    /// `f` may wait: the value belongs to the green thread.
    ///
    /// Context: a green thread or an OS thread. Allocates at a thread's first access.
    ///
    /// # Panics
    ///
    /// If the thread is ending and its value is dropped; if the value accesses itself while it is made.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`with`](Self::with) that returns the error.
    ///
    /// # Errors
    ///
    /// If the thread is ending and its value is dropped.
    ///
    /// # Panics
    ///
    /// If the value accesses itself while it is made.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = self.value()?;
        // SAFETY: it lives until its thread, the caller, ends.
        Ok(f(unsafe { &*value }))
    }
}

/// # Safety
///
/// **C1**: `value` came from `Box::<T>::into_raw`, and is dropped once.
unsafe fn drop_box<T>(value: *mut ()) {
    // SAFETY: C1.
    drop(unsafe { Box::from_raw(value.cast::<T>()) });
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Returns a copy of the value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Sets the value.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// Takes the value and leaves the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value and returns the old one.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value borrowed.
    ///
    /// # Panics
    ///
    /// If it is borrowed mutably.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value borrowed mutably.
    ///
    /// # Panics
    ///
    /// If it is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value.
    ///
    /// # Panics
    ///
    /// If it is borrowed.
    pub fn set(&'static self, value: T) {
        self.replace(value);
    }

    /// Takes the value and leaves the default.
    ///
    /// # Panics
    ///
    /// If it is borrowed.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value and returns the old one.
    ///
    /// # Panics
    ///
    /// If it is borrowed.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("AccessError")
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("the thread is ending and this local of its is dropped already")
    }
}

impl Error for AccessError {}

/// Declares locals of green threads, as `thread_local!` does for OS threads.
///
/// Each green thread has a value of its own, wherever it runs, which is dropped when it ends. So has each OS
/// thread outside a runtime.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use std::cell::Cell;
/// gvt::gvt_local! {
///     /// How often this thread has asked.
///     static ASKED: Cell<u32> = Cell::new(0);
///     pub static NAME: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
/// }
/// ASKED.set(ASKED.get() + 1);
/// gvt::sleep_ms(1);
/// assert_eq!(ASKED.get(), 1);
/// let other = gvt::spawn(|_| ASKED.with(|asked| asked.get()));
/// assert_eq!(other.join().unwrap(), 0);
/// NAME.with_borrow_mut(|name| name.push('x'));
/// # });
/// ```
///
/// Values are dropped on their thread, before its `join` returns, the newest first. Their destructors may
/// wait; a panic in one is reported by the panic hook and has no other effect.
#[macro_export]
macro_rules! gvt_local {
    () => {};
    ($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visible static $name: $crate::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::LocalKey::__new(init)
        };
        $($crate::gvt_local!($($rest)*);)?
    };
}
