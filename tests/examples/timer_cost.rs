//! What an insert, a cancel and an expiry cost on each timer backend, on the same sequences.
//!
//! `cargo run --release -p gvt-conformance --example timer_cost [RUNS]`
//!
//! Each sequence arms a million timers of 1 to 5 s, as sleeps or network timeouts do. Backends take
//! turns, and what is printed is the median of RUNS runs, in ns of CPU time an operation. One thread, one
//! shard, locks included; time is virtual, and passes a millisecond at a time.

#[path = "../../gvt/examples/support/output.rs"]
mod output;

use std::hint::black_box;

use gvt_timer_heap::HeapTimer;
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{
    Factory, GvtId, Plan, TimerBackend, TimerEntry, TimerHandle, TimerType, WakeTicket, WorkerId,
};

const ARMED: usize = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// xorshift; the same numbers for each backend.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn entry(sequence: u64, deadline_ns: u64) -> TimerEntry {
    TimerEntry {
        deadline_ns,
        ticket: WakeTicket { sequence, id: GvtId::new(sequence as u32) },
        affinity: WorkerId::new(0),
        kind: TimerType::Deadline,
    }
}

fn timed(operations: usize, work: impl FnOnce()) -> f64 {
    let start = thread_time_ns();
    work();
    (thread_time_ns() - start) / operations as f64
}

/// The thread's own time, so that others on the machine disturb less.
fn thread_time_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Expires a millisecond at a time until nothing is held; returns the last time.
fn run_dry(timers: &impl TimerBackend, mut now: u64) -> u64 {
    while !timers.is_empty() {
        now += SECOND / 1000;
        timers.expire(WorkerId::new(0), now, &mut |entry| _ = black_box(entry));
    }
    now
}

const COLUMNS: [&str; 9] = [
    "insert",
    "expire all",
    "cancel in order",
    "cancel at random",
    "expire the rest",
    "timeout kept: insert+cancel",
    "flood: insert",
    "flood: expire",
    "few: insert+expire",
];

fn measure<F: Factory<Output: TimerBackend>>(factory: &F) -> [f64; COLUMNS.len()] {
    let timers = factory.build(&Plan::new(1, ARMED)).expect("the plan can be built");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut now = SECOND;
    let arm = |dice: &mut Dice, now: u64| -> Vec<TimerHandle> {
        (0..ARMED).map(|n| timers.insert(entry(n as u64, now + SECOND + dice.roll(4 * SECOND)))).collect()
    };
    // Once for nothing: memory is had by then.
    arm(&mut dice, now);
    now = run_dry(&timers, now);

    let insert = timed(ARMED, || _ = black_box(arm(&mut dice, now)));
    let expire_all = timed(ARMED, || now = run_dry(&timers, now));

    let handles = arm(&mut dice, now);
    let in_order = timed(ARMED * 9 / 10, || {
        for (n, &handle) in handles.iter().enumerate() {
            if n % 10 != 0 {
                timers.cancel(handle);
            }
        }
    });
    now = run_dry(&timers, now);

    let mut handles = arm(&mut dice, now);
    for n in 0..ARMED {
        handles.swap(n, n + dice.roll((ARMED - n) as u64) as usize);
    }
    let at_random = timed(ARMED * 9 / 10, || {
        for &handle in &handles[..ARMED * 9 / 10] {
            timers.cancel(handle);
        }
    });
    let the_rest = timed(ARMED / 10, || now = run_dry(&timers, now));

    // A request sets a timeout of 30 s; 100,000 are under way; the oldest ends.
    let mut under_way: Vec<TimerHandle> =
        (0..100_000).map(|n| timers.insert(entry(n, now + 30 * SECOND + n))).collect();
    let timeout = timed(ARMED, || {
        for n in 0..ARMED {
            now += 1_000;
            let oldest = &mut under_way[n % 100_000];
            timers.cancel(*oldest);
            *oldest = timers.insert(entry(n as u64, now + 30 * SECOND));
        }
    });
    now = run_dry(&timers, now);

    let flood_insert = timed(ARMED, || {
        (0..ARMED).for_each(|n| _ = timers.insert(entry(n as u64, now + SECOND)));
    });
    now += 2 * SECOND;
    let flood_expire = timed(ARMED, || {
        let given = timers.expire(WorkerId::new(0), now, &mut |entry| _ = black_box(entry));
        assert_eq!(given, ARMED);
    });

    let few = timed(ARMED, || {
        for n in 0..ARMED {
            timers.insert(entry(n as u64, now + 50_000));
            now += 100_000;
            timers.expire(WorkerId::new(0), now, &mut |entry| _ = black_box(entry));
        }
    });
    [insert, expire_all, in_order, at_random, the_rest, timeout, flood_insert, flood_expire, few]
}

const HELP: &str = "\
What an insert, a cancel and an expiry cost on each timer backend, in ns of CPU time.

usage: timer_cost [RUNS]

Prints the medians of RUNS runs, 5 unless told otherwise. Optimise it: a run takes seconds.";

fn main() {
    let runs = output::whole_number(HELP, "RUNS", 5);
    let backends: [(&str, &dyn Fn() -> [f64; COLUMNS.len()]); 4] = [
        ("heap", &|| measure(&HeapTimer)),
        ("wheel", &|| measure(&Wheel::default())),
        ("wheel, 65 µs", &|| measure(&Wheel::default().tick_ns(1 << 16))),
        ("timerfd, wheel", &|| measure(&TimerFd::<Wheel>::default())),
    ];
    let names: String = backends.iter().map(|(name, _)| format!("{name:>16}")).collect();
    output::line(format_args!("{:<30}{names}", "ns an operation"));
    let mut results = vec![Vec::new(); backends.len()];
    for _ in 0..runs {
        for (result, (_, measure)) in results.iter_mut().zip(&backends) {
            result.push(measure());
        }
    }
    for (column, name) in COLUMNS.iter().enumerate() {
        let median = |result: &Vec<[f64; COLUMNS.len()]>| {
            let mut values: Vec<f64> = result.iter().map(|run| run[column]).collect();
            values.sort_by(f64::total_cmp);
            format!("{:>16.1}", values[values.len() / 2])
        };
        let medians: String = results.iter().map(median).collect();
        output::line(format_args!("{name:<30}{medians}"));
    }
}
