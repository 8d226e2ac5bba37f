//! The first steps: spawn and join, panics, names and priorities, a scope, cancellation, sleeping.
//!
//!     cargo run --release -p gvt --example basic

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use gvt::{Builder, Priority, Runtime, SchedulerConfig};
use support::Checks;
use support::output::{self, complain, say};

const HELP: &str = "\
The first steps: spawn and join, panics, names and priorities, a scope, cancellation, sleeping.

usage: basic

Each step is checked. Exit status: 0 if all hold, 1 if not.";

fn main() -> ExitCode {
    output::no_arguments(HELP);
    let mut checks = Checks::default();
    let runtime = match Runtime::try_new(SchedulerConfig::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("{error}");
            return ExitCode::FAILURE;
        }
    };
    // `block_on` runs its closure as a green thread. It may borrow from this stack.
    runtime.block_on(|| {
        spawn_and_join(&mut checks);
        panics_come_out_of_join(&mut checks);
        names_and_priorities(&mut checks);
        borrowing(&mut checks);
        cancellation(&mut checks);
        sleeping(&mut checks);
    });
    checks.finish()
}

fn spawn_and_join(checks: &mut Checks) {
    say!("spawn and join");
    let threads: Vec<_> = (1..=10u64)
        .map(|i| {
            gvt::spawn(move |_token| {
                // A green thread is ordinary code. Where it waits, its worker runs others.
                gvt::yield_now();
                i * i
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum();
    say!("  1² + … + 10² = {sum}");
    checks.check(sum == 385, format_args!("ten threads add up to 385, not {sum}"));
}

fn panics_come_out_of_join(checks: &mut Checks) {
    say!("a panic stays in its thread");
    // Without a backtrace of what is meant to happen.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        say!("  the hook hears of it, at {}", info.location().expect("always there"))
    }));
    let outcome = gvt::spawn(|_| -> u32 { panic!("on purpose") }).join();
    std::panic::set_hook(hook);
    let text = outcome.as_ref().err().and_then(|payload| payload.downcast_ref::<&str>().copied());
    say!("  join returns {}", if outcome.is_err() { "Err" } else { "Ok" });
    checks.check(text == Some("on purpose"), "join returns the panic's payload");
}

fn names_and_priorities(checks: &mut Checks) {
    say!("a name and a priority");
    let thread = Builder::new()
        .name("indexer")
        .priority(Priority::Low)
        .spawn(|_| (gvt::current_name(), gvt::current_priority(), gvt::current_id()));
    match thread.map(|handle| handle.join()) {
        Ok(Ok((name, priority, id))) => {
            say!("  thread {id:?} is {name:?}, {priority:?}");
            checks.check(name.as_deref() == Some("indexer"), "a thread knows its name");
            checks.check(priority == Some(Priority::Low), "a thread knows its priority");
        }
        other => checks.check(false, format_args!("a named thread runs, not {other:?}")),
    }
}

fn borrowing(checks: &mut Checks) {
    say!("a scope's threads borrow");
    let mut halves = [0u64; 2];
    let numbers: Vec<u64> = (1..=1000).collect();
    let (left, right) = numbers.split_at(500);
    let [first, second] = &mut halves;
    gvt::scope(|scope| {
        scope.spawn(|_| *first = left.iter().sum());
        scope.spawn(|_| *second = right.iter().sum());
    });
    say!("  {} + {} = {}", halves[0], halves[1], halves[0] + halves[1]);
    checks.check(halves[0] + halves[1] == 500_500, "two halves add up to 500,500");
}

fn cancellation(checks: &mut Checks) {
    say!("cancelling a thread cancels those that it spawned");
    let parent = gvt::spawn(|token| {
        let child = gvt::spawn(|token| {
            let mut rounds = 0u64;
            while !token.is_cancelled() {
                rounds += 1;
                gvt::sleep_ms(1);
            }
            rounds
        });
        while !token.is_cancelled() {
            gvt::sleep_ms(1);
        }
        child.join().unwrap_or(0)
    });
    gvt::sleep_ms(20);
    parent.token().cancel();
    let rounds = parent.join();
    say!("  the child made {rounds:?} rounds and stopped");
    checks.check(rounds.is_ok_and(|rounds| rounds > 0), "the child ran until its parent was cancelled");
}

fn sleeping(checks: &mut Checks) {
    say!("a thousand threads sleep at once");
    let begin = Instant::now();
    let threads: Vec<_> = (0..1000).map(|_| gvt::spawn(|_| gvt::sleep(Duration::from_millis(50)))).collect();
    let woken = threads.into_iter().filter_map(|thread| thread.join().ok()).count();
    say!("  {woken} sleeps of 50 ms took {:.0?} together", begin.elapsed());
    checks.check(woken == 1000, "every sleeper wakes");
    checks.check(begin.elapsed() >= Duration::from_millis(50), "a sleep is never short");
}
