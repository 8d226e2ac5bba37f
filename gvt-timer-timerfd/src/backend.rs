//! The wrapped backend, and the watch over its earliest deadline.

use gvt_traits::{Factory, IdleWait, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerId};

use crate::alarm::KernelAlarm;
use crate::sorted::Sorted;
use crate::watch::Watch;

/// Configures a [`TimerFdBackend`] around the backend that `B` configures.
///
/// ```
/// # use gvt_traits::*;
/// # #[derive(Default)]
/// # struct Mine;
/// # impl Factory for Mine {
/// #     type Output = Empty;
/// #     fn build(&self, _: &Plan) -> Result<Empty, SchedError> { Ok(Empty) }
/// # }
/// # struct Empty;
/// # impl TimerBackend for Empty {
/// #     fn insert(&self, _: TimerEntry) -> TimerHandle { unimplemented!() }
/// #     fn cancel(&self, _: TimerHandle) -> Option<TimerEntry> { None }
/// #     fn expire(&self, _: WorkerId, _: u64, _: &mut dyn FnMut(TimerEntry)) -> usize { 0 }
/// #     fn next_deadline_ns(&self) -> Option<u64> { None }
/// #     fn len(&self) -> usize { 0 }
/// # }
/// use gvt_timer_timerfd::TimerFd;
///
/// let timers = TimerFd::over(Mine).build(&Plan::new(1, 1000))?;
/// assert!(matches!(timers.idle_wait(), IdleWait::Readable(_)));
/// // With the crate's own order of deadlines.
/// let timers = TimerFd::default().build(&Plan::new(1, 1000))?;
/// assert!(matches!(timers.idle_wait(), IdleWait::Readable(_)));
/// # Ok::<(), SchedError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerFd<B = Sorted> {
    order: B,
}

impl TimerFd {
    /// A timerfd over [`Sorted`]. `TimerFd::<Other>::default()` is one over `Other::default()`.
    // Inherent, not only the trait's: a default type parameter decides no inference.
    pub const fn default() -> Self {
        TimerFd { order: Sorted }
    }
}

impl<B> TimerFd<B> {
    /// Lets `order` say which deadline comes next.
    pub const fn over(order: B) -> Self {
        TimerFd { order }
    }
}

impl<B: Factory<Output: TimerBackend>> Factory for TimerFd<B> {
    type Output = TimerFdBackend<B::Output>;

    /// Opens one file descriptor; fails if there are too many, and if the wrapped backend cannot be
    /// built or keeps a time of its own, which the kernel could not wait for.
    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        let order = self.order.build(plan)?;
        if order.now_ns().is_some() {
            return Err(SchedError::Config {
                setting: "timer",
                problem: "a timerfd cannot wait in the virtual time of the backend that it wraps; use that \
                          backend by itself"
                    .into(),
            });
        }
        Ok(TimerFdBackend { order, watch: Watch::new(KernelAlarm::new()?) })
    }
}

/// A backend whose idle worker waits in a timerfd; see the crate's documentation.
pub struct TimerFdBackend<T> {
    order: T,
    watch: Watch<KernelAlarm>,
}

impl<T: TimerBackend> TimerBackend for TimerFdBackend<T> {
    fn resolution_ns(&self) -> u64 {
        self.order.resolution_ns()
    }

    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let handle = self.order.insert(entry);
        self.watch.inserted(entry.deadline_ns, || self.order.next_deadline_ns());
        handle
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        self.order.cancel(handle)
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let given = self.order.expire(near, now_ns, sink);
        self.watch.expired(now_ns);
        given
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.order.next_deadline_ns()
    }

    fn idle_wait(&self) -> IdleWait {
        self.watch.prepare(|| self.order.next_deadline_ns());
        IdleWait::Readable(self.watch.alarm().descriptor())
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for TimerFdBackend<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimerFdBackend")
            .field("order", &self.order)
            .field("descriptor", &self.watch.alarm().descriptor())
            .finish()
    }
}
