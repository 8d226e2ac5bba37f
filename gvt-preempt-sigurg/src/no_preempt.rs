//! No preemption at all.

use gvt_traits::{Factory, InterruptHook, OsThreadId, Plan, Preemptor, SchedError, Strength, WorkerError};

/// Threads run until they block or yield by themselves; nobody watches their slices.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NoPreempt;

impl Factory for NoPreempt {
    type Output = NoPreempt;

    fn build(&self, _plan: &Plan) -> Result<NoPreempt, SchedError> {
        Ok(NoPreempt)
    }
}

// SAFETY: P1: it does nothing and says so. P2–P8: it never interrupts, and never calls the hook.
unsafe impl Preemptor for NoPreempt {
    fn strength(&self) -> Strength {
        Strength::Never
    }

    unsafe fn attach(&self, _hook: InterruptHook) -> Result<(), WorkerError> {
        Ok(())
    }

    fn enter_thread(&self) {}

    fn detach(&self) {}

    fn interrupt(&self, _thread: OsThreadId) -> bool {
        false
    }
}
