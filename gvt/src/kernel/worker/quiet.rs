//! Looks whether all threads of a runtime are parked, for threads that settle: Z2 to Z4 of `settlers`.

use crate::kernel::worker::core::CoreBase;
use crate::protocol::wait;

/// Z2 and Z3, by a worker that has announced itself idle and found no work; whether it has woken a thread.
///
/// Context: worker's stack, inside the runtime.
pub(crate) fn settle_if_quiet(core: &CoreBase) -> bool {
    let are_all_parked =
        || core.table.used().all(|record| !record.is_alive() || wait::is_parked(&record.meta.wait));
    core.upper.serve_settlers(&core.idle, core.worker_count, &are_all_parked)
}

/// Z4, by a thread that has committed its wait without a worker.
pub(crate) fn parked_without_worker(core: &CoreBase) {
    if let Some(index) = core.upper.parked_without_worker(&core.idle) {
        core.unpark(index);
    }
}
