//! Handles of a scope's threads that are not joined; `protocol::unjoined` has the protocol.

use std::ptr::{self, NonNull};

use crate::kernel::thread::record::Record;
use crate::protocol::unjoined::Slots;
use crate::thread::join_handle::JoinHandle;

/// Handles of threads that are not joined.
#[derive(Debug, Default)]
pub(crate) struct Unjoined(Slots);

impl Unjoined {
    /// Keeps the handle of a thread that has no result yet (N2). Returns a handle that it does not keep, for
    /// the caller to drop.
    ///
    /// Context: the scope's owner.
    pub(crate) fn put(&self, handle: JoinHandle<()>) -> Option<JoinHandle<()>> {
        handle_of(self.0.put(handle.into_record().as_ptr().cast()))
    }

    /// Takes the newest handle that is kept.
    ///
    /// Context: the scope's owner.
    pub(crate) fn take_newest(&self) -> Option<JoinHandle<()>> {
        handle_of(self.0.take_newest())
    }

    /// N2: the running thread `me` publishes its result by `publish`. Returns its handle, if it is kept.
    pub(crate) fn leave(&self, me: &Record, publish: impl FnOnce()) -> Option<JoinHandle<()>> {
        handle_of(self.0.leave(ptr::from_ref(me).cast_mut().cast(), publish))
    }
}

/// The handle that a slot held.
fn handle_of(record: *mut ()) -> Option<JoinHandle<()>> {
    // SAFETY: `put` made it from a `JoinHandle<()>`, which is the caller's since the exchange (N1): C1 of
    // `from_record`.
    NonNull::new(record.cast::<Record>()).map(|record| unsafe { JoinHandle::from_record(record.as_ref()) })
}
