//! How late timers are, and how often the one who waits for them wakes.
//!
//! `cargo run --release -p gvt-conformance --example timer_lateness [RUNS]`
//!
//! 20,000 deadlines over two seconds, and one OS thread that waits as an idle worker does: until
//! the time, or for the descriptor, that the backend names. The medians of RUNS runs, backends taking
//! turns. The kernel's own lateness is the first row: the same deadlines, one after the other, by
//! `clock_nanosleep`.

#[path = "../../gvt/examples/support/output.rs"]
mod output;

use std::ptr;

use gvt_conformance::descriptor::monotonic_ns;
use gvt_timer_heap::HeapTimer;
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, GvtId, IdleWait, Plan, TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId};

const COUNT: u64 = 20_000;
const SPAN_NS: u64 = 2_000_000_000;

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// Deadlines from `start` on, the same ones in each run.
fn deadlines(start: u64) -> impl Iterator<Item = u64> {
    (1..=COUNT).map(move |n| start + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % SPAN_NS)
}

/// Lateness p50, p99 and maximum in µs; wake-ups; CPU time in ms.
type Row = [f64; 5];

fn cpu_ms() -> f64 {
    let mut time = timespec(0);
    // SAFETY: `time` is a valid `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn row(mut lateness: Vec<u64>, wakes: u64, cpu_before: f64) -> Row {
    assert_eq!(lateness.len() as u64, COUNT);
    lateness.sort_unstable();
    let micros = |index: usize| lateness[index] as f64 / 1e3;
    let last = lateness.len() - 1;
    [micros(last / 2), micros(last * 99 / 100), micros(last), wakes as f64, cpu_ms() - cpu_before]
}

fn kernel() -> Row {
    let start = monotonic_ns() + SPAN_NS / 20;
    let mut sorted: Vec<u64> = deadlines(start).collect();
    sorted.sort_unstable();
    let (mut lateness, mut wakes, cpu) = (Vec::new(), 0, cpu_ms());
    for deadline in sorted {
        if deadline > monotonic_ns() {
            let until = timespec(deadline);
            // SAFETY: a valid `timespec`; the rest is not asked for.
            unsafe {
                libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, ptr::null_mut())
            };
            wakes += 1;
        }
        lateness.push(monotonic_ns() - deadline);
    }
    row(lateness, wakes, cpu)
}

fn measure<F: Factory<Output: TimerBackend>>(factory: &F) -> Row {
    let timers = factory.build(&Plan::new(1, COUNT as usize)).expect("the plan can be built");
    let start = monotonic_ns() + SPAN_NS / 20;
    for (sequence, deadline_ns) in deadlines(start).enumerate() {
        timers.insert(TimerEntry {
            deadline_ns,
            ticket: WakeTicket { sequence: sequence as u64, id: GvtId::new(0) },
            affinity: WorkerId::new(0),
            kind: TimerType::Sleep,
        });
    }
    let (mut lateness, mut wakes, cpu) = (Vec::new(), 0, cpu_ms());
    while !timers.is_empty() {
        let (mut slot, slots, limit) = match timers.idle_wait() {
            IdleWait::Until(time) => {
                let limit = timespec(time.saturating_sub(monotonic_ns()));
                (libc::pollfd { fd: -1, events: 0, revents: 0 }, 0, Some(limit))
            }
            IdleWait::Readable(fd) => (libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, None),
            other => panic!("{other:?} with timers held"),
        };
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `slot` is one valid `pollfd`, and the limit is null or valid.
        unsafe { libc::ppoll(&mut slot, slots, limit, ptr::null()) };
        wakes += 1;
        timers.expire(WorkerId::new(0), monotonic_ns(), &mut |entry| {
            lateness.push(monotonic_ns() - entry.deadline_ns);
        });
    }
    row(lateness, wakes, cpu)
}

const HELP: &str = "\
How late the timers of each backend are, and how often the thread that waits for them wakes.

usage: timer_lateness [RUNS]

Prints the medians of RUNS runs, 3 unless told otherwise. A run takes 2 s for each of six rows.";

fn main() {
    let runs = output::whole_number(HELP, "RUNS", 3);
    // SAFETY: no pointer is passed. As the runtime does for threads that wait for timers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let backends: [(&str, &dyn Fn() -> Row); 6] = [
        ("kernel", &kernel),
        ("heap", &|| measure(&HeapTimer)),
        ("wheel", &|| measure(&Wheel::default())),
        ("wheel, 65 µs", &|| measure(&Wheel::default().tick_ns(1 << 16))),
        ("timerfd, wheel", &|| measure(&TimerFd::<Wheel>::default())),
        ("timerfd, heap", &|| measure(&TimerFd::over(HeapTimer))),
    ];
    let columns = ["p50 µs", "p99 µs", "max µs", "wakes", "CPU ms"].map(|column| format!("{column:>10}"));
    output::line(format_args!("{:<18}{}", "", columns.concat()));
    let mut results = vec![Vec::new(); backends.len()];
    for _ in 0..runs {
        for (result, (_, measure)) in results.iter_mut().zip(&backends) {
            result.push(measure());
        }
    }
    for (result, (name, _)) in results.iter().zip(&backends) {
        let median = |column: usize| {
            let mut values: Vec<f64> = result.iter().map(|row| row[column]).collect();
            values.sort_by(f64::total_cmp);
            format!("{:>10.1}", values[values.len() / 2])
        };
        let medians: String = (0..columns.len()).map(median).collect();
        output::line(format_args!("{name:<18}{medians}"));
    }
}
