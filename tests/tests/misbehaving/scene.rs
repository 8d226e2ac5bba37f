//! What runs on runtimes whose parts misbehave: a little of everything, with values that tell if memory was
//! corrupted.

use std::sync::Arc;
use std::time::Duration;

use gvt::{Cooperative, Handle, MmapSlots, Runtime, Sigurg};
use gvt_decorators::Checked;
use gvt_traits::{Factory, ReadyQueue, SchedError, TimerBackend};

use crate::parts::{QueueFactory, Script, TimerFactory};

/// How a script came out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ended,
    /// Threads are left, and OS threads with them.
    Stranded,
}

/// A value whose corruption shows.
struct Value(Box<[u64; 8]>);

impl Value {
    fn new(seed: u64) -> Self {
        Value(Box::new(std::array::from_fn(|place| seed.wrapping_mul(place as u64 + 1))))
    }

    fn check(&self) {
        let seed = self.0[0];
        let whole =
            self.0.iter().enumerate().all(|(place, &word)| word == seed.wrapping_mul(place as u64 + 1));
        if !whole {
            eprintln!("CORRUPTED: {:x?}", self.0);
            std::process::exit(crate::CORRUPTED);
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check();
    }
}

fn family(seed: u64) -> u64 {
    let value = Value::new(seed);
    let (sender, receiver) = gvt::channel::<Value>(1);
    let mutex = Arc::new(gvt::SchedMutex::new(0_u64));
    let threads: Vec<_> = (0..3_u64)
        .map(|child| {
            let (sender, mutex) = (sender.clone(), mutex.clone());
            let value = Value::new(seed ^ child);
            gvt::spawn(move |_| {
                gvt::yield_now();
                let _ = sender.send_timeout(Value::new(child), Duration::from_micros(300));
                let mut guard = mutex.lock();
                gvt::yield_now();
                *guard += 1;
                drop(guard);
                gvt::sleep(Duration::from_micros(30 * child));
                value.check();
                value.0[0]
            })
        })
        .collect();
    drop(sender);
    while let Ok(message) = receiver.recv_timeout(Duration::from_micros(500)) {
        message.check();
        gvt::yield_now();
    }
    gvt::scope(|scope| {
        scope.spawn(|_| gvt::yield_now());
        scope.spawn(|_| value.check());
    });
    let sum = threads.into_iter().filter_map(|thread| thread.join().ok()).fold(0, u64::wrapping_add);
    std::hint::black_box(sum)
}

fn build<Q, T>(script: &Script, queue: Q, timer: T) -> Result<Box<dyn Run>, SchedError>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
{
    let builder = Runtime::builder()
        .workers(1 + script.dice.below(2) as usize)
        .max_gvthreads(64)
        .slots(MmapSlots::default().slot_size(256 << 10))
        .queue(queue)
        .timer(timer);
    Ok(if script.dice.hits(4) {
        Box::new(builder.preemptor(Sigurg).time_slice(Duration::from_micros(100)).build()?)
    } else {
        Box::new(builder.preemptor(Cooperative).build()?)
    })
}

/// A runtime, whatever it is made from.
trait Run: Send {
    fn handle(&self) -> Handle;
    fn block_on(&self, seed: u64);
    fn end(self: Box<Self>) -> Outcome;
}

impl<Q, T, P, C, S> Run for Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: gvt_traits::Preemptor>,
    C: gvt_traits::ContextSwitch,
    S: Factory<Output: gvt_traits::SlotAllocator>,
{
    fn handle(&self) -> Handle {
        Runtime::handle(self)
    }

    fn block_on(&self, seed: u64) {
        let lent = Value::new(seed);
        let _ = self.try_block_on(|| {
            lent.check();
            gvt::yield_now();
            lent.check();
        });
    }

    fn end(self: Box<Self>) -> Outcome {
        match self.shutdown_timeout(Duration::from_millis(5)) {
            Ok(()) => Outcome::Ended,
            Err(_) => Outcome::Stranded,
        }
    }
}

/// Runs the script of that number to its end, which may be the process's.
pub(crate) fn run(seed: u64) -> Outcome {
    let script = Script::new(seed);
    let mut runtimes = Vec::new();
    for _ in 0..1 + script.dice.below(2) {
        let (queue, timer) = (QueueFactory(script.clone()), TimerFactory(script.clone()));
        let built = match script.dice.below(8) {
            0 => build(&script, Checked(queue), Checked(timer)),
            1 => build(&script, gvt::GoQueue, timer),
            2 => build(&script, queue, gvt::HeapTimer),
            _ => build(&script, queue, timer),
        };
        runtimes.extend(built.ok());
    }
    for runtime in &runtimes {
        script.lend(runtime.handle());
    }
    let mut roots = Vec::new();
    for runtime in &runtimes {
        let seed = script.dice.number();
        roots.extend(runtime.handle().try_spawn(move |_| family(seed)).ok());
        if script.dice.hits(2) {
            runtime.block_on(seed);
        }
    }
    for root in roots {
        // Dropped, if it does not end: what it leads to belongs to the thread.
        let _ = root.join_timeout(Duration::from_millis(3));
    }
    script.forget_handles();
    let mut outcome = Outcome::Ended;
    for runtime in runtimes {
        if runtime.end() == Outcome::Stranded {
            outcome = Outcome::Stranded;
        }
    }
    outcome
}
