//! The operations.

use std::hint::black_box;
use std::time::Duration;

use gvt::{HeapTimer, MmapSlots, NoPreempt, Runtime, SchedMutex, spawn, yield_now};
use gvt_traits::{Factory, GvtId, Plan, TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId};

/// One operation.
pub struct Op {
    /// Its name.
    pub name: &'static str,
    /// Repetitions to count.
    pub times: u64,
    body: fn(u64),
}

const fn op(name: &'static str, body: fn(u64)) -> Op {
    Op { name, times: 20_000, body }
}

/// All of them.
pub const ALL: &[Op] = &[
    op("yield-1", |n| inside(move || yields(1, n))),
    op("yield-2", |n| inside(move || yields(2, n))),
    op("yield-100", |n| inside(move || yields(100, n))),
    op("spawn-join", |n| inside(move || spawn_join(n))),
    op("spawn-batch", |n| inside(move || spawn_batch(n))),
    op("mutex", |n| inside(move || lock(n))),
    op("timer-insert-cancel", timer_insert_cancel),
    op("timer-insert-expire", timer_insert_expire),
];

/// Runs one of them.
pub fn run(name: &str, times: u64) -> Result<(), String> {
    let op =
        ALL.iter().find(|op| op.name == name).ok_or_else(|| format!("no operation is called `{name}`"))?;
    (op.body)(times);
    Ok(())
}

/// Runs `body` on one worker of a runtime in which nothing else happens.
fn inside(body: impl FnOnce() + Send + 'static) {
    let hour = Duration::from_secs(3600);
    let runtime = Runtime::builder()
        .workers(1)
        .max_gvthreads(4096)
        .slots(MmapSlots::default().slot_size(64 << 10))
        .preemptor(NoPreempt)
        .time_slice(hour)
        .timer_interval(hour)
        .build()
        .expect("a runtime");
    runtime.block_on(body);
}

/// `n` yields, shared among `threads`.
fn yields(threads: u64, n: u64) {
    let each = n / threads;
    let handles: Vec<_> = (0..threads).map(|_| spawn(move |_| (0..each).for_each(|_| yield_now()))).collect();
    handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
}

/// One after the other.
fn spawn_join(n: u64) {
    let sum: u64 = (0..n).map(|i| spawn(move |_| i).join().expect("no panic")).sum();
    assert_eq!(sum, n * (n - 1) / 2);
}

/// A hundred at a time, then all are joined.
fn spawn_batch(n: u64) {
    for _ in 0..n / 100 {
        let handles: Vec<_> = (0..100u64).map(|i| spawn(move |_| i)).collect();
        handles.into_iter().for_each(|handle| {
            black_box(handle.join().expect("no panic"));
        });
    }
}

/// Lock and unlock, uncontended.
fn lock(n: u64) {
    let mutex = SchedMutex::new(0u64);
    (0..n).for_each(|_| *mutex.lock() += 1);
    assert_eq!(*mutex.lock(), n);
}

fn entry(deadline_ns: u64) -> TimerEntry {
    TimerEntry {
        deadline_ns,
        ticket: WakeTicket { sequence: 1, id: GvtId::new(1) },
        affinity: WorkerId::new(0),
        kind: TimerType::Sleep,
    }
}

/// Into a heap of 1,000, and out by handle.
fn timer_insert_cancel(n: u64) {
    let timers = HeapTimer.build(&Plan::new(1, 4096)).expect("a timer");
    (0..1000).for_each(|i| _ = timers.insert(entry(i * 1_000_003 % 1_000_000)));
    for i in 0..n {
        let handle = timers.insert(entry(i * 7919 % 1_000_000));
        assert!(timers.cancel(handle).is_some());
    }
}

/// Into a heap of 1,000, and out in order.
fn timer_insert_expire(n: u64) {
    let timers = HeapTimer.build(&Plan::new(1, 4096)).expect("a timer");
    (0..1000).for_each(|i| _ = timers.insert(entry(i)));
    for i in 0..n {
        timers.insert(entry(i + 1000));
        assert_eq!(timers.expire(WorkerId::new(0), i, &mut |e| _ = black_box(e)), 1);
    }
}
