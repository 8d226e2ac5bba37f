//! Whether an OS thread is inside the runtime, and retaking its worker while it is not.
//!
//! **Hazard.** The monitor wants the worker of an OS thread that sleeps in the kernel. That OS thread may
//! wake at any moment and enter the runtime, where it uses the worker's plain cells.
//!
//! **Protocol.** The OS thread's entry: **E1** `depth` + 1, **E2** look at `retaking`; if it is set, wait
//! until it is clear; then read `worker`. The monitor: **E3** sets `retaking`, **E4** a barrier on all
//! running OS threads of the process (`membarrier`), **E5** reads `depth`. Zero: the OS thread is outside and
//! will wait at E2, so the monitor may take the worker. Not zero: it is inside, or has just entered; the
//! monitor touches nothing. **E6** clears `retaking`. The barrier stands in for a full fence between E1 and
//! E2, which every entry into the runtime would pay.
//!
//! **Rejected.** Taking the worker first and putting it back if the OS thread proves to be inside: it may
//! have passed the worker on meanwhile, and then two OS threads would carry it.
//!
//! **Evidence.** loom `detach_or_enter`, with both halves of the barrier as full fences, which is what it
//! amounts to; mutants `EnterBlind` (no E2), `NoBarrier` (no E4), `DepthFirst` (E5 before E3),
//! `RelaxedDecision` (E2 and E6 without Acquire and Release) fail it.

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicBool, AtomicPtr, AtomicU32, Mutant, light_fence, mutant};

#[repr(C)]
pub(crate) struct Carried<W> {
    /// The worker that the OS thread carries. Written by the OS thread, and by the monitor between E5 and E6.
    worker: AtomicPtr<W>,
    /// Depth in the runtime; above zero preemption is disabled.
    depth: AtomicU32,
    /// The monitor may be taking the worker.
    retaking: AtomicBool,
}

/// The ordering of E2's load.
#[inline(always)]
fn decided() -> crate::protocol::atomics::Ordering {
    if mutant(Mutant::RelaxedDecision) { Relaxed } else { Acquire }
}

impl<W> Carried<W> {
    /// The state of an OS thread that is inside the runtime without a worker.
    pub(crate) fn new() -> Self {
        Carried {
            worker: AtomicPtr::new(std::ptr::null_mut()),
            depth: AtomicU32::new(1),
            retaking: AtomicBool::new(false),
        }
    }

    /// Resets to the state of [`new`](Self::new). The OS thread is not running.
    pub(crate) fn reset(&self) {
        self.depth.store(1, Relaxed);
    }

    /// E1, and E2's fast path: the worker, or null if there is none or the monitor may be taking it.
    #[inline(always)]
    pub(crate) fn enter(&self) -> *const W {
        self.preempt_disable();
        // ORDERING O2: Acquire pairs with the Release of E6: an OS thread that finds `retaking` clear sees
        // the decision.
        if self.retaking.load(decided()) && !mutant(Mutant::EnterBlind) {
            std::ptr::null()
        } else {
            self.worker()
        }
    }

    /// E1. Relaxed, here and in `preempt_enable`: only this OS thread writes it; the signal handler runs on
    /// this OS thread too, and the monitor reads it after its barrier.
    #[inline(always)]
    pub(crate) fn preempt_disable(&self) {
        self.depth.store(self.depth.load(Relaxed) + 1, Relaxed);
        // ORDERING: orders the compiler only; E4 stands in for the CPU's fence.
        light_fence();
    }

    /// The way out. A monitor that reads 0 afterwards sees what was done inside: this is a Release, which on
    /// x86 costs nothing.
    #[inline(always)]
    pub(crate) fn preempt_enable(&self) {
        // ORDERING O1: Release pairs with the Acquire of E5.
        self.depth.store(self.depth.load(Relaxed) - 1, Release);
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    /// The worker. Relaxed: written by this OS thread, or by the monitor before the Release of E6.
    #[inline(always)]
    pub(crate) fn worker(&self) -> *const W {
        self.worker.load(Relaxed)
    }

    pub(crate) fn set_worker(&self, worker: *const W) {
        self.worker.store(worker.cast_mut(), Relaxed);
    }

    /// E2: waits while the monitor decides.
    pub(crate) fn wait_for_decision(&self) {
        // ORDERING O2: Acquire pairs with the Release of E6: what the monitor did is seen.
        while self.retaking.load(decided()) {
            crate::protocol::atomics::yield_os_thread();
        }
    }

    /// E3 to E6: takes `expected` away if the OS thread is outside the runtime with it. `note` is called
    /// before the OS thread can go on in the runtime. `barrier` is E4, `false` if it is unavailable.
    ///
    /// Context: the monitor only.
    pub(crate) fn detach(
        &self,
        expected: *const W,
        barrier: impl FnOnce() -> bool,
        note: impl FnOnce(),
    ) -> bool {
        let early = mutant(Mutant::DepthFirst).then(|| self.depth.load(Acquire));
        self.retaking.store(true, SeqCst);
        let barrier = mutant(Mutant::NoBarrier) || barrier();
        // ORDERING O1: Acquire: what the OS thread did before it left the runtime is seen.
        let outside = barrier && early.unwrap_or_else(|| self.depth.load(Acquire)) == 0;
        let taken = outside && std::ptr::eq(self.worker(), expected);
        if taken {
            note();
            self.set_worker(std::ptr::null());
        }
        // E6. ORDERING O2: Release pairs with the Acquire in `wait_for_decision`.
        self.retaking.store(false, if mutant(Mutant::RelaxedDecision) { Relaxed } else { Release });
        taken
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    use super::*;
    use crate::protocol::atomics::{check, check_mutant, heavy_fence};

    /// A worker with a plain cell, like the real one's.
    struct Worker {
        cell: UnsafeCell<u32>,
    }

    struct World {
        carried: Carried<Worker>,
        worker: Worker,
        /// Plain too: what `note` tells the OS thread.
        kept: UnsafeCell<bool>,
    }

    // SAFETY: loom checks every access.
    unsafe impl Sync for World {}
    // SAFETY: as above.
    unsafe impl Send for World {}

    impl World {
        fn use_worker(&self) {
            // SAFETY: loom checks that the access is exclusive.
            self.worker.cell.with_mut(|cell| unsafe { *cell += 1 });
        }

        /// One operation of the OS thread; whether it still has the worker.
        fn operate(&self) -> bool {
            let quick = self.carried.enter();
            let mut has = !quick.is_null();
            if !has {
                self.carried.wait_for_decision();
                has = !self.carried.worker().is_null();
            }
            if has {
                self.use_worker();
            } else {
                // SAFETY: as above.
                self.kept.with(|kept| assert!(unsafe { *kept }, "taken, and not told"));
            }
            self.carried.preempt_enable();
            has
        }
    }

    /// An OS thread outside the runtime enters it, twice, while the monitor takes its worker and uses it.
    fn detach_or_enter() {
        loom::model(|| {
            let world = Arc::new(World {
                carried: Carried::new(),
                worker: Worker { cell: UnsafeCell::new(0) },
                kept: UnsafeCell::new(false),
            });
            world.carried.set_worker(&world.worker);
            world.carried.preempt_enable();
            let os_thread = {
                let world = world.clone();
                loom::thread::spawn(move || u32::from(world.operate()) + u32::from(world.operate()))
            };
            let note = || {
                // SAFETY: as above.
                world.kept.with_mut(|kept| unsafe { *kept = true });
            };
            let barrier = || {
                heavy_fence();
                true
            };
            let taken = world.carried.detach(&world.worker, barrier, note);
            if taken {
                world.use_worker();
            }
            let operations = os_thread.join().unwrap();
            assert!(taken || operations == 2, "nobody has the worker");
        });
    }

    #[test]
    fn retake_detach_or_enter() {
        check(detach_or_enter);
    }

    #[test]
    fn mutant_enter_blind() {
        check_mutant(Mutant::EnterBlind, detach_or_enter);
    }

    #[test]
    fn mutant_no_barrier() {
        check_mutant(Mutant::NoBarrier, detach_or_enter);
    }

    #[test]
    fn mutant_depth_first() {
        check_mutant(Mutant::DepthFirst, detach_or_enter);
    }

    #[test]
    fn mutant_relaxed_decision() {
        check_mutant(Mutant::RelaxedDecision, detach_or_enter);
    }
}
