//! The work, once for every peer whose threads block ([`Green`]).
//!
//! The asynchronous peer (`peers/tokio`) and the Go program (`go/main.go`) repeat each of these step
//! by step in their own languages; the names are the same in all three.
//!
//! **Rules.** A work computes a check value that depends on every operation. It takes its times
//! inside the runtime, from the first operation to the last. Starting threads counts only where
//! the work says so.

mod channels;
pub mod forkjoin;
mod memory;
mod mutex;
pub mod preempt;
mod sleepers;
mod spawn;
pub mod spread;
mod yields;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::{Ends, Green};

/// Runs `work` on the peer `G`.
pub fn run<G: Green>(work: &str, variant: &[&str], params: &Params) -> Result<Outcome, String> {
    let body: fn(&Params) -> Outcome = match work {
        "yield" => yields::yields::<G>,
        "spawn-join" => spawn::one_at_a_time::<G>,
        "spawn-many" => spawn::many::<G>,
        "ping-pong" => channels::ping_pong::<G>,
        "rendezvous" => channels::rendezvous::<G>,
        "timeout" => channels::timeout::<G>,
        "channel" => channels::stream::<G>,
        "mutex" => mutex::contend::<G>,
        "sleepers" => sleepers::once::<G>,
        "playground" => sleepers::playground::<G>,
        "parked" => memory::parked::<G>,
        "fib" => forkjoin::fib_of::<G>,
        "skynet" => forkjoin::skynet::<G>,
        "preempt" => preempt::behind_spinner::<G>,
        _ => return Err(format!("no work is called `{work}`")),
    };
    let params = params.clone();
    Ok(G::enter(params.count("workers"), variant, move || body(&params).with_usage()))
}

/// Lets one thread wait until `n` others have called [`Latch::done`], once each.
struct Latch<G: Green> {
    left: AtomicUsize,
    /// Taken by the last alone; a plain lock lends it across threads.
    last: Mutex<Option<G::Sender<()>>>,
}

impl<G: Green> Latch<G> {
    /// A latch for `n` threads, and the end to wait on.
    fn new(n: usize) -> (Self, G::Receiver<()>) {
        let (last, wait) = G::channel(1, Ends::ManyToOne);
        (Latch { left: AtomicUsize::new(n), last: Mutex::new(Some(last)) }, wait)
    }

    /// Counts one; the last one wakes the waiter. `true` for the last.
    fn done(&self) -> bool {
        // ORDERING: AcqRel, so that the last to count sees what the others wrote before.
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            let sender = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
            G::send(&sender.expect("one thread is the last"), ());
        }
        last
    }
}
