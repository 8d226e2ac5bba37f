//! Checks that a `Runnable` that a worker popped is of its own runtime (Q9).

use std::sync::atomic::Ordering::*;

use gvt_traits::Runnable;

use crate::kernel::thread::record::Record;
use crate::kernel::worker::contract;
use crate::kernel::worker::core::WorkerBase;

/// The record of a thread that a queue handed out, which must be of the worker's runtime (Q9).
#[inline(always)]
pub(crate) fn own(base: &WorkerBase, task: Runnable) -> *const Record {
    let record: *const Record = task.into_raw().cast().as_ptr();
    // SAFETY: records outlive their tokens, those of other runtimes too.
    // Relaxed: written once, before the record was first handed out.
    if unsafe { (*record).meta.runtime.load(Relaxed) } != base.core.cast_mut().cast() {
        contract::foreign_token();
    }
    record
}
