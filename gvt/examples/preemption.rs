//! Good and bad citizens: what a sleeper suffers when its only worker is kept busy by others.
//!
//!     cargo run --release -p gvt --example preemption
//!
//! One worker. One thread sleeps 1 ms again and again and notes how late it wakes. Beside it runs
//!
//! - nobody;
//! - a *good citizen*: it computes without end and says [`gvt::safepoint!`] in its loop;
//! - a *bad citizen*: it computes for 40 ms at a stretch, says nothing, and only then yields;
//! - a *reentrant* one: as bad, but spawned with `Builder::reentrant`, the promise that lets it be taken off
//!   by a stack switch and spares the OS thread.
//!
//! The same under each preemptor that comes with gvt. `NoPreempt` does nothing: both citizens hold the
//! worker as long as they like. `Cooperative` sets a flag: the good citizen steps back at its next safepoint,
//! the bad one cannot be reached. `Sigurg`, the default, then interrupts the bad one at whatever instruction
//! it is, and its worker goes on elsewhere.

mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gvt::{Cooperative, NoPreempt, Runtime, Sigurg};
use gvt_traits::{Factory, Plan, Preemptor, Strength};
use support::output::{self, say};
use support::{Checks, quantile};

const SLEEP: Duration = Duration::from_millis(1);
const STRETCH: Duration = Duration::from_millis(40);
/// How long each line of the table is measured for.
const SPAN: Duration = Duration::from_millis(600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Citizen {
    Nobody,
    Good,
    Bad,
    Reentrant,
}

const HELP: &str = "\
How late a sleeper wakes beside threads that keep the only worker busy, under each preemptor.

usage: preemption

Takes some seconds. What each preemptor promises is checked. Exit status: 0 if all hold, 1 if not.";

fn main() -> ExitCode {
    output::no_arguments(HELP);
    let mut checks = Checks::default();
    say!("a sleeper of {SLEEP:?} on one worker: by how much it wakes late, in µs\n");
    say!("{:12} {:15} {:>9} {:>9} {:>9} {:>7}", "preemptor", "beside", "median", "p99", "worst", "sleeps");
    let helpless = judge("NoPreempt", NoPreempt, None, &mut checks);
    judge("Cooperative", Cooperative, helpless, &mut checks);
    judge("Sigurg", Sigurg, helpless, &mut checks);
    checks.finish()
}

/// Measures all citizens under one preemptor and checks what its strength promises. `helpless` is what a
/// sleeper suffers, in the median, from citizens that nobody interrupts; returns the bad one's share.
fn judge<P>(name: &str, preemptor: P, helpless: Option<u64>, checks: &mut Checks) -> Option<u64>
where
    P: Factory<Output: Preemptor> + Clone,
{
    let strength = match preemptor.build(&Plan::new(1, 8)) {
        Ok(backend) => backend.strength(),
        Err(error) => {
            checks.check(false, format_args!("{name} is built: {error}"));
            return None;
        }
    };
    let all = [Citizen::Nobody, Citizen::Good, Citizen::Bad, Citizen::Reentrant];
    let [alone, good, bad, reentrant] = all.map(|citizen| {
        let late = measure(preemptor.clone(), citizen).unwrap_or_default();
        let beside = match citizen {
            Citizen::Nobody => "nobody",
            Citizen::Good => "a good citizen",
            Citizen::Bad => "a bad citizen",
            Citizen::Reentrant => "a reentrant one",
        };
        let us = |share| quantile(&late, share) as f64 / 1000.0;
        let count = late.len();
        say!("{name:12} {beside:15} {:9.0} {:9.0} {:9.0} {count:7}", us(0.5), us(0.99), us(1.0));
        checks.check(count > 0, format_args!("{name}: the sleeper beside {beside} wakes"));
        quantile(&late, 0.5)
    });
    say!(
        "{:12} {}\n",
        "",
        match strength {
            Strength::Never => "it never interrupts: both citizens keep the worker for as long as they like",
            Strength::AtSafepoints => "it interrupts at safepoints: only the bad citizen keeps the worker",
            Strength::Anywhere => "it interrupts anywhere: nobody keeps the worker",
        }
    );
    // Compared within one run, so that a slow or busy machine does not matter.
    checks.check(
        alone < bad || strength == Strength::Anywhere,
        format_args!("{name}: a sleeper is happiest alone"),
    );
    let helpless = helpless.unwrap_or(u64::MAX);
    if strength >= Strength::AtSafepoints {
        checks.check(good < helpless / 2, format_args!("{name}: a good citizen does not keep the worker"));
    }
    if strength == Strength::Anywhere {
        checks.check(bad < helpless / 2, format_args!("{name}: a bad citizen does not keep the worker"));
        checks.check(
            reentrant < helpless / 2,
            format_args!("{name}: a reentrant citizen does not keep the worker"),
        );
    }
    Some(bad)
}

/// How late the sleeper woke, ns, sorted.
fn measure<P>(preemptor: P, citizen: Citizen) -> Result<Vec<u64>, gvt::SchedError>
where
    P: Factory<Output: Preemptor>,
{
    let runtime = Runtime::builder().workers(1).max_gvthreads(8).preemptor(preemptor).build()?;
    runtime.block_on(|| {
        let over = Arc::new(AtomicBool::new(false));
        let other = {
            let over = over.clone();
            let mut builder = gvt::Builder::new();
            if citizen == Citizen::Reentrant {
                // SAFETY: `bad_citizen` computes, reads the clock and yields; the flag's count is given up by
                // whoever joins, since the closure returns it.
                builder = unsafe { builder.reentrant() };
            }
            builder.spawn(move |_| {
                match citizen {
                    Citizen::Nobody => {}
                    Citizen::Good => good_citizen(&over),
                    Citizen::Bad | Citizen::Reentrant => bad_citizen(&over),
                }
                over
            })?
        };
        let mut late = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < SPAN {
            let asleep = Instant::now();
            gvt::sleep(SLEEP);
            late.push((asleep.elapsed() - SLEEP).as_nanos() as u64);
        }
        over.store(true, Relaxed);
        let _ = other.join();
        late.sort_unstable();
        Ok(late)
    })
}

/// Computes a little; a few microseconds.
fn compute() {
    black_box((0..1000u64).fold(black_box(1u64), |x, i| x.wrapping_mul(31).wrapping_add(i)));
}

fn good_citizen(over: &AtomicBool) {
    // Under `NoPreempt` nobody ever asks it to step back, so it does so by itself now and then, lest
    // the sleeper wait for ever.
    let mut begin = Instant::now();
    while !over.load(Relaxed) {
        compute();
        gvt::safepoint!();
        if begin.elapsed() > STRETCH {
            gvt::yield_now();
            begin = Instant::now();
        }
    }
}

fn bad_citizen(over: &AtomicBool) {
    while !over.load(Relaxed) {
        let begin = Instant::now();
        while begin.elapsed() < STRETCH {
            compute();
        }
        gvt::yield_now();
    }
}
