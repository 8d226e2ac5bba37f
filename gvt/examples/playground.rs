//! The main job: many green threads that each yield, or sleep, many times; every step is counted.
//!
//!     cargo run --release -p gvt --example playground
//!     GVT_WORKERS=2 GVT_GVTHREADS=20000 GVT_YIELDS=300 GVT_SLEEP_MS=100 \
//!         cargo run --release -p gvt --example playground
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `GVT_WORKERS` | workers in all | one a processor |
//! | `GVT_LOW_WORKERS` | how many of them run only Low threads | 0 |
//! | `GVT_GVTHREADS` | green threads | 20,000 |
//! | `GVT_YIELDS` | steps that each makes | 500 |
//! | `GVT_SLEEP_MS` | a step is a sleep of so many milliseconds; 0: a yield | 0 |
//! | `GVT_DEBUG` | 1: the runtime tells what it does, and each second how far the threads are | 0 |
//!
//! With low-priority workers every fourth thread is spawned as a Low one, so that they have something to
//! do. It ends with `*** SUCCESS ***`, or with what is missing and status 1; a value that cannot work is a
//! sentence and status 2. An OS thread watches, so that a lost thread ends the program instead of hanging it.

mod support;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{Builder, JoinHandle, Priority, Runtime, SchedError, SchedulerConfig};
use support::output::{self, complain, say};
use support::{ProcessUse, bytes, from_env, grouped};

/// Without a single step for so long, beyond the length of a sleep, threads are taken for lost.
const PATIENCE: Duration = Duration::from_secs(20);

struct Settings {
    workers: usize,
    low_workers: usize,
    threads: usize,
    steps: u32,
    sleep: Duration,
    debug: bool,
}

impl Settings {
    fn from_env() -> Result<Self, String> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from).min(64);
        Ok(Settings {
            workers: from_env("GVT_WORKERS", processors as u64, 1, 64)? as usize,
            low_workers: from_env("GVT_LOW_WORKERS", 0, 0, 63)? as usize,
            threads: from_env("GVT_GVTHREADS", 20_000, 1, 16_000_000)? as usize,
            steps: from_env("GVT_YIELDS", 500, 0, u32::MAX.into())? as u32,
            sleep: Duration::from_millis(from_env("GVT_SLEEP_MS", 0, 0, 86_400_000)?),
            debug: from_env("GVT_DEBUG", 0, 0, 1)? == 1,
        })
    }

    fn step_name(&self) -> String {
        if self.sleep.is_zero() { "yields".into() } else { format!("sleeps of {:?}", self.sleep) }
    }
}

const HELP: &str = "\
The main job: many green threads that each yield, or sleep, many times; every step is counted.

usage: [VARIABLE=VALUE...] playground

  GVT_WORKERS       workers in all                            one a processor
  GVT_LOW_WORKERS   how many of them run only Low threads     0
  GVT_GVTHREADS     green threads                             20,000
  GVT_YIELDS        steps that each makes                     500
  GVT_SLEEP_MS      a step sleeps so long; 0: it yields       0
  GVT_DEBUG         1: says what the runtime does             0

Exit status: 0, or 1 if a step is missing, or 2 for a value that cannot work.";

fn main() -> ExitCode {
    output::no_arguments(HELP);
    let settings = match Settings::from_env() {
        Ok(settings) => Arc::new(settings),
        Err(sentence) => return refuse(&sentence),
    };
    let config = SchedulerConfig::default()
        .num_workers(settings.workers)
        .num_low_priority_workers(settings.low_workers)
        // One more: the closure of `block_on` is a green thread too.
        .max_gvthreads(settings.threads + 1)
        .debug_logging(settings.debug);
    let runtime = match Runtime::try_new(config) {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.to_string()),
    };
    say!(
        "{} green threads x {} {}, {} workers ({} of them for Low threads only)",
        grouped(settings.threads as u64),
        grouped(settings.steps.into()),
        settings.step_name(),
        settings.workers,
        settings.low_workers,
    );

    let counts: Arc<[AtomicU32]> = (0..settings.threads).map(|_| AtomicU32::new(0)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (settings, counts, over) = (settings.clone(), counts.clone(), over.clone());
        std::thread::spawn(move || watch(&settings, &counts, &over))
    };
    let before = ProcessUse::now();
    let begin = Instant::now();
    let outcome = runtime.block_on(|| run(&settings, &counts));
    let elapsed = begin.elapsed();
    let used = ProcessUse::now();
    over.store(true, Relaxed);
    watch.thread().unpark();
    let _ = watch.join();
    let os_threads = runtime.os_threads();
    drop(runtime);

    if let Err(error) = outcome {
        return missing(&counts, settings.steps, &error);
    }
    let steps = settings.threads as u64 * u64::from(settings.steps);
    let cpu = used.cpu.saturating_sub(before.cpu);
    say!("  wall time  {:.2} s", elapsed.as_secs_f64());
    say!("  CPU time   {:.2} s on {os_threads} OS threads", cpu.as_secs_f64());
    if settings.steps > 0 {
        let each = cpu.as_nanos() as f64 / steps as f64;
        say!(
            "  each step  {each:.0} ns of CPU time, {:.1} M a second",
            steps as f64 / elapsed.as_secs_f64() / 1e6
        );
    }
    let most = used.most_resident + used.page_tables;
    say!("  memory     {} at the most, of it page tables {}", bytes(most), bytes(used.page_tables));
    let lost = lost(&counts, settings.steps);
    if lost.is_empty() {
        say!("  counted    {} of {} steps", grouped(steps), grouped(steps));
        say!("*** SUCCESS ***");
        ExitCode::SUCCESS
    } else {
        missing(&counts, settings.steps, "threads ended early")
    }
}

/// Spawns all threads and waits for them.
fn run(settings: &Arc<Settings>, counts: &Arc<[AtomicU32]>) -> Result<(), String> {
    let mut threads = Vec::with_capacity(settings.threads);
    for index in 0..settings.threads {
        match spawn(settings, counts, index) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                return Err(format!("thread {} could not be spawned: {error}", grouped(index as u64)));
            }
        }
    }
    for (index, thread) in threads.into_iter().enumerate() {
        if thread.join().is_err() {
            return Err(format!("thread {} panicked", grouped(index as u64)));
        }
    }
    Ok(())
}

fn spawn(
    settings: &Arc<Settings>,
    counts: &Arc<[AtomicU32]>,
    index: usize,
) -> Result<JoinHandle<()>, SchedError> {
    let low = settings.low_workers > 0 && index % 4 == 3;
    let (steps, sleep, counts) = (settings.steps, settings.sleep, counts.clone());
    let body = move |_: &gvt::CancellationToken| {
        for done in 1..=steps {
            if sleep.is_zero() {
                gvt::yield_now();
            } else {
                gvt::sleep(sleep);
            }
            // Relaxed: this thread alone writes it; `join` orders it before the check.
            counts[index].store(done, Relaxed);
        }
    };
    if low { Builder::new().priority(Priority::Low).spawn(body) } else { gvt::try_spawn(body) }
}

/// How many threads lack steps, and how many steps that is, with the first few of the threads.
#[derive(Debug)]
struct Lost {
    threads: u64,
    steps: u64,
    first: Vec<String>,
}

impl Lost {
    fn is_empty(&self) -> bool {
        self.threads == 0
    }
}

fn lost(counts: &[AtomicU32], steps: u32) -> Lost {
    let mut lost = Lost { threads: 0, steps: 0, first: Vec::new() };
    for (index, count) in counts.iter().enumerate() {
        let count = count.load(Relaxed);
        if count != steps {
            lost.threads += 1;
            lost.steps += u64::from(steps.abs_diff(count));
            if lost.first.len() < 5 {
                lost.first.push(format!("thread {index} made {count} of {steps}"));
            }
        }
    }
    lost
}

fn missing(counts: &[AtomicU32], steps: u32, why: &str) -> ExitCode {
    let lost = lost(counts, steps);
    complain!("MISSING: {} steps of {} threads ({why})", grouped(lost.steps), grouped(lost.threads));
    lost.first.iter().for_each(|line| complain!("  {line}"));
    ExitCode::FAILURE
}

fn refuse(sentence: &str) -> ExitCode {
    complain!("playground: {sentence}");
    ExitCode::from(2)
}

/// Looks once a second how far the threads are; ends the program when they stand still.
fn watch(settings: &Settings, counts: &[AtomicU32], over: &AtomicBool) {
    let all = settings.threads as u64 * u64::from(settings.steps);
    let bar = support::progress(all, "  {bar:40} {percent}% of {human_len} steps, {eta} left");
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        std::thread::park_timeout(Duration::from_secs(1));
        if over.load(Relaxed) {
            bar.finish_and_clear();
            return;
        }
        let done: u64 = counts.iter().map(|count| u64::from(count.load(Relaxed))).sum();
        if std::io::stderr().is_terminal() {
            bar.set_position(done);
        }
        if settings.debug {
            complain!("  {} of {} steps", grouped(done), grouped(all));
        }
        if done != last {
            (last, moved) = (done, Instant::now());
        } else if settings.steps > 0 && moved.elapsed() > PATIENCE + 2 * settings.sleep {
            missing(counts, settings.steps, "no thread has made a step for long");
            std::process::exit(1);
        }
    }
}
