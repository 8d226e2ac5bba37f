//! Real-time priority for the monitor, within a budget.
//!
//! **Why real-time.** When every processor computes, the monitor must still run, and at once. (1,000 threads
//! that compute on 2 workers of 2 processors, 1st and 99th percentile of slices of 2 ms: 0.13 and 4.4 ms with
//! short slices alone, 0.62 and 2.3 ms with real-time priority.)
//!
//! **Why a budget (RT throttling).** While a real-time thread runs on a processor nothing ordinary does, the
//! kernel's own workers included: six runtimes with slices of 200 µs on two processors can delay those for
//! most of a minute. So the monitor counts its CPU time, with one call for each [`WINDOW_NS`]. From a
//! [`LEAST`]th of a processor on it is an ordinary thread, until it takes less than half of that. With the
//! usual slices it takes a hundredth.

use crate::os::{Policy, become_real_time, cpu_time_ns, set_policy};

const WINDOW_NS: u64 = 100_000_000;
/// The share of a processor at which real-time priority ends is one in this many.
const LEAST: u64 = 8;

/// The calling OS thread's real-time priority.
pub(crate) struct RtPriority {
    /// Whether it is wanted and the process may have it.
    granted: bool,
    is_real_time: bool,
    /// The beginning of the window, and the thread's CPU time then.
    since_ns: u64,
    cpu_ns: u64,
}

impl RtPriority {
    /// Real-time priority from now on, if it is wanted and granted.
    pub(crate) fn new(wanted: bool) -> Self {
        let granted = wanted && become_real_time();
        RtPriority { granted, is_real_time: granted, since_ns: 0, cpu_ns: 0 }
    }

    /// Keeps to the budget; to be called regularly.
    pub(crate) fn look(&mut self, now_ns: u64) {
        if self.granted && now_ns - self.since_ns >= WINDOW_NS {
            let cpu_ns = own_cpu_ns();
            let keeps = keeps(self.is_real_time, cpu_ns - self.cpu_ns, now_ns - self.since_ns);
            // Not before a whole window was measured.
            if self.since_ns != 0 && keeps != self.is_real_time {
                set_policy(if keeps { Policy::RealTime } else { Policy::Ordinary });
                self.is_real_time = keeps;
            }
            (self.since_ns, self.cpu_ns) = (now_ns, cpu_ns);
        }
    }

    /// Does `work` as an ordinary thread and outside the budget.
    pub(crate) fn without<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if self.is_real_time {
            set_policy(Policy::Ordinary);
        }
        let before_ns = own_cpu_ns();
        let result = work();
        self.cpu_ns += own_cpu_ns() - before_ns;
        if self.is_real_time {
            set_policy(Policy::RealTime);
        }
        result
    }
}

fn own_cpu_ns() -> u64 {
    const CALLER: i32 = 0;
    cpu_time_ns(CALLER)
}

/// Whether a thread that takes `cpu_ns` in `wall_ns` should have real-time priority, given whether it has.
fn keeps(is_real_time: bool, cpu_ns: u64, wall_ns: u64) -> bool {
    let most = wall_ns / LEAST;
    cpu_ns < if is_real_time { most } else { most / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_with_room_between_its_edges() {
        assert!(keeps(true, 124, 1000) && keeps(true, 70, 1000));
        assert!(!keeps(true, 125, 1000), "an eighth is too much");
        assert!(!keeps(false, 70, 1000) && keeps(false, 60, 1000));
    }

    fn compute(cpu_ns: u64) {
        let until = own_cpu_ns() + cpu_ns;
        while own_cpu_ns() < until {}
    }

    /// On an OS thread of its own, whose policy it changes.
    #[test]
    fn a_computing_thread_is_ordinary_until_it_has_done() {
        let looked_at = || {
            // SAFETY: no pointers.
            let policy = || (unsafe { libc::sched_getscheduler(0) }) & !libc::SCHED_RESET_ON_FORK;
            let mut priority = RtPriority::new(true);
            let allowed = policy() == libc::SCHED_FIFO;
            let granted = if allowed { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
            let mut now_ns = 1_000_000_000;
            priority.look(now_ns);
            let mut pass = |computed_ns: u64, priority: &mut RtPriority| {
                compute(computed_ns);
                now_ns += WINDOW_NS;
                priority.look(now_ns);
                policy()
            };
            assert_eq!(pass(0, &mut priority), granted);
            priority.without(|| compute(WINDOW_NS / 4));
            assert_eq!(pass(0, &mut priority), granted, "that was outside the budget");
            priority.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            assert_eq!(pass(WINDOW_NS / 4, &mut priority), libc::SCHED_OTHER, "and does not begin it anew");
            priority.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            priority.without(|| compute(WINDOW_NS / 4));
            assert_eq!(pass(0, &mut priority), granted, "it takes little now");
            priority.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            assert_eq!(policy(), granted);
        };
        std::thread::spawn(looked_at).join().expect("no assertion failed");
    }
}
