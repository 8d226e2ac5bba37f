//! Waiting until nothing moves any more.
//!
//! **Hazard.** A thread that waits for all others to have parked cannot look at them one by one: one that was seen parked may
//! have been woken by one that is seen parked next.
//!
//! **Protocol.** **Z1** A settler counts itself, enters the list and parks. **Z2** A worker with nothing to do that has announced
//! itself idle (I5 of `idle`) and found no work (I7) looks whether all workers are idle; the announcements are in one
//! total order, so the last of them sees that. **Z3** It then looks at all records: is every thread parked, those without a
//! worker included (`detach`)? Nobody runs who could wake one behind its back, but OS threads outside. If so, it wakes all settlers.
//! A thread that is away from all workers, in the kernel or in [`blocking`](crate::blocking()), comes back through a worker,
//! which then goes idle: Z2 again.
//!
//! While somebody settles, virtual time stands still (`sleep`).

use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt_traits::{SchedError, WaitReason};

use crate::kernel::monitor::report::is_alive;
use crate::kernel::worker::core::CoreBase;
use crate::protocol::wait;
use crate::thread;
use crate::wait::host::Here;
use crate::wait::list::Verdict;
use crate::wait::list::{List, Manner, Wakes};
use crate::wait::lock::Lock;
use crate::wait::park;

/// Threads that settle.
pub(crate) struct Settlers {
    waiting: AtomicUsize,
    list: Lock<List<()>>,
}

const MANNER: Manner<Settlers, List<()>, ()> = Manner {
    list: |list, _| list,
    reason: WaitReason::Park,
    abandon: |settlers, _, _, verdict, _: &mut Wakes, _: Here| {
        if verdict != Verdict::Served {
            // ORDERING O1: as in `has_any`.
            settlers.waiting.fetch_sub(1, SeqCst);
        }
    },
};

impl Settlers {
    pub(crate) const fn new() -> Self {
        Settlers { waiting: AtomicUsize::new(0), list: Lock::new(List::new()) }
    }

    /// Whether somebody waits.
    pub(crate) fn has_any(&self) -> bool {
        // ORDERING O1: SeqCst: the settler counts itself before its worker announces itself idle.
        self.waiting.load(SeqCst) != 0
    }

    /// Z1.
    fn wait(&self) {
        let list = self.list.lock();
        // ORDERING O1: as in `has_any`.
        self.waiting.fetch_add(1, SeqCst);
        crate::wait::list::wait(self, list, &MANNER, 0, &mut None, None);
    }

    /// Z3's end.
    fn wake_all(&self) {
        let mut wakes = Wakes::new();
        let mut list = self.list.lock_within();
        let here = list.here();
        while let Some(waiter) = list.take() {
            self.waiting.fetch_sub(1, SeqCst);
            wakes.push(waiter.end(Verdict::Served, here));
        }
        drop(list);
        wakes.fire();
    }
}

/// Z2 and Z3, by a worker that has announced itself idle and found no work; whether it has woken somebody.
///
/// Context: worker's stack, inside the runtime.
pub(crate) fn settle_if_quiet(core: &CoreBase) -> bool {
    let is_quiet = core.settlers.has_any() && core.are_all_idle() && are_all_parked(core);
    if is_quiet {
        core.settlers.wake_all();
    }
    is_quiet
}

fn are_all_parked(core: &CoreBase) -> bool {
    core.table.used().all(|record| !is_alive(record) || wait::is_parked(&record.meta.wait))
}

/// Waits until all other threads of the runtime are parked: in a channel, at a lock, in a join, in a sleep, wherever this
/// crate waits. What a test has set going has then come as far as it comes by itself.
///
/// Under virtual time (`gvt_decorators::VirtualTime`) time stands still meanwhile: threads that sleep stay asleep, however many
/// settle. Under real time a sleeper is parked until it is due.
///
/// Threads in the kernel, or in [`blocking`](crate::blocking()), run: this waits for them. OS threads outside the runtime, and
/// other runtimes, are not waited for. Several threads may settle at once; each counts as parked for the others.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, Mutex};
/// let steps = Arc::new(Mutex::new(0));
/// let (go, wait) = gvt::channel::<()>(0);
/// let theirs = steps.clone();
/// gvt::spawn(move |_| {
///     *theirs.lock().unwrap() += 1;
///     wait.recv().unwrap();
///     *theirs.lock().unwrap() += 1;
/// });
/// gvt::settle();
/// assert_eq!(*steps.lock().unwrap(), 1);
/// go.send(()).unwrap();
/// gvt::settle();
/// assert_eq!(*steps.lock().unwrap(), 2);
/// # });
/// ```
///
/// Each time that all workers are idle while somebody settles, one of them looks at every place for a thread that was ever used.
///
/// Context: a green thread, which parks. At shutdown it is unwound.
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub fn settle() {
    match park::current() {
        Some(record) => record.core().settlers.wait(),
        None => thread::refused(SchedError::NoRuntime { call: "settle" }),
    }
}
