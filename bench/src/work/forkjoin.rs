//! `fib` and `skynet`: trees of threads.

use std::time::Instant;

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::{Ends, Green};

/// The Fibonacci number `n` with a thread for each call.
pub fn fib_of<G: Green>(p: &Params) -> Outcome {
    let n = p.get("n");
    let begin = Instant::now();
    let result = fib::<G>(n);
    Outcome::per_op(result, calls(n), begin.elapsed())
}

fn fib<G: Green>(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let one = G::spawn(move || fib::<G>(n - 1));
    let two = G::spawn(move || fib::<G>(n - 2));
    G::join(one) + G::join(two)
}

/// How many calls that takes.
pub fn calls(n: u64) -> u64 {
    (0..n).fold((1u64, 1u64), |(now, next), _| (next, now + next + 1)).0
}

/// A tree with ten branches a node and `leaves` leaves; each node sends its sum to its parent over a
/// channel of capacity 10, and a leaf its number.
pub fn skynet<G: Green>(p: &Params) -> Outcome {
    let leaves = p.get("leaves");
    let begin = Instant::now();
    let (to, from) = G::channel(10, Ends::ManyToOne);
    G::detach(move || node::<G>(&to, 0, leaves));
    let sum = G::recv(&from).expect("the root sends");
    let elapsed = begin.elapsed();
    Outcome::per_op(sum, leaves, elapsed)
}

fn node<G: Green>(parent: &G::Sender<u64>, number: u64, leaves: u64) {
    if leaves == 1 {
        G::send(parent, number);
        return;
    }
    let (to, from) = G::channel(10, Ends::ManyToOne);
    let below = leaves / 10;
    for branch in 0..10 {
        let to = G::clone_sender(&to);
        G::detach(move || node::<G>(&to, number + branch * below, below));
    }
    let sum = (0..10).map(|_| G::recv(&from).expect("ten answers")).sum();
    G::send(parent, sum);
}

/// The same number without threads, for the check.
pub fn fib_plain(n: u64) -> u64 {
    (0..n).fold((0u64, 1u64), |(now, next), _| (next, now + next)).0
}
