//! What waiting needs from its host: the caller's identity, how it sleeps, how it is woken.
//!
//! The protocol of `list` uses only these few types, so that its models can run it on loom's OS threads
//! (`models::host`).

use std::ptr;
use std::sync::atomic::Ordering::*;

use gvt_traits::WaitReason;

use crate::kernel::thread::record::SCOPED;
use crate::kernel::worker::core::WorkerBase;
use crate::kernel::worker::{section, tls};
use crate::wait::cancelled;
use crate::wait::park::{Wait, WaitWaker};

/// A section of the runtime, left on drop; knows the worker there.
pub(crate) struct Inside {
    worker: *const WorkerBase,
}

impl Inside {
    #[inline]
    pub(crate) fn enter() -> Self {
        Inside { worker: section::enter_from_outside() }
    }

    /// A section within a section.
    pub(crate) fn deeper() -> Self {
        Inside { worker: section::enter() }
    }

    /// The caller's worker. Valid only inside this section.
    #[inline]
    pub(crate) fn here(&self) -> Here {
        Here { worker: self.worker }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        tls::leave();
    }
}

/// The worker that the caller is on, or none.
#[derive(Clone, Copy)]
pub(crate) struct Here {
    worker: *const WorkerBase,
}

impl Here {
    #[inline]
    fn worker<'a>(self) -> Option<&'a WorkerBase> {
        // SAFETY: a carried worker is alive, and the caller keeps it inside its section.
        unsafe { self.worker.as_ref() }
    }

    /// The next thread that the caller wakes stays on this worker until its running thread waits or yields:
    /// no other worker is told.
    #[inline]
    pub(crate) fn keep_next(self) {
        if let Some(worker) = self.worker() {
            worker.wakes.set(0);
        }
    }

    /// The running green thread, prepared to wait; `None` on an OS thread.
    #[inline]
    pub(crate) fn green<'a>(self, reason: WaitReason) -> Option<Green<'a>> {
        // SAFETY: the running thread's record stays mapped, and the caller, being that thread, keeps it.
        let record = unsafe { self.worker()?.current.get().as_ref() }?;
        Some(Green { wait: Wait::new(record, reason) })
    }
}

/// A green thread that is about to wait.
pub(crate) struct Green<'a> {
    wait: Wait<'a>,
}

impl<'a> Green<'a> {
    #[inline]
    pub(crate) fn waker(&self) -> GreenWaker {
        GreenWaker(self.wait.waker())
    }

    /// Leaves the section and the stack until woken, or until the deadline. Unwinds at shutdown.
    #[inline]
    pub(crate) fn park(self, inside: Inside, deadline_ns: Option<u64>) -> Parked {
        let surely = match deadline_ns {
            None => {
                let worker = inside.here().worker().expect("a green thread runs on a worker");
                std::mem::forget(inside);
                self.wait.park_from(worker)
            }
            Some(deadline) => {
                drop(inside);
                self.wait.park_until(deadline, gvt_traits::TimerType::Deadline);
                false
            }
        };
        Parked { surely }
    }
}

/// How a green thread's park ended.
pub(crate) struct Parked {
    /// Only a waker can have woken it.
    pub(crate) surely: bool,
}

impl Parked {
    /// Unwinds, after dropping the guard, if a token's cancellation must end the thread's waits
    /// (`token::run`).
    pub(crate) fn unless_cancelled<G>(&self, guard: G) -> G {
        // SAFETY: the running thread's record stays mapped.
        let thread = unsafe { section::current().as_ref() };
        if thread.is_some_and(|thread| thread.has_flag(SCOPED) && cancelled::is_pending(thread)) {
            drop(guard);
            cancelled::unwind_cancelled();
        }
        guard
    }
}

/// Wakes a green thread from one wait.
#[derive(Clone, Copy)]
pub(crate) struct GreenWaker(WaitWaker);

impl GreenWaker {
    /// Whether it belongs to another runtime than the caller.
    #[inline]
    pub(crate) fn is_foreign(self, here: Here) -> bool {
        !here.worker().is_some_and(|worker| ptr::eq(worker.core, self.0.core()))
    }

    /// From a worker of its own runtime.
    #[inline]
    pub(crate) fn wake_own(self, inside: &Inside) {
        match inside.here().worker() {
            Some(worker) => self.0.wake_from(worker),
            None => self.wake(),
        }
    }

    /// From anywhere.
    pub(crate) fn wake(self) {
        self.0.wake();
    }
}

/// A unique number if the caller is in virtual time, where every run must be alike.
pub(crate) fn draw() -> Option<u64> {
    let core = crate::wait::park::current()?.core();
    core.is_virtual.then(|| core.draws.fetch_add(1, Relaxed))
}

pub(crate) use crate::kernel::worker::section::give_way;
pub(crate) use crate::os::flag::{OsFlag, OsWaker};
pub(crate) use std::hint::spin_loop as spin;

/// A number that no other live thread has, and never 0.
#[cfg(debug_assertions)]
pub(crate) fn me() -> u64 {
    match crate::wait::park::current() {
        Some(record) => record.meta.unique_id.load(Relaxed) << 1 | 1,
        None => os_me(),
    }
}

#[cfg(debug_assertions)]
#[inline(never)]
fn os_me() -> u64 {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| (&raw const *place as u64) << 1)
}
