//! `ping-pong`, `timeout`, `channel`, `mutex`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::time;

use crate::outcome::Outcome;
use crate::params::Params;

pub async fn ping_pong(p: Params) -> Outcome {
    there_and_back(p.get("n"), None).await
}

pub async fn timeout(p: Params) -> Outcome {
    there_and_back(p.get("n"), Some(Duration::from_secs(10))).await
}

async fn there_and_back(n: u64, limit: Option<Duration>) -> Outcome {
    let (there, mut at_echo) = mpsc::channel::<u64>(1);
    let (back, mut at_home) = mpsc::channel::<u64>(1);
    let echo = tokio::spawn(async move {
        while let Some(number) = at_echo.recv().await {
            back.send(number + 1).await.expect("home");
        }
    });
    black_box(rounds(n / 10, limit, &there, &mut at_home).await);
    let begin = Instant::now();
    let sum = rounds(n, limit, &there, &mut at_home).await;
    let elapsed = begin.elapsed();
    drop(there);
    echo.await.expect("no panic");
    Outcome::per_op(sum, n, elapsed)
}

async fn rounds(
    n: u64,
    limit: Option<Duration>,
    there: &mpsc::Sender<u64>,
    at_home: &mut mpsc::Receiver<u64>,
) -> u64 {
    let mut sum = 0;
    for i in 0..n {
        there.send(i).await.expect("the echo lives");
        let answer = match limit {
            None => at_home.recv().await,
            Some(limit) => time::timeout(limit, at_home.recv()).await.expect("in time"),
        };
        sum += answer.expect("the echo lives");
    }
    sum
}

pub async fn one_to_one(p: Params) -> Outcome {
    let n = p.get("n");
    let (to, mut from) = mpsc::channel::<u64>(p.count("capacity"));
    let begin = Instant::now();
    let taker = tokio::spawn(async move {
        let (mut sum, mut taken) = (0u64, 0u64);
        while let Some(number) = from.recv().await {
            sum += number;
            taken += 1;
        }
        (sum, taken)
    });
    let giver = tokio::spawn(async move {
        for i in 0..n {
            to.send(i).await.expect("a receiver");
        }
    });
    giver.await.expect("no panic");
    let (sum, taken) = taker.await.expect("no panic");
    let elapsed = begin.elapsed();
    assert_eq!(taken, n, "messages received");
    Outcome::per_op(sum, n, elapsed)
}

/// Over async-channel: tokio's own channels have one receiver.
pub async fn many_to_many(p: Params) -> Outcome {
    let (pairs, n) = (p.get("pairs"), p.get("n"));
    let (to, from) = async_channel::bounded::<u64>(p.count("capacity"));
    let begin = Instant::now();
    let takers: Vec<_> = (0..pairs)
        .map(|_| {
            let from = from.clone();
            tokio::spawn(async move {
                let (mut sum, mut taken) = (0u64, 0u64);
                while let Ok(number) = from.recv().await {
                    sum += number;
                    taken += 1;
                }
                (sum, taken)
            })
        })
        .collect();
    drop(from);
    let givers: Vec<_> = (0..pairs)
        .map(|me| {
            let to = to.clone();
            tokio::spawn(async move {
                for i in (me..n).step_by(pairs as usize) {
                    to.send(i).await.expect("a receiver");
                }
            })
        })
        .collect();
    drop(to);
    for giver in givers {
        giver.await.expect("no panic");
    }
    let (mut sum, mut taken) = (0, 0);
    for taker in takers {
        let part = taker.await.expect("no panic");
        sum += part.0;
        taken += part.1;
    }
    let elapsed = begin.elapsed();
    assert_eq!(taken, n, "messages received");
    Outcome::per_op(sum, n, elapsed)
}

pub async fn contend(p: Params) -> Outcome {
    let (threads, n) = (p.get("threads"), p.get("n"));
    let each = n / threads;
    let mutex = Arc::new(Mutex::new(0u64));
    let begin = Instant::now();
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let mutex = mutex.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    *mutex.lock().await += 1;
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("no panic");
    }
    let elapsed = begin.elapsed();
    let sum = *mutex.lock().await;
    Outcome::per_op(sum, n, elapsed)
}
