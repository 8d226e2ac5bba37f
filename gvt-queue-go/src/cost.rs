//! What things cost. Not a test: run it alone, on an otherwise idle machine, with
//! `cargo test --release -p gvt-queue-go --lib cost -- --ignored --nocapture`.

use std::collections::VecDeque;
use std::hint::black_box;
use std::mem::forget;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::time::Instant;

use crossbeam_deque::{Injector, Steal, Worker};
use gvt_traits::{Factory, GvtId, Metadata, Plan, PushKind, ReadyQueue, Runnable, WorkerId};

use crate::GoQueue;
use crate::global::Global;
use crate::ring::{self, Publish};

const ROUNDS: usize = 2_000_000;

pub(crate) fn threads(count: usize) -> impl Iterator<Item = Runnable> {
    (0..count).map(|index| {
        let record = Box::leak(Box::new(Metadata::new(GvtId::new(index as u32))));
        // SAFETY: C1: leaked. C2: its first token.
        unsafe { Runnable::from_raw(NonNull::from(record)) }
    })
}

/// Median of seven runs, in ns a round.
fn ns(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos() as f64 / ROUNDS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[3]
}

/// The least that a first-in-first-out ring can cost.
struct Plain {
    slots: Box<[*mut Metadata; 1024]>,
    head: usize,
    tail: usize,
}

impl Plain {
    #[inline(never)]
    fn round(&mut self) {
        let entry = self.slots[self.head % 1024];
        self.head += 1;
        self.slots[black_box(self.tail) % 1024] = entry;
        self.tail += 1;
    }
}

#[inline(never)]
fn round<Q: ReadyQueue>(queue: &Q, local: &mut Q::Local, kind: PushKind) {
    let task = queue.pop(local).expect("Q3");
    queue.push(local, task, kind);
}

fn queue_cost(name: &str, plan: Plan, count: usize, kind: PushKind) {
    let queue = GoQueue.build(&plan).expect("a plan that works");
    let mut local = queue.local(WorkerId::new(0));
    for task in threads(count) {
        queue.push(&mut local, task, PushKind::Yield);
    }
    let cost = ns(|| {
        for _ in 0..ROUNDS {
            round(&queue, &mut local, kind);
        }
    });
    println!("{name:<52} {cost:6.1}");
    while let Some(task) = queue.pop(&mut local) {
        let _ = task.into_raw();
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_yield() {
    let mut plain = Plain { slots: Box::new([std::ptr::null_mut(); 1024]), head: 0, tail: 2 };
    println!("pop + push, ns");
    println!("{:<52} {:6.1}", "plain ring", ns(|| (0..ROUNDS).for_each(|_| plain.round())));
    for count in [2, 200, 1_000, 100_000] {
        for workers in [1, 2] {
            let name = format!("{workers} worker(s), {count} threads, yield");
            queue_cost(&name, Plan::new(workers, count), count, PushKind::Yield);
        }
    }
    for workers in [1, 2] {
        let name = format!("{workers} worker(s), 1 thread, wake");
        queue_cost(&name, Plan::new(workers, 1), 1, PushKind::Wake);
        let name = format!("{workers} worker(s), 20 threads, wake (each displaces)");
        queue_cost(&name, Plan::new(workers, 20), 20, PushKind::Wake);
    }
    let (mut ring, _stealer) = ring::ring::<256>();
    threads(200).for_each(|task| ring.push(task, Publish::Plainly).expect("room"));
    let cost = ns(|| {
        for _ in 0..ROUNDS {
            let task = ring.pop().expect("never empty");
            black_box(&mut ring).push(task, Publish::Plainly).expect("room");
        }
    });
    println!("{:<52} {cost:6.1}", "the ring alone, 200 threads");
    while let Some(task) = ring.pop() {
        forget(task);
    }
    let fifo = Worker::new_fifo();
    threads(200).for_each(|task| fifo.push(task));
    let cost = ns(|| {
        for _ in 0..ROUNDS {
            let task = fifo.pop().expect("never empty");
            black_box(&fifo).push(task);
        }
    });
    println!("{:<52} {cost:6.1}", "crossbeam-deque FIFO, 200 threads");
    while let Some(task) = fifo.pop() {
        let _ = task.into_raw();
    }
}

/// Something that takes threads in and hands them out, one by one or in batches.
trait List: Sync {
    fn put(&self, batch: &mut VecDeque<Runnable>);
    fn get(&self, most: usize, batch: &mut VecDeque<Runnable>);
}

impl List for Injector<Runnable> {
    fn put(&self, batch: &mut VecDeque<Runnable>) {
        batch.drain(..).for_each(|task| self.push(task));
    }

    fn get(&self, most: usize, batch: &mut VecDeque<Runnable>) {
        while batch.len() < most {
            match self.steal() {
                Steal::Success(task) => batch.push_back(task),
                Steal::Empty => return,
                Steal::Retry => {}
            }
        }
    }
}

impl List for Global {
    fn put(&self, batch: &mut VecDeque<Runnable>) {
        match batch.len() {
            1 => self.push(batch.pop_front().expect("one")),
            _ => self.push_all(batch.drain(..)),
        }
    }

    fn get(&self, most: usize, batch: &mut VecDeque<Runnable>) {
        if most == 1 {
            batch.extend(self.pop());
        } else if !self.is_empty() {
            self.take(most, |next| batch.extend(std::iter::from_fn(next)));
        }
    }
}

fn list_cost(name: &str, list: &dyn List, batch: usize, os_threads: usize) {
    let cost = ns(|| {
        let barrier = Barrier::new(os_threads);
        std::thread::scope(|scope| {
            for _ in 0..os_threads {
                scope.spawn(|| {
                    let mut mine: VecDeque<Runnable> = threads(batch).collect();
                    barrier.wait();
                    for _ in 0..ROUNDS / batch {
                        list.put(&mut mine);
                        while mine.is_empty() {
                            list.get(batch, &mut mine);
                        }
                    }
                    mine.drain(..).for_each(forget);
                });
            }
        });
        let mut rest = VecDeque::new();
        list.get(usize::MAX, &mut rest);
        rest.drain(..).for_each(forget);
    });
    println!("{name:<20} batch {batch:>3}, {os_threads} OS threads {:6.1}", cost / os_threads as f64);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_the_global_list() {
    println!("put + get, ns a thread");
    for os_threads in [1, 2] {
        for batch in [1, 64] {
            list_cost("Injector", &Injector::new(), batch, os_threads);
            list_cost("mutex and VecDeque", &Global::new(), batch, os_threads);
        }
    }
}

/// How far from strict turns: the longest wait of any thread, as a multiple of the number of threads.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_turn() {
    for workers in [1, 2] {
        for count in [100, 1_000, 10_000, 100_000] {
            let queue = GoQueue.build(&Plan::new(workers, count)).expect("a plan that works");
            let mut local = queue.local(WorkerId::new(0));
            threads(count).for_each(|task| queue.push(&mut local, task, PushKind::Spawn));
            let mut last = vec![0; count];
            let (mut longest, mut runs) = (0, vec![0; count]);
            for pop in 0..count * 20 {
                let task = queue.pop(&mut local).expect("Q3");
                let index = task.id().index() as usize;
                longest = longest.max(pop - last[index]);
                last[index] = pop;
                runs[index] += 1;
                queue.push(&mut local, task, PushKind::Yield);
            }
            let least = runs.iter().min().expect("some");
            let most = runs.iter().max().expect("some");
            println!(
                "{workers} worker(s), {count:>6} threads that yield: longest wait {:.2} rounds; in 20 rounds {least} to {most} runs",
                longest as f64 / count as f64
            );
            while let Some(task) = queue.pop(&mut local) {
                forget(task);
            }
        }
    }
}
