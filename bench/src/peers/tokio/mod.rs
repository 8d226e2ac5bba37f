//! tokio: the common work in its own idiom. Each function repeats the one of the same name in
//! `work/`, step by step.

mod channels;
mod forkjoin;
mod sleepers;
mod threads;

use std::future::Future;
use std::pin::Pin;

use crate::outcome::Outcome;
use crate::params::Params;

type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Runs `work` as a task of a multi-thread runtime, also with one worker: the thread that called
/// `block_on` is not a worker, so the work itself is spawned.
pub fn run(work: &str, params: &Params) -> Result<Outcome, String> {
    let p = params.clone();
    let body: Work = match work {
        "yield" => Box::pin(threads::yields(p)),
        "spawn-join" => Box::pin(threads::one_at_a_time(p)),
        "spawn-many" => Box::pin(threads::many(p)),
        "ping-pong" => Box::pin(channels::ping_pong(p)),
        "timeout" => Box::pin(channels::timeout(p)),
        "channel" if p.get("pairs") == 1 => Box::pin(channels::one_to_one(p)),
        "channel" => Box::pin(channels::many_to_many(p)),
        "mutex" => Box::pin(channels::contend(p)),
        "sleepers" => Box::pin(sleepers::once(p)),
        "playground" => Box::pin(sleepers::playground(p)),
        "parked" => Box::pin(threads::parked(p)),
        "fib" => Box::pin(forkjoin::fib_of(p)),
        "skynet" => Box::pin(forkjoin::skynet(p)),
        "preempt" => Box::pin(sleepers::behind_spinner(p)),
        _ => return Err(format!("no work is called `{work}`")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(params.count("workers"))
        .enable_time()
        .build()
        .map_err(|e| e.to_string())?;
    let main = runtime.spawn(async move { body.await.with_usage() });
    let outcome = runtime.block_on(main).map_err(|e| e.to_string());
    // The process ends next; waiting for the end of a million tasks is not part of any work.
    runtime.shutdown_background();
    outcome
}
