//! Very many threads at once: spawned, parked, woken, joined, each step timed, memory weighed.
//!
//!     cargo run --release -p gvt --example stress              # 100,000
//!     cargo run --release -p gvt --example stress -- 1000000   # a million
//!     cargo run --release -p gvt --example stress -- 100000 --stack-kib 16384 --workers 2
//!     cargo run --release -p gvt --example stress -- 100000 --stack-kib 64,256,16384  # in turn
//!
//! Without an argument `GVT_STRESS_THREADS`, `GVT_STACK_KIB` and `GVT_WORKERS` say the same.
//!
//! Each thread counts itself in and waits for a message on one channel. When all wait, memory is weighed:
//! resident pages and page tables, over the threads. Then the channel is closed, which wakes all. The last
//! line is for machines: JSON, times in ns a thread, memory in bytes a thread.
//!
//! Stacks are of 64 KiB unless told otherwise. With the runtime's default of 16 MiB each thread costs 4 KiB
//! of page tables more.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{Builder, Memory, MmapSlots, Runtime};
use indicatif::ProgressBar;
use support::output::{self, complain, say};
use support::{Checks, ProcessUse, available_memory, bytes, from_env, grouped, parse, settles};

struct Settings {
    threads: u64,
    /// The sizes that threads ask for, in turn.
    stacks_kib: Vec<u64>,
    workers: usize,
}

const USAGE: &str = "usage: stress [THREADS] [--stack-kib KIB[,KIB...]] [--workers N]";

const HELP: &str = "\
Very many threads at once: spawned, parked, woken, joined, each step timed, memory weighed.

usage: stress [THREADS] [--stack-kib KIB[,KIB...]] [--workers N]

  THREADS       green threads; or GVT_STRESS_THREADS              100,000
  --stack-kib   sizes of stacks, in turn; or GVT_STACK_KIB        64
  --workers     workers; or GVT_WORKERS                           one a processor

The last line is JSON: ns and bytes a thread. Exit status: 0, or 1 if a check failed, or 2 for a bad call.";

const MOST_THREADS: u64 = 16_000_000;

fn sizes(what: &str, text: &str) -> Result<Vec<u64>, String> {
    let sizes = text.split(',').map(|size| parse(what, size, 64, 64 << 10)).collect::<Result<Vec<_>, _>>()?;
    match sizes.iter().find(|size| !size.is_power_of_two()) {
        Some(size) => Err(format!("{what} is {size}; give powers of two")),
        None if sizes.len() > 7 => Err(format!("{what} has {} sizes; give seven at the most", sizes.len())),
        None => Ok(sizes),
    }
}

fn settings() -> Result<Settings, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(64);
    let mut settings = Settings {
        threads: from_env("GVT_STRESS_THREADS", 100_000, 1, MOST_THREADS)?,
        stacks_kib: sizes("GVT_STACK_KIB", &std::env::var("GVT_STACK_KIB").unwrap_or("64".into()))?,
        workers: from_env("GVT_WORKERS", processors as u64, 1, 64)? as usize,
    };
    let mut arguments = output::arguments(HELP).map(|text| text.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--stack-kib" => settings.stacks_kib = sizes("--stack-kib", &value()?)?,
            "--workers" => settings.workers = parse("--workers", &value()?, 1, 64)? as usize,
            flag if flag.starts_with('-') => return Err(format!("{flag} is no option; {USAGE}")),
            number => settings.threads = parse("the number of threads", number, 1, MOST_THREADS)?,
        }
    }
    // Two pages and their tables: what a parked thread touches. Better a sentence than the kernel's axe.
    let cost = |&size: &u64| if size < 2048 { 4_800 } else { 8_900 };
    let wanted = settings.threads * settings.stacks_kib.iter().map(cost).sum::<u64>()
        / settings.stacks_kib.len() as u64;
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
            complain!("stress: {sentence}");
            return ExitCode::from(2);
        }
    };
    let stacks: Vec<usize> = settings.stacks_kib.iter().map(|kib| (kib << 10) as usize).collect();
    let runtime = Runtime::builder()
        .workers(settings.workers)
        .max_gvthreads(settings.threads as usize + 1)
        .slots(MmapSlots::default().slot_size(stacks[0]).classes(&stacks[1..]))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("stress: {error}");
            return ExitCode::from(2);
        }
    };
    say!(
        "{} green threads on {} workers, stacks of {:?} KiB",
        grouped(settings.threads),
        settings.workers,
        settings.stacks_kib
    );
    let mut checks = Checks::default();
    let report = runtime.block_on(|| run(settings.threads, &stacks, &runtime, &mut checks));
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
    /// While all waited.
    memory: Memory,
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
            say!("  {name:6} {:8.3} s  {:6} ns each  {what}", time.as_secs_f64(), each(time));
        }
        say!("  CPU    {:8.3} s", self.cpu.as_secs_f64());
        say!(
            "  memory {} a parked thread: {} resident, {} page tables",
            grouped((self.resident + self.page_tables) / threads),
            grouped(self.resident / threads),
            grouped(self.page_tables / threads)
        );
        for stack in self.memory.stacks.iter().filter(|stack| stack.bound > 0) {
            say!(
                "         {} in {} KiB: {} resident, {} of address space",
                grouped(stack.bound as u64),
                grouped(stack.slot_size as u64 >> 10),
                stack.resident.map_or("?".into(), |resident| bytes(resident as u64)),
                bytes(stack.bytes_reserved as u64)
            );
        }
        say!(
            "{{\"example\":\"stress\",\"threads\":{threads},\"workers\":{},\"stack_kib\":{:?},\"spawn_ns\":{},\"park_ns\":{},\
             \"wake_ns\":{},\"join_ns\":{},\"cpu_ns\":{},\"resident_bytes\":{},\"page_table_bytes\":{}}}",
            settings.workers,
            settings.stacks_kib,
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

fn run(threads: u64, stacks: &[usize], runtime: &Runtime, checks: &mut Checks) -> Option<Report> {
    let counts = Arc::new(Counts::default());
    let (gate, waiting) = gvt::channel::<()>(1);
    let mut handles = Vec::with_capacity(threads as usize);
    let before = ProcessUse::now();
    let begin = Instant::now();

    let bar = support::progress(threads, "  spawn {bar:40} {human_pos} of {human_len}");
    for number in 0..threads {
        let (counts, waiting) = (counts.clone(), waiting.clone());
        let stack = if stacks.len() == 1 { 0 } else { stacks[number as usize % stacks.len()] };
        let spawned = Builder::new().stack_size(stack).spawn(move |_| {
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
    let memory = runtime.memory();
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
        memory,
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
