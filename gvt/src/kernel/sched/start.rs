//! How an OS thread of the runtime starts.

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::{Preemptor, WorkerError};

use crate::kernel::sched::worker_loop;
use crate::kernel::worker::core::{Core, CoreBase, OsThread, Parts};
use crate::kernel::worker::os_thread::Received;
use crate::kernel::worker::{tls, wake_affine};
use crate::os::altstack::AlternateStack;

/// Starts one more OS thread for a runtime; it calls `ready` and waits for a worker.
pub(crate) fn start_os_thread<P: Parts>(
    core: &Core<P>,
    ready: impl FnOnce(&'static OsThread) + Send + 'static,
) -> Result<&'static OsThread, WorkerError> {
    // SAFETY: the core is freed only after its OS threads have been joined.
    let core: &'static Core<P> = unsafe { &*ptr::from_ref(core) };
    core.base.pool.start(move |os_thread| {
        crate::os::set_timer_slack();
        let _alternate = AlternateStack::install();
        // The new OS thread inherits both from its creator, where a pinned thread may have changed them.
        crate::os::set_signal_mask(core.base.signal_mask);
        wake_affine::begin(core.base.monitor.thread_id());
        // From here on a giver may confine it, having noted its affinity: not before what was inherited is
        // undone.
        os_thread.thread_id.store(crate::os::thread_id(), Relaxed);
        core.preempt.enter_thread();
        os_thread.signal_mask.store(crate::os::signal_mask(), Relaxed);
        tls::adopt(os_thread);
        core.base.pool.has_come();
        ready(os_thread);
        while let Received::Worker(worker) = core.base.pool.wait_as_spare(os_thread) {
            // SAFETY: received by this OS thread.
            if !unsafe { worker_loop::run::<P>(os_thread, worker) } {
                break;
            }
        }
    })
}

/// [`start_os_thread`] for callers that do not know the runtime's types.
///
/// # Safety
///
/// C1 of `Core::of`.
pub(crate) unsafe fn start_spare<P: Parts>(base: &CoreBase) -> Option<&'static OsThread> {
    // SAFETY: C1: `base` begins a `Core<P>`.
    start_os_thread(unsafe { Core::<P>::of(base) }, |_| ()).ok()
}
