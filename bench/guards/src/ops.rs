//! The operations.

use std::hint::black_box;
use std::time::Duration;

use gvt::{HeapTimer, MmapSlots, Runtime, SchedMutex, channel, spawn, yield_now};
use gvt_timer_wheel::Wheel;
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
    op("wake", |n| inside(move || wake(n))),
    op("channel-send-recv", |n| inside(move || send_and_receive(n))),
    op("channel-ping-pong", |n| inside(move || ping_pong(n))),
    op("mutex", |n| inside(move || lock(n))),
    op("heap-insert-cancel", |n| insert_cancel(HeapTimer, n)),
    op("heap-insert-expire", |n| insert_expire(HeapTimer, n)),
    op("wheel-insert-cancel", |n| insert_cancel(Wheel::default(), n)),
    op("wheel-insert-expire", |n| insert_expire(Wheel::default(), n)),
];

/// Runs one of them.
pub fn run(name: &str, times: u64) -> Result<(), String> {
    let op =
        ALL.iter().find(|op| op.name == name).ok_or_else(|| format!("no operation is called `{name}`"))?;
    (op.body)(times);
    Ok(())
}

/// Runs `body` on one worker of a runtime of the default parts in which nothing else happens: nobody is
/// preempted within an hour.
fn inside(body: impl FnOnce() + Send + 'static) {
    let hour = Duration::from_secs(3600);
    let runtime = Runtime::builder()
        .workers(1)
        .max_gvthreads(4096)
        .slots(MmapSlots::default().slot_size(64 << 10))
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

/// A send that wakes a receiver, and the receiver's way back to its wait.
fn wake(n: u64) {
    let (to, from) = channel::<u64>(1);
    let waiter = spawn(move |_| (0..n).map(|_| from.recv().expect("a message")).sum::<u64>());
    for i in 0..n {
        to.send(i).expect("a receiver");
        yield_now();
    }
    assert_eq!(waiter.join().expect("no panic"), n * (n - 1) / 2);
}

/// A send and a receive that never wait.
fn send_and_receive(n: u64) {
    let (to, from) = channel::<u64>(16);
    let mut sum = 0;
    for i in 0..n {
        to.send(i).expect("a receiver");
        sum += from.recv().expect("a message");
    }
    assert_eq!(sum, n * (n - 1) / 2);
}

/// There and back, both ends waiting.
fn ping_pong(n: u64) {
    let (there, at_echo) = channel::<u64>(1);
    let (back, at_home) = channel::<u64>(1);
    let echo = spawn(move |_| {
        while let Ok(number) = at_echo.recv() {
            back.send(number).expect("home");
        }
    });
    for i in 0..n {
        there.send(i).expect("the echo");
        assert_eq!(at_home.recv(), Ok(i));
    }
    drop(there);
    echo.join().expect("no panic");
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

/// The step between deadlines: 10 µs.
const STEP_NS: u64 = 10_000;

/// Among 1,000 others, and out by handle.
fn insert_cancel(timer: impl Factory<Output: TimerBackend>, n: u64) {
    let timers = timer.build(&Plan::new(1, 4096)).expect("a timer");
    (0..1000).for_each(|i| _ = timers.insert(entry(i * 7919 % 1000 * STEP_NS)));
    for i in 0..n {
        let handle = timers.insert(entry(i * 7907 % 1000 * STEP_NS));
        assert!(timers.cancel(handle).is_some());
    }
}

/// Among 1,000 others, and the earliest of them out.
fn insert_expire(timer: impl Factory<Output: TimerBackend>, n: u64) {
    let timers = timer.build(&Plan::new(1, 4096)).expect("a timer");
    (0..1000).for_each(|i| _ = timers.insert(entry(i * STEP_NS)));
    let mut out = 0;
    for i in 0..n {
        timers.insert(entry((i + 1000) * STEP_NS));
        out += timers.expire(WorkerId::new(0), i * STEP_NS, &mut |e| _ = black_box(e)) as u64;
    }
    assert!(out.abs_diff(n) <= 1000, "{out} of {n} expired");
}
