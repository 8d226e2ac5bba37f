//! `fib`, `skynet`.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::outcome::Outcome;
use crate::params::Params;
use crate::work::forkjoin::calls;

pub async fn fib_of(p: Params) -> Outcome {
    let n = p.get("n");
    let begin = Instant::now();
    let result = fib(n).await;
    Outcome::per_op(result, calls(n), begin.elapsed())
}

/// Boxed: a future cannot contain itself.
fn fib(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let one = tokio::spawn(fib(n - 1));
        let two = tokio::spawn(fib(n - 2));
        one.await.expect("no panic") + two.await.expect("no panic")
    })
}

pub async fn skynet(p: Params) -> Outcome {
    let leaves = p.get("leaves");
    let begin = Instant::now();
    let (to, mut from) = mpsc::channel(10);
    drop(tokio::spawn(node(to, 0, leaves)));
    let sum = from.recv().await.expect("the root sends");
    let elapsed = begin.elapsed();
    Outcome::per_op(sum, leaves, elapsed)
}

fn node(parent: mpsc::Sender<u64>, number: u64, leaves: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if leaves == 1 {
            parent.send(number).await.expect("a parent");
            return;
        }
        let (to, mut from) = mpsc::channel(10);
        let below = leaves / 10;
        for branch in 0..10 {
            drop(tokio::spawn(node(to.clone(), number + branch * below, below)));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += from.recv().await.expect("ten answers");
        }
        parent.send(sum).await.expect("a parent");
    })
}
