//! gvt itself, in its default form or with one part and the size of slots exchanged: `gvt+64k`,
//! `gvt+coop`, `gvt+64k+nopreempt`.

use std::sync::Arc;
use std::time::Duration;

use gvt::{
    Cooperative, HeapTimer, JoinHandle, MmapSlots, NoPreempt, Receiver, Runtime, RuntimeBuilder, SchedMutex,
    Sender,
};
use gvt_queue_priority::PriorityQueue;
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{ContextSwitch, Factory, Preemptor, ReadyQueue, SlotAllocator, TimerBackend};

use super::green::{Ends, Green};

/// gvt's threads, channels and mutex.
pub struct Gvt;

/// What a variant may be called, and what it stands for.
pub const VARIANTS: &[(&str, &str)] = &[
    ("64k", "slots of 64 KiB instead of 16 MiB; also together with one of the others"),
    ("prio", "PriorityQueue instead of GoQueue"),
    ("wheel", "Wheel instead of HeapTimer"),
    ("timerfd", "TimerFd over HeapTimer"),
    ("coop", "preemption at safepoints only"),
    ("nopreempt", "no preemption"),
];

type Main<R> = Box<dyn FnOnce() -> R + Send>;

impl Green for Gvt {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Mutex = SchedMutex<u64>;

    fn enter<R: Send + 'static>(
        workers: usize,
        variant: &[&str],
        main: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        let mut slots = MmapSlots::default();
        if variant.contains(&"64k") {
            slots = slots.slot_size(64 << 10);
        }
        let builder = Runtime::builder().workers(workers).slots(slots);
        let main: Main<R> = Box::new(main);
        match variant.iter().find(|name| **name != "64k") {
            None => run(builder, main),
            Some(&"prio") => run(builder.queue(PriorityQueue::default()), main),
            Some(&"wheel") => run(builder.timer(Wheel::default()), main),
            Some(&"timerfd") => run(builder.timer(TimerFd::<HeapTimer>::default()), main),
            Some(&"coop") => run(builder.preemptor(Cooperative), main),
            Some(&"nopreempt") => run(builder.preemptor(NoPreempt), main),
            Some(other) => panic!("gvt has no variant `{other}` here; there are {VARIANTS:?}"),
        }
    }

    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        gvt::spawn(move |_| body())
    }

    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("no panic")
    }

    fn yield_now() {
        gvt::yield_now();
    }

    fn sleep(duration: Duration) {
        gvt::sleep(duration);
    }

    fn channel<T: Send + 'static>(capacity: usize, _ends: Ends) -> (Sender<T>, Receiver<T>) {
        gvt::channel(capacity)
    }

    fn clone_sender<T: Send + 'static>(of: &Sender<T>) -> Sender<T> {
        of.clone()
    }

    fn clone_receiver<T: Send + 'static>(of: &Receiver<T>) -> Receiver<T> {
        of.clone()
    }

    fn send<T: Send + 'static>(to: &Sender<T>, message: T) {
        assert!(to.send(message).is_ok(), "a receiver");
    }

    fn recv<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.recv().ok()
    }

    fn recv_timeout<T: Send + 'static>(from: &Receiver<T>, limit: Duration) -> Option<T> {
        from.recv_timeout(limit).ok()
    }

    fn mutex() -> Arc<SchedMutex<u64>> {
        Arc::new(SchedMutex::new(0))
    }

    fn add_one(mutex: &SchedMutex<u64>) -> u64 {
        let mut sum = mutex.lock();
        *sum += 1;
        *sum
    }
}

fn run<Q, T, P, C, S, R>(builder: RuntimeBuilder<Q, T, P, C, S>, main: Main<R>) -> R
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
    R: Send + 'static,
{
    let runtime = builder.build().unwrap_or_else(|error| panic!("{error}"));
    let result = runtime.block_on(main);
    // The process ends next; taking the threads down is not part of any work.
    std::mem::forget(runtime);
    result
}
