//! Very many threads at once: spawned, parked, woken, joined, each step timed, memory weighed.
//!
//!     cargo run --release -p gvt --example stress              # 100,000
//!     cargo run --release -p gvt --example stress -- 1000000   # a million
//!     cargo run --release -p gvt --example stress -- 100000 --slot-kib 16384 --workers 2
//!
//! Each thread counts itself in and waits for a message on one channel. When all wait, memory is weighed:
//! resident pages and page tables, over the threads. Then the channel is closed, which wakes all. The last line is for
//! machines: `stress` and `name=value` pairs, times in ns a thread, memory in bytes a thread.
//!
//! Slots are of 64 KiB unless told otherwise. With the runtime's default of 16 MiB each thread costs 4 KiB of page
//! tables more.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{MmapSlots, Runtime};
use indicatif::ProgressBar;
use support::{Checks, ProcessUse, available_memory, bytes, grouped, parse, settles};

struct Settings {
    threads: u64,
    slot_kib: u64,
    workers: usize,
}

const USAGE: &str = "usage: stress [THREADS] [--slot-kib KIB] [--workers N]";

fn settings() -> Result<Settings, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(64);
    let mut settings = Settings { threads: 100_000, slot_kib: 64, workers: processors };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--slot-kib" => settings.slot_kib = parse("--slot-kib", &value()?, 64, 64 << 20)?,
            "--workers" => settings.workers = parse("--workers", &value()?, 1, 64)? as usize,
            "--help" | "-h" => return Err(USAGE.into()),
            number => settings.threads = parse("the number of threads", number, 1, 16_000_000)?,
        }
    }
    // Two pages and their tables: what a parked thread touches. Better a sentence than the kernel's axe.
    let per_thread = if settings.slot_kib < 2048 { 5 << 10 } else { 9 << 10 };
    let wanted = settings.threads * per_thread;
    match available_memory() {
        Some(free) if wanted > free => Err(format!(
            "{} parked threads need about {}, and the system has {} to give; ask for fewer",
            grouped(settings.threads),
            bytes(wanted),
            bytes(free)
        )),
        _ => Ok(settings),
    }
}

fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(sentence) => {
            eprintln!("stress: {sentence}");
            return ExitCode::from(2);
        }
    };
    let runtime = Runtime::builder()
        .workers(settings.workers)
        .max_gvthreads(settings.threads as usize + 1)
        .slots(MmapSlots::default().slot_size((settings.slot_kib << 10) as usize))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("stress: {error}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{} green threads on {} workers, slots of {} KiB",
        grouped(settings.threads),
        settings.workers,
        settings.slot_kib
    );
    let mut checks = Checks::default();
    let report = runtime.block_on(|| run(settings.threads, &mut checks));
    checks.check(settles(&runtime), "no thread is left");
    if let Some(report) = report {
        report.print(&settings);
    }
    checks.finish()
}

/// What each step took, and what the parked threads weigh.
struct Report {
    spawn: Duration,
    park: Duration,
    wake: Duration,
    join: Duration,
    cpu: Duration,
    resident: u64,
    page_tables: u64,
}

impl Report {
    fn print(&self, settings: &Settings) {
        let threads = settings.threads;
        let each = |time: Duration| (time.as_nanos() / u128::from(threads)) as u64;
        let steps = [
            ("spawn", self.spawn, "until the last is spawned; some have run by then"),
            ("park", self.park, "until the last has run for the first time and waits"),
            ("wake", self.wake, "until the last is awake again"),
            ("join", self.join, "until the last has been joined"),
        ];
        for (name, time, what) in steps {
            println!("  {name:6} {:8.3} s  {:6} ns each  {what}", time.as_secs_f64(), each(time));
        }
        println!("  CPU    {:8.3} s", self.cpu.as_secs_f64());
        println!(
            "  memory {} a parked thread: {} resident, {} page tables",
            grouped((self.resident + self.page_tables) / threads),
            grouped(self.resident / threads),
            grouped(self.page_tables / threads)
        );
        println!(
            "stress threads={threads} workers={} slot_kib={} spawn_ns={} park_ns={} wake_ns={} join_ns={} cpu_ns={} \
             resident_bytes={} page_table_bytes={}",
            settings.workers,
            settings.slot_kib,
            each(self.spawn),
            each(self.park),
            each(self.wake),
            each(self.join),
            each(self.cpu),
            self.resident / threads,
            self.page_tables / threads,
        );
    }
}

/// How many threads have got how far.
#[derive(Default)]
struct Counts {
    parked: AtomicU64,
    woken: AtomicU64,
}

fn run(threads: u64, checks: &mut Checks) -> Option<Report> {
    let counts = Arc::new(Counts::default());
    let (gate, waiting) = gvt::channel::<()>(1);
    let mut handles = Vec::with_capacity(threads as usize);
    let before = ProcessUse::now();
    let begin = Instant::now();

    let bar = support::progress(threads, "  spawn {bar:40} {human_pos} of {human_len}");
    for number in 0..threads {
        let (counts, waiting) = (counts.clone(), waiting.clone());
        let spawned = gvt::try_spawn(move |_| {
            // Relaxed: gauges; `join` orders what is checked in the end.
            counts.parked.fetch_add(1, Relaxed);
            let closed = waiting.recv().is_err();
            counts.woken.fetch_add(1, Relaxed);
            closed
        });
        match spawned {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                checks.check(false, format_args!("thread {} is spawned: {error}", grouped(number)));
                drop(gate);
                return None;
            }
        }
        if number.is_multiple_of(4096) {
            bar.set_position(number);
        }
    }
    bar.finish_and_clear();
    let spawned = Instant::now();

    wait_for(&counts.parked, threads, "park ");
    let parked = Instant::now();
    let weighed = ProcessUse::now();
    checks.check(!handles.iter().any(|handle| handle.is_finished()), "every thread waits");

    let wake = Instant::now();
    drop(gate);
    wait_for(&counts.woken, threads, "wake ");
    let woken = Instant::now();

    let bar = support::progress(threads, "  join {bar:40} {human_pos} of {human_len}");
    let mut right = 0;
    for (number, handle) in handles.into_iter().enumerate() {
        right += u64::from(handle.join().is_ok_and(|closed| closed));
        if number.is_multiple_of(4096) {
            bar.set_position(number as u64);
        }
    }
    bar.finish_and_clear();
    let joined = Instant::now();
    checks.check(right == threads, format_args!("{threads} threads end as they should, not {right}"));
    Some(Report {
        spawn: spawned - begin,
        park: parked - spawned,
        wake: woken - wake,
        join: joined - woken,
        cpu: ProcessUse::now().cpu - before.cpu,
        resident: weighed.resident.saturating_sub(before.resident),
        page_tables: weighed.page_tables.saturating_sub(before.page_tables),
    })
}

/// Steps back until `count` is `all`.
fn wait_for(count: &AtomicU64, all: u64, step: &str) {
    let bar: ProgressBar =
        support::progress(all, &format!("  {step} {{bar:40}} {{human_pos}} of {{human_len}}"));
    let mut rounds = 0u64;
    loop {
        let now = count.load(Relaxed);
        if now == all {
            break;
        }
        rounds += 1;
        if rounds.is_multiple_of(1024) {
            bar.set_position(now);
        }
        // Not a busy wait on one worker: everything else that is ready runs first.
        gvt::yield_now();
    }
    bar.finish_and_clear();
}
