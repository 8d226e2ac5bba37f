//! From the plain value that a user writes to the backend that runs.

use crate::SchedError;

/// What a backend is built for. A backend may choose its sizes by it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Workers in all, 1 to [`MAX_WORKERS`](crate::MAX_WORKERS); they are numbered from 0.
    pub workers: usize,
    /// How many of them, the last ones by number, run only Low threads; below `workers`.
    pub low_priority_workers: usize,
    /// The most threads alive at once.
    pub max_gvthreads: usize,
}

impl Plan {
    /// A plan for `workers` workers and `max_gvthreads` threads.
    pub const fn new(workers: usize, max_gvthreads: usize) -> Self {
        Plan { workers, low_priority_workers: 0, max_gvthreads }
    }

    /// The same with the last `count` workers running only Low threads.
    pub const fn with_low_priority_workers(mut self, count: usize) -> Self {
        self.low_priority_workers = count;
        self
    }

    /// Whether worker `index` runs only Low threads.
    pub const fn is_low_priority(&self, index: usize) -> bool {
        index + self.low_priority_workers >= self.workers
    }
}

/// A plain value that configures a backend: what users pass to the builder.
///
/// - **F1 repeatable**: `build` may be called any number of times, for any plan; each result is
///   independent of the others.
/// - **F2 errors, not panics**: what cannot be built is an `Err` that says why.
///
/// The simplest backend is its own configuration:
///
/// ```
/// use gvt_traits::{Factory, Plan, SchedError};
///
/// #[derive(Default, Clone)]
/// struct Mine;
///
/// impl Factory for Mine {
///     type Output = Mine;
///     fn build(&self, _plan: &Plan) -> Result<Mine, SchedError> {
///         Ok(Mine)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not configure a part of a runtime",
    label = "this value builds no backend",
    note = "the parts that come with gvt are GoQueue, PriorityQueue, HeapTimer, Wheel, TimerFd, \
            Sigurg, Cooperative, NoPreempt and MmapSlots; implement `gvt_traits::Factory` for your own"
)]
pub trait Factory: Send + Sync + 'static {
    /// The backend.
    type Output;

    /// Builds the backend. Context: the thread that builds the runtime; may block and allocate.
    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError>;
}
