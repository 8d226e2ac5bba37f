//! `FifoQueue` against `GoQueue` where the order matters, and where the cost does.
//!
//!     cargo run --release
//!
//! *Turns*: pairs of threads send each other messages while one bystander yields. `GoQueue` lets a woken
//! thread run next, for its data is in the cache: the pairs take several turns in a row, and the bystander
//! waits. With `FifoQueue` everybody has one turn a round. What is counted is turns, not time, so every
//! machine says the same.
//!
//! *Cost*: what a yield takes. `FifoQueue` takes a lock for each push and each pop, and workers share it.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{GoQueue, NoPreempt, Runtime, channel, spawn, yield_now};
use gvt_traits::{Factory, ReadyQueue};
use own_queue::FifoQueue;

const PAIRS: usize = 4;
const ROUNDS: usize = 2_000;

fn runtime<Q: Factory<Output: ReadyQueue>>(
    workers: usize,
    queue: Q,
) -> Runtime<Q, gvt::HeapTimer, NoPreempt> {
    let builder = Runtime::builder().workers(workers).queue(queue).preemptor(NoPreempt);
    builder.build().expect("an ordinary runtime")
}

/// How many turns of others lay between two of the bystander's, sorted.
fn turns(queue: impl Factory<Output: ReadyQueue>) -> Vec<u64> {
    runtime(1, queue).block_on(|| {
        let messages = Arc::new(AtomicU64::new(0));
        let pairs: Vec<_> = (0..PAIRS)
            .map(|_| {
                let ((there, at_echo), (back, at_home)) = (channel::<()>(1), channel::<()>(1));
                let echo = spawn(move |_| while at_echo.recv().is_ok() && back.send(()).is_ok() {});
                let counted = messages.clone();
                let caller = spawn(move |token| {
                    while !token.is_cancelled() && there.send(()).is_ok() && at_home.recv().is_ok() {
                        // There and back: a turn of each.
                        counted.fetch_add(2, Relaxed);
                    }
                });
                (caller, echo)
            })
            .collect();
        let mut waits: Vec<u64> = (0..ROUNDS)
            .map(|_| {
                let before = messages.load(Relaxed);
                yield_now();
                messages.load(Relaxed) - before
            })
            .collect();
        for (caller, echo) in pairs {
            caller.token().cancel();
            caller.join().expect("no panic");
            echo.join().expect("no panic");
        }
        waits.sort_unstable();
        waits
    })
}

/// Nanoseconds a yield among 100 threads; the median of five.
fn cost(workers: usize, queue: impl Factory<Output: ReadyQueue>) -> u64 {
    let runtime = runtime(workers, queue);
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            runtime.block_on(|| {
                let threads: Vec<_> =
                    (0..100).map(|_| spawn(|_| (0..2_000).for_each(|_| yield_now()))).collect();
                threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            });
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[2].as_nanos() as u64 / 200_000
}

const HELP: &str = "\
FifoQueue against GoQueue: turns between two turns of a bystander, and ns a yield.

usage: own_queue

Exit status: 0, or 1 if the output cannot be written, or 2 for a bad call.";

fn main() -> ExitCode {
    let outcome = match std::env::args_os().nth(1) {
        None => compare(&mut io::stdout()),
        Some(flag) if flag == "--help" || flag == "-h" => writeln!(io::stdout(), "{HELP}"),
        Some(argument) => {
            let _ =
                writeln!(io::stderr(), "own_queue: {argument:?} is one argument too many; --help says more");
            return ExitCode::from(2);
        }
    };
    match outcome {
        // Where the reader has gone (`| head -1`), nobody wants more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "own_queue: the output cannot be written: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn compare(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "others' turns between two turns of a bystander, {PAIRS} pairs, 1 worker:")?;
    let (fifo, go) = (turns(FifoQueue), turns(GoQueue));
    for (name, waits) in [("FifoQueue", &fifo), ("GoQueue", &go)] {
        let mean = waits.iter().sum::<u64>() as f64 / waits.len() as f64;
        let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        writeln!(out, "  {name:10} mean {mean:6.1}  median {median:4}  most {most:4}")?;
    }
    let best = |a: u64, b: u64| if a <= b { "FifoQueue" } else { "GoQueue" };
    writeln!(out, "  who waits least: {}", best(fifo[fifo.len() - 1], go[go.len() - 1]))?;

    assert!(fifo[fifo.len() - 1] <= 2 * PAIRS as u64, "with FifoQueue everybody has one turn a round");

    writeln!(out, "a yield among 100 threads, ns:")?;
    for workers in [1, 2] {
        let (fifo, go) = (cost(workers, FifoQueue), cost(workers, GoQueue));
        writeln!(
            out,
            "  {workers} workers: FifoQueue {fifo:5}  GoQueue {go:5}  cheaper: {}",
            best(fifo, go)
        )?;
    }
    Ok(())
}
