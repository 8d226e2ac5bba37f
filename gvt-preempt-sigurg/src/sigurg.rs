//! Preemption at an arbitrary instruction.

use std::ptr;
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

use gvt_traits::{Factory, InterruptHook, OsThreadId, Plan, Preemptor, SchedError, Strength, WorkerError};

use crate::handler;
use crate::registry::Node;

/// A thread that has used up its slice and does not yield by itself is interrupted by SIGURG.
///
/// What the interrupt leads to is the runtime's decision, in its hook.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sigurg;

impl Factory for Sigurg {
    type Output = SigurgPreemptor;

    fn build(&self, _plan: &Plan) -> Result<SigurgPreemptor, SchedError> {
        Ok(SigurgPreemptor { node: AtomicPtr::new(ptr::null_mut()) })
    }
}

/// One runtime's part of the process's SIGURG handler; made by [`Sigurg`].
///
/// `detach`, or dropping it without `detach`, waits until no OS thread is inside the hook. The caller first
/// lets the threads that the hook holds go on.
#[derive(Debug)]
pub struct SigurgPreemptor {
    /// Null while not attached.
    node: AtomicPtr<Node>,
}

// SAFETY: P1: constant; SIGURG comes at any instruction. P2: marks, see `registry`. P3: the kernel keeps all
// registers and the red zone in the signal's frame, the handler keeps `errno`, SA_RESTART. P4: see
// `handler`. P5, P6: `handler` and `registry`. P7: the hook gets the kernel's own pointer. P8: `unblock`.
unsafe impl Preemptor for SigurgPreemptor {
    fn strength(&self) -> Strength {
        Strength::Anywhere
    }

    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError> {
        let node = handler::attach(hook)?;
        // ORDERING O1: Release pairs with `node`'s and `detach`'s Acquire.
        let before = self.node.swap(ptr::from_ref(node).cast_mut(), AcqRel);
        assert!(before.is_null(), "a preemptor is attached once");
        Ok(())
    }

    fn enter_thread(&self) {
        handler::unblock();
    }

    fn detach(&self) {
        // ORDERING O1: Acquire pairs with `attach`. A second `detach` finds null.
        let node = self.node.swap(ptr::null_mut(), AcqRel);
        // SAFETY: null, or a node, which lives for ever.
        if let Some(node) = unsafe { node.as_ref() } {
            handler::detach(node);
        }
    }

    fn interrupt(&self, thread: OsThreadId) -> bool {
        // ORDERING O1: Acquire pairs with `attach`.
        // SAFETY: null, or a node, which lives for ever.
        let Some(node) = (unsafe { self.node.load(Acquire).as_ref() }) else { return false };
        thread.0 > 0 && node.interrupt(thread.0, handler::exists, || handler::send(thread.0))
    }
}

impl Drop for SigurgPreemptor {
    fn drop(&mut self) {
        self.detach();
    }
}
