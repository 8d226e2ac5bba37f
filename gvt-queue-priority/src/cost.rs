//! What things cost. Not a test: run it alone, on an otherwise idle machine, with
//! `cargo test --release -p gvt-queue-priority --lib cost -- --ignored --nocapture`.

use std::mem::forget;
use std::ptr::NonNull;
use std::time::Instant;

use gvt_traits::{Factory, GvtId, Metadata, Plan, PushKind, ReadyQueue, Runnable, WorkerId};

use crate::{Ageing, Policy, PriorityQueue, Strict};

const ROUNDS: usize = 2_000_000;

fn threads(count: usize) -> impl Iterator<Item = Runnable> {
    (0..count).map(|index| {
        let record = Box::leak(Box::new(Metadata::new(GvtId::new(index as u32))));
        // SAFETY: C1: leaked. C2: its first token.
        unsafe { Runnable::from_raw(NonNull::from(record)) }
    })
}

#[inline(never)]
fn round<Q: ReadyQueue>(queue: &Q, local: &mut Q::Local) {
    let task = queue.pop(local).expect("Q3");
    queue.push(local, task, PushKind::Yield);
}

fn cost<P: Policy>(name: &str, workers: usize, count: usize) {
    let queue = PriorityQueue::<P>::new().build(&Plan::new(workers, count)).expect("a plan that works");
    let mut local = queue.local(WorkerId::new(0));
    threads(count).for_each(|task| queue.push(&mut local, task, PushKind::Yield));
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| round(&queue, &mut local));
            start.elapsed().as_nanos() as f64 / ROUNDS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name}, {workers} worker(s), {count:>6} Normal threads that yield: {:5.1} ns", times[3]);
    while let Some(task) = queue.pop(&mut local) {
        forget(task);
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_yield() {
    for count in [2, 200, 1_000, 100_000] {
        for workers in [1, 2] {
            cost::<Ageing>("ageing", workers, count);
            cost::<Strict>("strict", workers, count);
        }
    }
}
