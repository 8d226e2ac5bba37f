//! Which ready thread runs next.

use core::ptr::NonNull;

use crate::{Metadata, Runnable, WorkerId};

/// Why a thread became ready on this worker. A queue may use it to choose the thread's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PushKind {
    /// New, spawned by the thread that runs on this worker.
    Spawn,
    /// Woken by the thread that runs on this worker; its data is likely in this worker's caches.
    Wake,
    /// The thread that it waited for has ended, on this worker.
    Joined,
    /// It ran here and yielded: it goes behind what is queued already.
    Yield,
    /// Its timer expired, and it had computed little since its last timed wait. A fair queue may let it go
    /// ahead of threads that compute, within Q4: otherwise a thread that needs microseconds waits for a slice
    /// of each of them.
    Timer,
    /// Its timer expired, and it had computed for long before that: it goes behind what is queued already.
    TimerBusy,
}

/// The order in which a queue hands out threads: what generic code and the test suites may expect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Order {
    /// Order of arrival, except where locality is worth more; no thread waits for ever.
    Fair,
    /// The most urgent level first; within a level, order of arrival. Lower levels may starve.
    StrictPriority,
    /// The most urgent level first, but a thread that waits ages: the first in line at a level is passed over
    /// by a bounded number of pops of its worker, whatever is pushed at more urgent levels. The queue states
    /// the bound (93 in `gvt-queue-priority`). The test suite allows more than any sensible queue needs:
    /// 20,000 pops for each worker, and 500 for each thread that waits.
    AgeingPriority,
    /// Between levels as [`AgeingPriority`](Self::AgeingPriority), with a bound of the same kind; within a
    /// level as [`Fair`](Self::Fair).
    FairByLevel,
}

/// Which side orders a push before the runtime's look for sleeping workers.
///
/// The hazard is a lost wake-up: the pusher looks for sleepers too early and a worker looks for
/// work too early. Each side must store before it loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushFence {
    /// The runtime, with a fence of its own after each push: always correct.
    ByRuntime,
    /// The queue: each push publishes with a `SeqCst` read-modify-write, and `pop` and `has_work` look with
    /// `SeqCst` loads. A [`PushKind::Yield`] is exempt, since the runtime does not look for sleepers after
    /// it. Saves a fence where a push needs such an operation anyway.
    ByQueue,
}

/// Decides which ready thread a worker runs next.
///
/// One value serves all workers of a runtime. Each worker has a local end, `Local`, that no other worker
/// touches: what lies there needs no synchronisation. What other workers must see lies in `self`.
///
/// # Implementer's contract
///
/// - **Q1 exactly once**: each token that was pushed is popped once; none is dropped or invented.
/// - **Q2 no waiting**: no method waits for another thread to do something; `pop` on an empty
///   queue returns `None` at once.
/// - **Q3 complete**: with no other call in progress, `pop` returns `None` only if nothing is queued
///   that this worker may run, wherever it was pushed; then and only then `has_work` is `false`.
///   A push whose effect happens before a `has_work` or `pop` is seen by it.
/// - **Q4 order**: as [`ORDER`](Self::ORDER) says. Under [`Order::Fair`] and [`Order::FairByLevel`] a queued
///   thread, and under [`Order::AgeingPriority`] the first in line at each level, is passed over by a bounded
///   number of pops, whatever else is pushed, woken threads included. Under each order but `Fair` the level
///   decides first, whatever the [`PushKind`]; of threads that a worker pushed or that came from outside, it
///   pops no more than two in a row before a Critical one.
/// - **Q5 low-priority workers**: a worker that the plan reserves for Low threads never gets
///   another thread, and `has_work` reports Low threads only to it. A queue that cannot do that refuses such
///   a plan in [`Factory::build`](crate::Factory::build).
/// - **Q6 fence**: [`PUSH_FENCE`](Self::PUSH_FENCE) is true.
/// - **Q7 hints are hints**: `upcoming` and `len_hint` have no effect, and `expedite` none but on the order.
///   `upcoming` returns the address of a queued token ([`Runnable::as_ptr`]); any other is ignored.
/// - **Q8 waiting**: with no other call in progress, `len_hint` is 0 if and only if nothing is queued, on any
///   level, for any worker. While calls are in progress it may be off by what they move; it is right again
///   when they have returned.
/// - **Q9 one runtime**: what a runtime's worker pops was pushed by that runtime. Two queues that share a
///   list break this; the process ends before the thread runs.
///
/// Also B1–B6 of the crate. Tested: Q1–Q5, Q7, Q8, B6 (`ready_queue` suite); Q9 end to end. Argued by hand:
/// Q6, and modelled in loom where it is [`PushFence::ByQueue`].
///
/// The trait is safe: breaking a clause can delay or strand a thread, or abort the process with the clause's
/// number. A safe implementation cannot corrupt memory: a [`Runnable`] cannot be forged or copied, and the
/// runtime checks what types do not exclude.
///
/// # The plausible wrong implementation
///
/// A queue that keeps woken threads in a last-in-first-out slot and always serves that slot
/// first passes Q1–Q3 and looks fast. Two threads that wake each other then own the worker, and the
/// rest never run: Q4. Bound the number of times in a row that the slot is served.
///
/// # Example
///
/// A whole queue; `docs/WRITING_A_BACKEND.md` builds it step by step.
///
/// ```
/// use std::{collections::VecDeque, sync::Mutex};
/// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
/// use gvt_traits::*;
///
/// #[derive(Default)]
/// struct Fifo {
///     list: Mutex<VecDeque<Runnable>>,
///     len: AtomicUsize,
/// }
///
/// impl Fifo {
///     fn with<R>(&self, change: impl FnOnce(&mut VecDeque<Runnable>) -> R) -> R {
///         let mut list = self.list.lock().unwrap();
///         let result = change(&mut list);
///         self.len.store(list.len(), Relaxed);
///         result
///     }
/// }
///
/// impl ReadyQueue for Fifo {
///     type Local = ();
///     const ORDER: Order = Order::Fair;
///     fn local(&self, _worker: WorkerId) {}
///     fn inject(&self, task: Runnable) {
///         self.with(|list| list.push_back(task))
///     }
///     fn push(&self, _local: &mut (), task: Runnable, _kind: PushKind) {
///         self.inject(task)
///     }
///     fn pop(&self, _local: &mut ()) -> Option<Runnable> {
///         self.with(VecDeque::pop_front)
///     }
///     fn has_work(&self, _local: &()) -> bool {
///         self.with(|list| !list.is_empty())
///     }
///     fn len_hint(&self) -> usize {
///         // B6: not under the lock.
///         self.len.load(Relaxed)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a ready queue",
    label = "this backend does not implement `ReadyQueue`",
    note = "pass a queue such as `GoQueue` or `PriorityQueue` to `.queue(…)`"
)]
pub trait ReadyQueue: Send + Sync + 'static {
    /// One worker's local end. Only that worker uses it; it may move between OS threads with the
    /// worker (B4).
    type Local: Send + 'static;

    /// What order a user may expect.
    const ORDER: Order;

    /// Which side fences (Q6).
    const PUSH_FENCE: PushFence = PushFence::ByRuntime;

    /// Makes `worker`'s local end; called once for each worker, before its first push or pop.
    ///
    /// Context: the thread that builds the runtime; may allocate.
    fn local(&self, worker: WorkerId) -> Self::Local;

    /// Queues a thread from outside all workers.
    ///
    /// Context: any OS thread, preemption off; not a signal handler. May take a short lock, may
    /// allocate.
    fn inject(&self, task: Runnable);

    /// Queues a thread from the worker that owns `local`.
    ///
    /// Context: worker, preemption off, on a green thread's stack or the worker's. On this path a
    /// good queue neither allocates nor locks.
    fn push(&self, local: &mut Self::Local, task: Runnable, kind: PushKind);

    /// Takes the next thread for the worker that owns `local`: from its local end, from the shared
    /// part, or from another worker (stealing).
    ///
    /// Context: as `push`.
    fn pop(&self, local: &mut Self::Local) -> Option<Runnable>;

    /// Whether `pop` might find something; asked before a worker sleeps, and to decide whether to
    /// wake another. May err towards `true` while other calls are in progress, never towards `false` (Q3).
    ///
    /// Context: as `push`.
    fn has_work(&self, local: &Self::Local) -> bool;

    /// The thread that a `pop` about `distance` pops from now will return, if that is cheap to
    /// tell: the runtime prefetches its record and stack. Another worker may take it meanwhile; the
    /// runtime does no more than prefetch (Q7).
    ///
    /// Context: as `push`.
    fn upcoming(&self, _local: &Self::Local, _distance: usize) -> Option<NonNull<Metadata>> {
        None
    }

    /// The thread that runs on `local`'s worker is about to wait for `thread` to end. If `thread` is cheap
    /// to reach, let the worker's next `pop` return it: a tree of threads is then walked depth first, with as
    /// many stacks as it is deep, not as it is wide. `thread` may be anywhere, also on no queue (Q7). No
    /// thread is passed over more often for it than Q4 allows.
    ///
    /// Context: as `push`.
    fn expedite(&self, _local: &mut Self::Local, _thread: &Metadata) {}

    /// How many threads are queued, roughly; whether any is, exactly (Q8). The runtime's monitor preempts a
    /// thread at the end of its slice, and offers work to sleepers, only if a thread waits: a queue that says
    /// 0 while threads wait has no forced preemption, one that never says 0 disturbs lone threads.
    ///
    /// Context: **monitor** (B6); any OS thread, at any time, also while workers use the queue.
    fn len_hint(&self) -> usize;
}
