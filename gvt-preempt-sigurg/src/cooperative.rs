//! Preemption by flag alone.
//!
//! The flag is the runtime's, in the thread's record, and so is looking at it; what this backend
//! adds is the permission to use it: the monitor watches slices, and sends no signal.

use gvt_traits::{Factory, InterruptHook, OsThreadId, Plan, Preemptor, SchedError, Strength, WorkerError};

/// A thread that has used up its slice yields at its next safepoint or runtime call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Cooperative;

impl Factory for Cooperative {
    type Output = Cooperative;

    fn build(&self, _plan: &Plan) -> Result<Cooperative, SchedError> {
        Ok(Cooperative)
    }
}

// SAFETY: P1: safepoints are the runtime's, so the strength is true of any backend that sends no
// signals. P2–P8: it never interrupts, and never calls the hook.
unsafe impl Preemptor for Cooperative {
    fn strength(&self) -> Strength {
        Strength::AtSafepoints
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
