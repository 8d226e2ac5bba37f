//! Quick figures of this machine: what the common operations cost.
//!
//!     cargo run --release -p gvt --example benchmark
//!
//! Each line is the median of nine rounds in one process; the spread beside it says how far to trust it.
//! These are for orientation. Comparisons with other runtimes need interleaved processes: see the `bench`
//! package of the repository.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvt::{MmapSlots, Runtime, SchedMutex, channel, spawn, yield_now};
use support::output::{self, say};
use support::{Checks, quantile, settles};

const ROUNDS: usize = 9;

const HELP: &str = "\
Quick figures of this machine: what yields, spawns, channels and locks cost, in ns.

usage: benchmark

Each line is the median of nine rounds, with the least and the most beside it. Exit status: 0, or 1 if a
check failed.";

fn main() -> ExitCode {
    output::no_arguments(HELP);
    let mut checks = Checks::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(64);
    say!("{:44} {:>8} {:>9} {:>16}", "", "workers", "ns", "least to most");
    for (what, workers, operations, round) in [
        ("yield among 2 threads", 1, 400_000, yields::<2> as fn(u64)),
        ("yield among 1,000 threads", 1, 400_000, yields::<1000>),
        ("spawn and join, one at a time", 1, 100_000, spawn_and_join),
        ("spawn 10,000, then join all", 1, 100_000, spawn_many),
        ("spawn 10,000, then join all", workers, 100_000, spawn_many),
        ("ping-pong over two channels, a round trip", 1, 100_000, ping_pong),
        ("channel, 1 to 1, room for 1,024, a message", workers, 200_000, one_to_one),
        ("mutex, nobody else wants it, lock and unlock", 1, 1_000_000, lock_alone),
        ("mutex, 8 threads want it, lock and unlock", workers, 200_000, lock_crowded),
        ("safepoint", 1, 5_000_000, safepoints),
    ] {
        measure(what, workers, operations, round, &mut checks);
    }
    checks.finish()
}

fn measure(what: &str, workers: usize, operations: u64, round: fn(u64), checks: &mut Checks) {
    let slots = MmapSlots::default().slot_size(64 << 10);
    let runtime = match Runtime::builder().workers(workers).slots(slots).build() {
        Ok(runtime) => runtime,
        Err(error) => return checks.check(false, format_args!("{what}: {error}")),
    };
    // The first round warms stacks and caches.
    runtime.block_on(|| round(operations));
    let mut times: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let time: Duration = runtime.block_on(|| {
                let begin = Instant::now();
                round(operations);
                begin.elapsed()
            });
            time.as_nanos() as u64 * 10 / operations
        })
        .collect();
    times.sort_unstable();
    let ns = |share| quantile(&times, share) as f64 / 10.0;
    let spread = format!("{:.1} to {:.1}", ns(0.0), ns(1.0));
    say!("{what:44} {workers:8} {:9.1} {spread:>16}", ns(0.5));
    checks.check(settles(&runtime), format_args!("{what}: all threads have ended"));
}

fn yields<const THREADS: u64>(operations: u64) {
    let threads: Vec<_> =
        (0..THREADS).map(|_| spawn(move |_| (0..operations / THREADS).for_each(|_| yield_now()))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn spawn_and_join(operations: u64) {
    for i in 0..operations {
        assert_eq!(spawn(move |_| i).join().unwrap(), i);
    }
}

fn spawn_many(operations: u64) {
    for _ in 0..operations / 10_000 {
        let threads: Vec<_> = (0..10_000u64).map(|i| spawn(move |_| i)).collect();
        let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sum, 10_000 * 9_999 / 2);
    }
}

fn ping_pong(operations: u64) {
    let (ping, pinged) = channel(1);
    let (pong, ponged) = channel(1);
    let other = spawn(move |_| {
        while let Ok(value) = pinged.recv() {
            let _ = pong.send(value);
        }
    });
    for i in 0..operations {
        ping.send(i).unwrap();
        assert_eq!(ponged.recv(), Ok(i));
    }
    drop(ping);
    other.join().unwrap();
}

fn one_to_one(operations: u64) {
    let (sender, receiver) = channel(1024);
    let producer = spawn(move |_| (0..operations).for_each(|i| sender.send(i).unwrap()));
    assert_eq!(receiver.iter().sum::<u64>(), operations * (operations - 1) / 2);
    producer.join().unwrap();
}

fn lock_alone(operations: u64) {
    let total = SchedMutex::new(0);
    for _ in 0..operations {
        *total.lock() += 1;
    }
    assert_eq!(total.into_inner(), operations);
}

fn lock_crowded(operations: u64) {
    let total = Arc::new(SchedMutex::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let total = total.clone();
            spawn(move |_| (0..operations / 8).for_each(|_| *total.lock() += 1))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*total.lock(), operations);
}

fn safepoints(operations: u64) {
    for _ in 0..operations {
        gvt::safepoint!();
    }
}
