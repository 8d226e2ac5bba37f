//! `ping-pong`, `rendezvous`, `timeout` and `channel`: messages between threads.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::green::{Ends, Green};

/// A number goes there and comes back plus one, over two channels of capacity 1.
pub fn ping_pong<G: Green>(p: &Params) -> Outcome {
    there_and_back::<G>(p.get("n"), 1, Ends::OneToOne, |from| G::recv(from).expect("the echo lives"))
}

/// The same over channels that hold nothing: whoever comes first waits for the other.
pub fn rendezvous<G: Green>(p: &Params) -> Outcome {
    there_and_back::<G>(p.get("n"), 0, Ends::ManyToMany, |from| G::recv(from).expect("the echo lives"))
}

/// The same as `ping-pong` where the one who waits for the echo sets a limit of 10 s each time: a timer filed
/// and taken back.
pub fn timeout<G: Green>(p: &Params) -> Outcome {
    let limit = Duration::from_secs(10);
    there_and_back::<G>(p.get("n"), 1, Ends::ManyToOne, |from| G::recv_timeout(from, limit).expect("in time"))
}

fn there_and_back<G: Green>(
    n: u64,
    capacity: usize,
    ends: Ends,
    answer: impl Fn(&G::Receiver<u64>) -> u64,
) -> Outcome {
    let (there, at_echo) = G::channel::<u64>(capacity, ends);
    let (back, at_home) = G::channel::<u64>(capacity, ends);
    let echo = G::spawn(move || {
        while let Some(number) = G::recv(&at_echo) {
            G::send(&back, number + 1);
        }
    });
    let rounds = |n: u64| {
        let mut sum = 0u64;
        for i in 0..n {
            G::send(&there, i);
            sum += answer(&at_home);
        }
        sum
    };
    black_box(rounds(n / 10));
    let begin = Instant::now();
    let sum = rounds(n);
    let elapsed = begin.elapsed();
    drop(there);
    G::join(echo);
    Outcome::per_op(sum, n, elapsed)
}

/// `pairs` senders share `n` messages and `pairs` receivers take them, over one channel.
pub fn stream<G: Green>(p: &Params) -> Outcome {
    let (pairs, n) = (p.get("pairs"), p.get("n"));
    let ends = if pairs == 1 { Ends::OneToOne } else { Ends::ManyToMany };
    let (mut to, mut from) = (Vec::new(), Vec::new());
    let (sender, receiver) = G::channel::<u64>(p.count("capacity"), ends);
    for _ in 1..pairs {
        to.push(G::clone_sender(&sender));
        from.push(G::clone_receiver(&receiver));
    }
    to.push(sender);
    from.push(receiver);
    let begin = Instant::now();
    let takers: Vec<_> = from
        .into_iter()
        .map(|from| {
            G::spawn(move || {
                let (mut sum, mut taken) = (0u64, 0u64);
                while let Some(number) = G::recv(&from) {
                    sum += number;
                    taken += 1;
                }
                (sum, taken)
            })
        })
        .collect();
    let givers: Vec<_> = (0..pairs)
        .zip(to)
        .map(|(me, to)| G::spawn(move || (me..n).step_by(pairs as usize).for_each(|i| G::send(&to, i))))
        .collect();
    givers.into_iter().for_each(G::join);
    let (sum, taken) = takers.into_iter().map(G::join).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let elapsed = begin.elapsed();
    assert_eq!(taken, n, "messages received");
    Outcome::per_op(sum, n, elapsed)
}
