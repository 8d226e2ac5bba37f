//! A runtime's settings.

use crate::kernel::thread::table::MOST_GVTHREADS;
use std::time::Duration;

use gvt_traits::{GRACE_PERIOD_NS, MAX_GVTHREADS, MAX_WORKERS, SchedError, TIME_SLICE_NS, TIMER_INTERVAL_NS};

/// The highest bound on OS threads: Linux's highest `pid_max`.
const MOST_OS_THREADS: usize = 4 << 20;

/// A runtime's settings, with setters to chain.
///
/// ```
/// use gvt::{Runtime, SchedulerConfig};
/// let runtime = Runtime::try_new(SchedulerConfig::default().num_workers(2).max_gvthreads(10_000))?;
/// assert_eq!(runtime.block_on(|| 6 * 7), 42);
/// # Ok::<(), gvt::SchedError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    pub(crate) num_workers: usize,
    pub(crate) num_low_priority_workers: usize,
    pub(crate) max_gvthreads: usize,
    pub(crate) stack_size: usize,
    pub(crate) time_slice: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) timer_interval: Duration,
    pub(crate) wake_wait: Duration,
    pub(crate) min_run: Duration,
    pub(crate) enable_forced_preempt: bool,
    pub(crate) urgent_monitor: bool,
    pub(crate) debug_logging: bool,
    pub(crate) deadlock_report: Option<Duration>,
    pub(crate) max_os_threads: Option<usize>,
    pub(crate) migrate_always: bool,
}

impl Default for SchedulerConfig {
    /// As many workers as the process may use processors (by its affinity mask and cgroup), and the periods
    /// of `gvt_traits`.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        SchedulerConfig {
            num_workers: processors.min(MAX_WORKERS),
            num_low_priority_workers: 0,
            max_gvthreads: MAX_GVTHREADS,
            stack_size: 0,
            time_slice: Duration::from_nanos(TIME_SLICE_NS),
            grace_period: Duration::from_nanos(GRACE_PERIOD_NS),
            timer_interval: Duration::from_nanos(TIMER_INTERVAL_NS),
            wake_wait: Duration::from_millis(1),
            min_run: Duration::from_millis(1),
            enable_forced_preempt: true,
            urgent_monitor: true,
            debug_logging: false,
            deadlock_report: None,
            max_os_threads: None,
            migrate_always: false,
        }
    }
}

impl SchedulerConfig {
    pub(crate) fn check(&self) -> Result<(), SchedError> {
        let refuse = |setting, problem| Err(SchedError::Config { setting, problem });
        if !(1..=MAX_WORKERS).contains(&self.num_workers) {
            return refuse(
                "num_workers",
                format!("{} workers were asked for; ask for 1 to {MAX_WORKERS}", self.num_workers),
            );
        }
        if self.num_low_priority_workers >= self.num_workers {
            return refuse(
                "num_low_priority_workers",
                format!(
                    "{} of {} workers would run only Low threads, and none the others; leave at least one",
                    self.num_low_priority_workers, self.num_workers
                ),
            );
        }
        if self.max_os_threads.is_some_and(|most| !(self.num_workers..=MOST_OS_THREADS).contains(&most)) {
            return refuse(
                "max_os_threads",
                format!(
                    "{} OS threads were allowed for {} workers; allow one a worker and {MOST_OS_THREADS} at the most",
                    self.max_os_threads.unwrap_or_default(),
                    self.num_workers
                ),
            );
        }
        if !(1..=MOST_GVTHREADS).contains(&self.max_gvthreads) {
            return refuse(
                "max_gvthreads",
                format!(
                    "room for {} green threads was asked for; ask for 1 to {MOST_GVTHREADS}",
                    self.max_gvthreads
                ),
            );
        }
        let periods = [("time_slice", self.time_slice), ("timer_interval", self.timer_interval)];
        for (setting, period) in periods {
            if period < Duration::from_micros(10) || period > Duration::from_secs(3600) {
                return refuse(setting, format!("{period:?} was asked for; ask for 10 µs to one hour"));
            }
        }
        Ok(())
    }
}
