//! `preempt-cost`: what a forced preemption costs in each mode, beside bare signals, in one run; and what a
//! computation loses to it.
//!
//! Two threads compute on one worker. CPU time of the whole process, the monitor's included, is divided by
//! the turns that they made; without preemption they run one after the other, which is the base. What a turn
//! costs more, times the turns, divided by the preemptions, is the cost of one. CPU time and not time, so
//! that a busy machine disturbs little; rounds of all modes alternate, and medians are shown.
//!
//! The floor of whatever takes a thread off by a signal is the row of signals alone: an OS thread sleeps for
//! a slice, sends one, and so on, to a computation that nobody preempts, and whose handler counts.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{Builder, Cooperative, NoPreempt, Runtime, Sigurg};
use gvt_traits::{Factory, Preemptor};

const ROUNDS: usize = 9;
const SPAN: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    None,
    /// No preemption, but a signal for each slice.
    Signal,
    Cooperative,
    OsThread,
    Switch,
}

/// Turns, CPU time in ns, preemptions.
struct Measured {
    turns: f64,
    cpu_ns: f64,
    preemptions: f64,
}

fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// One turn: a few hundred nanoseconds without memory.
#[inline(always)]
fn turn() {
    black_box((0..256u64).fold(black_box(1u64), |sum, i| sum.wrapping_mul(31) ^ i));
}

/// Signals whose handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// SIGUSR1 is counted and does nothing else.
fn count_signals() {
    extern "C" fn count(_: i32) {
        HANDLED.fetch_add(1, Relaxed);
    }
    // SAFETY: the handler adds to an atomic.
    unsafe { libc::signal(libc::SIGUSR1, count as *const () as usize) };
}

/// Sends a signal to `victim`, once there is one, each `slice` until `stop`.
fn send_signals(victim: &AtomicI32, slice: Duration, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        std::thread::sleep(slice);
        let victim = victim.load(Relaxed);
        if victim != 0 {
            // SAFETY: its handler counts; should the OS thread have ended, the call fails.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), victim, libc::SIGUSR1) };
        }
    }
}

fn measure<P: Factory<Output: Preemptor>>(preemptor: P, mode: Mode, slice: Duration) -> Measured {
    let runtime = Runtime::builder()
        .workers(1)
        .time_slice(slice)
        .grace_period(Duration::from_micros(20))
        .timer_interval(slice)
        .preemptor(preemptor)
        .build()
        .expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let begin = cpu_ns();
    let clock = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(SPAN);
            stop.store(true, Relaxed);
        })
    };
    let victim = Arc::new(AtomicI32::new(0));
    let handled = HANDLED.load(Relaxed);
    let sender = (mode == Mode::Signal).then(|| {
        count_signals();
        let (victim, stop) = (victim.clone(), stop.clone());
        std::thread::spawn(move || send_signals(&victim, slice, &stop))
    });
    let turns: u64 = runtime.block_on(|| {
        let spinner = |number: u64| {
            let (stop, victim) = (stop.clone(), victim.clone());
            let body = move || {
                // SAFETY: always succeeds.
                victim.store(unsafe { libc::gettid() }, Relaxed);
                let (mut turns, mut next_look) = (0u64, Instant::now() + SPAN / 2);
                while !stop.load(Relaxed) {
                    turn();
                    turns += 1;
                    if mode == Mode::Cooperative {
                        gvt::safepoint!();
                    }
                    // Without preemption the first ends at half time, so that both run.
                    if matches!(mode, Mode::None | Mode::Signal)
                        && number == 0
                        && turns.is_multiple_of(1024)
                        && Instant::now() > next_look
                    {
                        next_look += SPAN;
                        break;
                    }
                }
                (turns, stop, victim)
            };
            let builder = Builder::new();
            let builder = match mode {
                // SAFETY: it computes on its stack and reads an atomic; what it captured is returned.
                Mode::Switch => unsafe { builder.reentrant() },
                _ => builder,
            };
            builder.spawn(move |_| body()).expect("room")
        };
        let spinners = [spinner(0), spinner(1)];
        spinners.map(|spinner| spinner.join().expect("no panic").0).iter().sum()
    });
    let cpu_ns = cpu_ns() - begin;
    let counters = runtime.counters();
    clock.join().expect("no panic");
    sender.into_iter().for_each(|sender| sender.join().expect("no panic"));
    let preemptions = match mode {
        Mode::None => 0,
        Mode::Signal => HANDLED.load(Relaxed) - handled,
        Mode::Cooperative => counters.asked_to_yield,
        Mode::OsThread => counters.forced_preemptions,
        Mode::Switch => counters.fast_preemptions,
    };
    Measured { turns: turns as f64, cpu_ns, preemptions: preemptions as f64 }
}

fn run_mode(mode: Mode, slice: Duration) -> Measured {
    match mode {
        Mode::None | Mode::Signal => measure(NoPreempt, mode, slice),
        Mode::Cooperative => measure(Cooperative, mode, slice),
        Mode::OsThread | Mode::Switch => measure(Sigurg, mode, slice),
    }
}

/// A signal to oneself, ns.
fn bare_signal() -> f64 {
    const TIMES: u32 = 20_000;
    count_signals();
    let begin = Instant::now();
    for _ in 0..TIMES {
        // SAFETY: a signal to this OS thread, whose handler counts.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGUSR1) };
    }
    begin.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints the table.
pub fn run() -> Result<(), String> {
    const MODES: [(Mode, &str); 4] = [
        (Mode::Signal, "signals alone"),
        (Mode::Cooperative, "flag and safepoint"),
        (Mode::OsThread, "OS thread put to sleep"),
        (Mode::Switch, "stack switch"),
    ];
    const SLICES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(1)];
    let mut signals = Vec::new();
    // Cost of one in ns, loss in percent, preemptions a second.
    let mut found = vec![[Vec::new(), Vec::new(), Vec::new()]; MODES.len() * SLICES.len()];
    for _ in 0..ROUNDS {
        signals.push(bare_signal());
        for (index, (slice, (mode, _))) in
            SLICES.iter().flat_map(|slice| MODES.iter().map(move |mode| (slice, mode))).enumerate()
        {
            // The base before and after, since a machine changes its pace.
            let pace = |base: Measured| base.cpu_ns / base.turns;
            let before = pace(run_mode(Mode::None, *slice));
            let with = run_mode(*mode, *slice);
            let base = (before + pace(run_mode(Mode::None, *slice))) / 2.0;
            let more = with.cpu_ns - base * with.turns;
            found[index][0].push(more / with.preemptions);
            found[index][1].push(100.0 * more / with.cpu_ns);
            found[index][2].push(with.preemptions / SPAN.as_secs_f64());
        }
    }
    println!("bare signal to oneself: {:.2} µs", median(signals) / 1000.0);
    println!("{:24} {:>8} {:>14} {:>10} {:>8}", "mode", "slice", "CPU µs each", "loss, %", "a second");
    for (index, (slice, (_, name))) in
        SLICES.iter().flat_map(|slice| MODES.iter().map(move |mode| (slice, mode))).enumerate()
    {
        let [cost, loss, rate] = std::mem::take(&mut found[index]).map(median);
        println!("{name:24} {slice:>8.1?} {:>14.2} {loss:>10.2} {rate:>8.0}", cost / 1000.0);
    }
    Ok(())
}
