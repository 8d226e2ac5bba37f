//! A runtime's settings.

use crate::kernel::thread::table::MOST_GVTHREADS;
use std::time::Duration;

use gvt_traits::{GRACE_PERIOD_NS, MAX_GVTHREADS, MAX_WORKERS, SchedError, TIME_SLICE_NS, TIMER_INTERVAL_NS};

/// The most OS threads that a runtime can be allowed: what Linux has numbers for.
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
    /// As many workers as the process may use processors (its affinity mask and cgroup are respected), and the figures
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
    /// Workers in all, 1 to 64.
    pub fn num_workers(mut self, count: usize) -> Self {
        self.num_workers = count;
        self
    }

    /// How many of them run only Low threads; at least one must be left for the others.
    pub fn num_low_priority_workers(mut self, count: usize) -> Self {
        self.num_low_priority_workers = count;
        self
    }

    /// Threads at once at the most, alive or ended and not yet joined.
    ///
    /// A runtime with room for many may admit up to 64 a worker more.
    pub fn max_gvthreads(mut self, count: usize) -> Self {
        self.max_gvthreads = count;
        self
    }

    /// The stack of threads that ask for none, as [`Builder::stack_size`](crate::Builder::stack_size) says; 0, the
    /// default, for what the slots give by themselves: 16 MiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// How long a thread may run without a scheduling decision before it is asked to yield: CPU time of its OS thread, as long as that
    /// does not sleep in the kernel. One that sleeps there for so long, or for 20 ms, loses its worker while others wait.
    pub fn time_slice(mut self, duration: Duration) -> Self {
        self.time_slice = duration;
        self
    }

    /// How long after being asked a thread is taken off by force.
    pub fn grace_period(mut self, duration: Duration) -> Self {
        self.grace_period = duration;
        self
    }

    /// How often the monitor looks at timers and queues while workers are busy; where it may ask threads to yield, at least once
    /// each time slice.
    pub fn timer_interval(mut self, duration: Duration) -> Self {
        self.timer_interval = duration;
        self
    }

    /// How long a thread whose timer has expired waits before it ends another's turn, although that one's slice is
    /// not over: 1 ms by default.
    pub fn wake_wait(mut self, duration: Duration) -> Self {
        self.wake_wait = duration;
        self
    }

    /// How long a thread may run at least before such a wake-up ends its turn: 1 ms by default.
    pub fn min_run(mut self, duration: Duration) -> Self {
        self.min_run = duration;
        self
    }

    /// Whether threads are taken off by force at all, where the preemptor can.
    pub fn enable_forced_preempt(mut self, enable: bool) -> Self {
        self.enable_forced_preempt = enable;
        self
    }

    /// Whether the monitor, the OS thread that ends slices, asks the kernel for the least real-time priority
    /// (`SCHED_FIFO`, 1), as it does by default. Without, or where the process may not have it, the kernel now and then lets the monitor
    /// wait for its next tick while all processors compute: one slice in a hundred is some milliseconds too long. A monitor that starts
    /// under another policy than `SCHED_OTHER` keeps it.
    ///
    /// The monitor runs for some microseconds at a time, at most once for each `timer_interval` and each slice that ends, and not at all
    /// while nothing runs. Should it take an eighth of a processor, as with slices far below a millisecond, it goes on as an ordinary
    /// thread until it takes less, so that it keeps nobody else from running.
    ///
    /// Kernels with `CONFIG_RT_GROUP_SCHED` do not let a process with a real-time thread be moved into a group of the CPU controller that
    /// grants no real-time share (`cpu.rt_runtime_us`), and do not let that controller be turned on around it. Processes that are to be
    /// moved while they run say `false` here, or are started in their group, where the kernel refuses the priority and the monitor goes
    /// on without.
    pub fn urgent_monitor(mut self, enable: bool) -> Self {
        self.urgent_monitor = enable;
        self
    }

    /// Whether the runtime tells on stderr what it does: start, end, OS threads.
    pub fn debug_logging(mut self, enable: bool) -> Self {
        self.debug_logging = enable;
        self
    }

    /// Has a report written to stderr when for so long nothing has run, every green thread waits, and no timer is pending: each
    /// thread's name, id, what it waits for and since when. Off by default.
    ///
    /// That is a deadlock unless an OS thread, or another runtime, is going to wake one of them, which the runtime cannot know;
    /// so it reports and does nothing else. The same threads in the same waits are reported once. While it is on, the runtime
    /// wakes up once for it whenever everything has gone to sleep.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use gvt::{Runtime, SchedulerConfig, channel, spawn};
    /// let config = SchedulerConfig::default().deadlock_report(Duration::from_millis(10));
    /// let runtime = Runtime::new(config);
    /// let (report, reports) = mpsc::channel();
    /// runtime.on_deadlock(move |deadlock| report.send(deadlock.to_string()).unwrap());
    /// runtime.handle().spawn(|_| {
    ///     let (to_me, mine) = channel::<()>(0);
    ///     let (to_other, other) = channel::<()>(0);
    ///     let thread = spawn(move |_| {
    ///         let _ = other.recv();
    ///         let _ = to_me.send(());
    ///     });
    ///     // Each waits for the other to begin.
    ///     let _ = mine.recv();
    ///     let _ = to_other.send(());
    ///     let _ = thread.join();
    /// });
    /// assert!(reports.recv().unwrap().contains("blocked on channel receive"));
    /// runtime.shutdown();
    /// ```
    pub fn deadlock_report(mut self, after: Duration) -> Self {
        self.deadlock_report = Some(after);
        self
    }

    /// OS threads at the most, those of the workers among them, the monitor and the starter not: workers and 4,096 by default.
    ///
    /// A green thread that is preempted, calls [`blocking`](crate::blocking), blocks in the kernel, waits while it unwinds, or
    /// is pinned, keeps its OS thread. When no further one may be started, nothing fails:
    ///
    /// - a thread past its slice is asked at its next safepoint, and not forced;
    /// - [`blocking`](crate::blocking) and calls that block keep their worker until they return;
    /// - a thread that unwinds and waits lets its worker fire timers and pass on to other held threads, until it is woken;
    /// - pinned threads share OS threads with others.
    ///
    /// So green threads that block each other in the kernel, on a `std::sync::Mutex` held over a wait, can do so for ever there. As
    /// many as workers turn all of this off.
    pub fn max_os_threads(mut self, count: usize) -> Self {
        self.max_os_threads = Some(count);
        self
    }

    /// For tests: every yield and every wait moves the thread to another OS thread, also when it is the only one.
    ///
    /// Brings out code that holds what is bound to an OS thread over such a call (a reference into a `thread_local!`, say),
    /// which goes unnoticed while threads happen to stay. Slow: each turn is handed over in the kernel. Pinned threads
    /// stay where they are.
    pub fn migrate_always(mut self, enable: bool) -> Self {
        self.migrate_always = enable;
        self
    }

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
