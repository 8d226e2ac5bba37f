//! Real-time priority for the monitor, within a budget.
//!
//! **Why real-time.** When everybody computes the monitor has to get its turn all the same, and at once. (1,000 threads that compute on 2
//! workers of 2 processors, 1st and 99th percentile of slices of 2 ms: 0.13 and 4.4 ms with short slices alone, 0.62 and 2.3 ms with
//! real-time priority.)
//!
//! **Why a budget.** Nothing ordinary runs on a processor while a real-time thread does, the kernel's own workers included: beside six
//! runtimes with slices of 200 µs on two processors those once waited for most of a minute. So the monitor counts its CPU time, one call for
//! each [`WINDOW_NS`]. From a [`LEAST`]th of a processor on it is an ordinary thread, until it takes less than half of that. With the usual
//! slices it takes a hundredth.

use crate::os::{become_urgent, cpu_time_ns, set_urgent};

const WINDOW_NS: u64 = 100_000_000;
/// Its share of a processor in which real-time priority ends is one in so many.
const LEAST: u64 = 8;

/// The calling OS thread's real-time priority.
pub(crate) struct Urgency {
    /// Whether the process may have it, and it is wanted.
    granted: bool,
    urgent: bool,
    /// When the window began, and the thread's CPU time then.
    since_ns: u64,
    cpu_ns: u64,
}

impl Urgency {
    /// Real-time priority from now on, if it is wanted and may be had.
    pub(crate) fn new(wanted: bool) -> Self {
        let granted = wanted && become_urgent();
        Urgency { granted, urgent: granted, since_ns: 0, cpu_ns: 0 }
    }

    /// Keeps to the budget; to be called again and again.
    pub(crate) fn look(&mut self, now_ns: u64) {
        if self.granted && now_ns - self.since_ns >= WINDOW_NS {
            let cpu_ns = own_cpu_ns();
            let keeps = keeps(self.urgent, cpu_ns - self.cpu_ns, now_ns - self.since_ns);
            // Not before it has been looked at for a window.
            if self.since_ns != 0 && keeps != self.urgent {
                set_urgent(keeps);
                self.urgent = keeps;
            }
            (self.since_ns, self.cpu_ns) = (now_ns, cpu_ns);
        }
    }

    /// Does `work` as an ordinary thread and outside the budget.
    pub(crate) fn without<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if self.urgent {
            set_urgent(false);
        }
        let before_ns = own_cpu_ns();
        let result = work();
        self.cpu_ns += own_cpu_ns() - before_ns;
        if self.urgent {
            set_urgent(true);
        }
        result
    }
}

fn own_cpu_ns() -> u64 {
    const CALLER: i32 = 0;
    cpu_time_ns(CALLER)
}

/// Whether a thread that is `urgent` or not should be after it took `cpu_ns` in `wall_ns`.
fn keeps(urgent: bool, cpu_ns: u64, wall_ns: u64) -> bool {
    let most = wall_ns / LEAST;
    cpu_ns < if urgent { most } else { most / 2 }
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
    fn who_computes_becomes_ordinary_and_is_urgent_again_when_done() {
        let looked_at = || {
            // SAFETY: no pointers.
            let policy = || (unsafe { libc::sched_getscheduler(0) }) & !libc::SCHED_RESET_ON_FORK;
            let mut urgency = Urgency::new(true);
            let allowed = policy() == libc::SCHED_FIFO;
            let granted = if allowed { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
            let mut now_ns = 1_000_000_000;
            urgency.look(now_ns);
            let mut pass = |computed_ns: u64, urgency: &mut Urgency| {
                compute(computed_ns);
                now_ns += WINDOW_NS;
                urgency.look(now_ns);
                policy()
            };
            assert_eq!(pass(0, &mut urgency), granted);
            urgency.without(|| compute(WINDOW_NS / 4));
            assert_eq!(pass(0, &mut urgency), granted, "that was outside the budget");
            urgency.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            assert_eq!(pass(WINDOW_NS / 4, &mut urgency), libc::SCHED_OTHER, "and does not begin it anew");
            urgency.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            urgency.without(|| compute(WINDOW_NS / 4));
            assert_eq!(pass(0, &mut urgency), granted, "it takes little now");
            urgency.without(|| assert_eq!(policy(), libc::SCHED_OTHER));
            assert_eq!(policy(), granted);
        };
        std::thread::spawn(looked_at).join().expect("no assertion failed");
    }
}
