//! A thread's thread-local values; `thread::local_key` has the protocol.

use std::cell::UnsafeCell;
use std::ptr;

use crate::protocol::user;

#[derive(Clone, Copy)]
pub(crate) enum State {
    Initialising,
    Alive(*mut ()),
    Gone,
}

pub(crate) struct Entry {
    /// The address of the key.
    pub(crate) key: *const (),
    pub(crate) state: State,
    pub(crate) drop: unsafe fn(*mut ()),
}

/// The values of one thread.
#[derive(Default)]
pub(crate) struct Locals {
    entries: UnsafeCell<Vec<Entry>>,
}

// SAFETY: L1: only its thread uses it, on whichever OS thread that runs.
unsafe impl Sync for Locals {}
// SAFETY: as above.
unsafe impl Send for Locals {}

impl Locals {
    /// Calls `f` with the list. `f` runs no code of users'.
    ///
    /// # Safety
    ///
    /// **C1**: L1; and `f` does not call back into this type.
    pub(crate) unsafe fn with<R>(&self, f: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
        // SAFETY: C1.
        f(unsafe { &mut *self.entries.get() })
    }

    /// # Safety
    ///
    /// **C1**: L1.
    pub(crate) unsafe fn state(&self, key: *const ()) -> Option<State> {
        // SAFETY: C1.
        unsafe {
            self.with(|entries| entries.iter().find(|entry| ptr::eq(entry.key, key)).map(|entry| entry.state))
        }
    }

    /// # Safety
    ///
    /// **C1**: L1.
    pub(crate) unsafe fn set_state(&self, key: *const (), state: State) {
        // SAFETY: C1.
        unsafe {
            self.with(|entries| {
                if let Some(entry) = entries.iter_mut().find(|entry| ptr::eq(entry.key, key)) {
                    entry.state = state;
                }
            });
        }
    }

    /// Drops all values.
    ///
    /// # Safety
    ///
    /// **C1**: L1, at the thread's end.
    pub(crate) unsafe fn end(&self) {
        // L2.
        let take_youngest = |entries: &mut Vec<Entry>| {
            entries.iter_mut().rev().find_map(|entry| match entry.state {
                State::Alive(value) => {
                    entry.state = State::Gone;
                    Some((value, entry.drop))
                }
                _ => None,
            })
        };
        // SAFETY: C1.
        while let Some((value, drop)) = unsafe { self.with(take_youngest) } {
            // SAFETY: `drop` belongs to the value's type; `Box::into_raw` made the pointer.
            user::call(|| unsafe { drop(value) });
        }
        // SAFETY: C1.
        drop(unsafe { self.with(std::mem::take) });
    }
}
