//! Every setting of a runtime, once: a setter of [`SchedulerConfig`], and one of [`RuntimeBuilder`] that
//! forwards to it.

use std::time::Duration;

use crate::runtime::builder::RuntimeBuilder;
use crate::runtime::config::SchedulerConfig;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident($value:ident: $type:ty);)+) => {
        impl SchedulerConfig {
            $(
                $(#[$doc])*
                pub fn $name(mut self, $value: $type) -> Self {
                    self.$name = $value.into();
                    self
                }
            )+
        }

        /// The settings: each forwards to the setter of the same name of [`SchedulerConfig`].
        impl<Q, T, P, C, S> RuntimeBuilder<Q, T, P, C, S> {
            $(
                #[doc = concat!("See [`SchedulerConfig::", stringify!($name), "`].")]
                pub fn $name(mut self, $value: $type) -> Self {
                    self.config = self.config.$name($value);
                    self
                }
            )+
        }

        #[cfg(test)]
        /// For each setting and each of two values of it: its name, and the results of both setters.
        fn both_ways() -> Vec<(&'static str, SchedulerConfig, SchedulerConfig)> {
            let mut all = Vec::new();
            $(
                for value in <$type as tests::Sample>::SAMPLES {
                    let on_the_config = SchedulerConfig::default().$name(value);
                    all.push((stringify!($name), on_the_config, RuntimeBuilder::default().$name(value).config));
                }
            )+
            all
        }
    };
}

settings! {
    /// How many workers the runtime has, 1 to 64.
    num_workers(count: usize);

    /// How many of the workers run only Low threads. At least one must be left for the others.
    num_low_priority_workers(count: usize);

    /// How many threads there may be at once, those that have ended and are not yet joined among them.
    ///
    /// A runtime with room for many may admit up to 64 a worker more.
    max_gvthreads(count: usize);

    /// The stack size of threads that do not ask for one; see
    /// [`Builder::stack_size`](crate::Builder::stack_size). 0, the default, is the default of the slots: 16
    /// MiB.
    stack_size(bytes: usize);

    /// How long a thread may run without a scheduling decision before it is asked to yield. This is CPU time
    /// of its OS thread, unless that sleeps in the kernel: a thread that sleeps there for a slice, or for 20
    /// ms, loses its worker while others wait.
    time_slice(duration: Duration);

    /// How long after it was asked to yield a thread is preempted by force.
    grace_period(duration: Duration);

    /// How often the monitor looks at timers and queues while workers are busy. Where it may ask threads to
    /// yield, it looks at least once each time slice.
    timer_interval(duration: Duration);

    /// How long a thread whose timer has expired waits before it preempts the running thread ahead of the end
    /// of its slice: 1 ms by default.
    wake_wait(duration: Duration);

    /// How long a thread runs at least before such a wake-up preempts it: 1 ms by default.
    min_run(duration: Duration);

    /// Whether threads are preempted by force, where the preemptor can do it.
    enable_forced_preempt(enable: bool);

    /// Whether the monitor, the OS thread that ends slices, asks the kernel for the lowest real-time priority
    /// (`SCHED_FIFO`, 1), which is the default. Without it, or where the process may not have it, the kernel
    /// sometimes lets the monitor wait for its next tick while all processors compute: one slice in a hundred
    /// is some milliseconds too long. A monitor that starts under another policy than `SCHED_OTHER` keeps
    /// that policy.
    ///
    /// The monitor runs for some microseconds at a time, at most once for each `timer_interval` and each
    /// slice that ends, and does not run while nothing runs. If it takes an eighth of a processor, as with
    /// slices far below a millisecond, it runs at ordinary priority until it takes less, so that others can
    /// run.
    ///
    /// Kernels with `CONFIG_RT_GROUP_SCHED` do not move a process that has a real-time thread into a group of
    /// the CPU controller without a real-time share (`cpu.rt_runtime_us`), and do not turn that controller on
    /// around it. Processes that are to be moved while they run set this to `false`, or are started in their
    /// group, where the kernel refuses the priority and the monitor runs without it.
    urgent_monitor(enable: bool);

    /// Whether the runtime writes to stderr what it does: start, end, OS threads.
    debug_logging(enable: bool);

    /// Reports a deadlock to stderr when for this long nothing has run, every green thread waits, and no
    /// timer is pending. The report has each thread's name, id, what it waits for and since when. Off by
    /// default.
    ///
    /// Such a state is a deadlock unless an OS thread or another runtime is going to wake one of the threads.
    /// The runtime cannot know that, so it only reports. The same threads in the same waits are reported
    /// once. With this setting the runtime wakes up once whenever everything has gone to sleep.
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
    deadlock_report(after: Duration);

    /// How many OS threads the runtime may have, those of the workers included, monitor and starter not:
    /// workers plus 4,096 by default.
    ///
    /// A green thread keeps its OS thread while it is preempted, calls [`blocking`](crate::blocking()),
    /// blocks in the kernel, waits while it unwinds, or is pinned. When no further OS thread may be started,
    /// nothing fails:
    ///
    /// - a thread past its slice is asked at its next safepoint, and not preempted by force;
    /// - [`blocking`](crate::blocking()) and calls that block keep their worker until they return;
    /// - a thread that unwinds and waits lets its worker fire timers and hand itself to other detached
    ///   threads, until it is woken;
    /// - pinned threads share OS threads with others.
    ///
    /// So green threads that block each other in the kernel, on a `std::sync::Mutex` held over a wait, can do
    /// so for ever at this bound. A bound equal to the number of workers turns all of this off.
    max_os_threads(count: usize);

    /// For tests: every yield and every wait moves the thread to another OS thread, also when it is the only
    /// one.
    ///
    /// This exposes code that holds what is bound to an OS thread over such a call (a reference into a
    /// `thread_local!`, say), which goes unnoticed while threads happen to stay. Slow: each turn is handed
    /// over in the kernel. Pinned threads stay where they are.
    migrate_always(enable: bool);
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) trait Sample: Sized {
        const SAMPLES: [Self; 2];
    }

    impl Sample for usize {
        const SAMPLES: [Self; 2] = [3, 12_345];
    }

    impl Sample for bool {
        const SAMPLES: [Self; 2] = [false, true];
    }

    impl Sample for Duration {
        const SAMPLES: [Self; 2] = [Duration::from_micros(77), Duration::from_secs(77)];
    }

    #[test]
    fn each_setting_can_be_set_on_the_builder() {
        for (name, on_the_config, on_the_builder) in both_ways() {
            assert_eq!(on_the_config, on_the_builder, "{name}");
        }
        let changed = |name| {
            let mut ways = both_ways().into_iter().filter(|(which, ..)| *which == name);
            ways.any(|(_, _, config)| config != SchedulerConfig::default())
        };
        // The list has all fields, and each setter changes its own.
        let fields = format!("{:#?}", SchedulerConfig::default());
        let fields = fields.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(':'));
        let fields: Vec<_> = fields.map(|(field, _)| field).filter(|field| !field.starts_with(' ')).collect();
        assert_eq!(fields.len(), both_ways().len() / 2);
        for field in fields {
            assert!(changed(field), "{field}");
        }
    }
}
