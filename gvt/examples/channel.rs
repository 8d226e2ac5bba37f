//! Channels: producers and consumers, trying, closing, a pipeline with back-pressure, the first of several,
//! cancelling.
//!
//!     cargo run --release -p gvt --example channel

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use gvt::{Runtime, SchedulerConfig, channel, spawn};
use support::output::{self, complain, say};
use support::{Checks, grouped};

const HELP: &str = "\
Channels: producers and consumers, trying, closing, a pipeline, the first of several, cancelling.

usage: channel

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
    runtime.block_on(|| {
        producers_and_consumers(&mut checks);
        trying(&mut checks);
        pipeline(&mut checks);
        the_first_of_several(&mut checks);
        cancelling(&mut checks);
    });
    from_outside(&runtime, &mut checks);
    checks.finish()
}

/// Every message arrives once, whoever sends and whoever receives.
fn producers_and_consumers(checks: &mut Checks) {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = 50_000;
    say!("4 producers, 4 consumers, room for 64");
    let begin = Instant::now();
    let (sender, receiver) = channel(64);
    for producer in 0..PRODUCERS {
        let sender = sender.clone();
        // A full channel parks the thread, not its worker.
        spawn(move |_| (0..EACH).try_for_each(|i| sender.send(producer * EACH + i)));
    }
    // The channel ends when its last sender is gone.
    drop(sender);
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let receiver = receiver.clone();
            spawn(move |_| {
                let (mut count, mut sum) = (0u64, 0u64);
                while let Ok(value) = receiver.recv() {
                    count += 1;
                    sum += value;
                }
                (count, sum)
            })
        })
        .collect();
    let totals: Vec<(u64, u64)> = consumers.into_iter().filter_map(|consumer| consumer.join().ok()).collect();
    let (count, sum) = totals.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let messages = PRODUCERS * EACH;
    let each = begin.elapsed().as_nanos() as u64 / messages;
    say!("  {} messages, {each} ns each", grouped(count));
    checks.check(count == messages, format_args!("{messages} messages arrive, not {count}"));
    checks.check(sum == messages * (messages - 1) / 2, "each message arrives once");
}

/// `try_send` and `try_recv` never wait; what could not be sent comes back.
fn trying(checks: &mut Checks) {
    say!("trying");
    let (sender, receiver) = channel(1);
    checks.check(receiver.try_recv().is_err(), "an empty channel has nothing");
    checks.check(sender.try_send("first").is_ok(), "there is room for one");
    match sender.try_send("second") {
        Ok(()) => checks.check(false, "a full channel refuses"),
        Err(refused) => say!("  refused: {refused}"),
    }
    checks.check(receiver.try_recv().is_ok_and(|value| value == "first"), "the first is there");
    drop(receiver);
    match sender.send("third") {
        Ok(()) => checks.check(false, "a channel without receivers refuses"),
        Err(refused) => {
            say!("  refused: {refused}");
            checks.check(refused.0 == "third", "what was refused comes back");
        }
    }
}

/// Three stages; small channels keep a fast stage from running away.
fn pipeline(checks: &mut Checks) {
    say!("a pipeline of three stages");
    let (numbers, unsquared) = channel(8);
    let (squares, unsummed) = channel(8);
    spawn(move |_| (1..=1000u64).try_for_each(|i| numbers.send(i)));
    spawn(move |_| unsquared.iter().try_for_each(|i| squares.send(i * i)));
    let sum: u64 = unsummed.iter().sum();
    say!("  1² + … + 1000² = {}", grouped(sum));
    checks.check(sum == 333_833_500, "the pipeline adds up");
}

/// `select!` waits for whichever channel is ready first, or for a limit.
fn the_first_of_several(checks: &mut Checks) {
    say!("the first of several");
    let (quick, from_quick) = channel(1);
    let (slow, from_slow) = channel(1);
    // Senders stay here as well: a channel without any is always ready, to say so.
    let (to_quick, to_slow) = (quick.clone(), slow.clone());
    spawn(move |_| to_quick.send("quick"));
    spawn(move |_| {
        gvt::sleep_ms(20);
        to_slow.send("slow")
    });
    let limit = gvt::channel::after(Duration::from_secs(10));
    let mut heard = Vec::new();
    while heard.len() < 2 {
        gvt::select! {
            recv(from_quick) -> message => heard.extend(message),
            recv(from_slow) -> message => heard.extend(message),
            recv(limit) -> _ => break,
        }
    }
    drop((quick, slow));
    say!("  heard {heard:?}");
    checks.check(heard == ["quick", "slow"], "each is heard once, the quick one first");
}

/// A thread that waits is not reached by its token: close its channel, or let it look now and then.
fn cancelling(checks: &mut Checks) {
    say!("cancelling a consumer");
    let (sender, receiver) = channel::<u32>(8);
    let consumer = spawn(move |token| {
        let mut seen = 0;
        while !token.is_cancelled() {
            match receiver.recv_timeout(Duration::from_millis(5)) {
                Ok(_) => seen += 1,
                Err(error) if error.is_timeout() => {}
                Err(_) => break,
            }
        }
        seen
    });
    let sent = (0..3).filter(|&i| sender.send(i).is_ok()).count();
    gvt::sleep_ms(20);
    consumer.token().cancel();
    let seen = consumer.join().unwrap_or(0);
    say!("  it saw {seen} messages and stopped, with its channel still open");
    checks.check(seen == sent, "messages from before the cancellation are seen");
}

/// OS threads may use the same channel; they block, green threads park.
fn from_outside(runtime: &Runtime, checks: &mut Checks) {
    say!("an OS thread asks, a green thread answers");
    let (questions, asked) = channel::<u64>(1);
    let (answers, answered) = channel::<u64>(1);
    runtime.handle().spawn(move |_| asked.iter().try_for_each(|question| answers.send(question * 2)));
    let answer = questions.send(21).ok().and_then(|()| answered.recv().ok());
    say!("  21 doubled is {answer:?}");
    checks.check(answer == Some(42), "the answer is 42");
    // Ends the green thread, so that dropping the runtime does not wait for it.
    drop(questions);
}
