//! A runtime of any parts, as the scenes see it: without type parameters, so that a scene is compiled once.

use std::time::Duration;

use gvt::{Handle, Runtime, RuntimeBuilder};
use gvt_traits::{Factory, Order, Plan, Preemptor, ReadyQueue, Strength, TimerBackend};

/// A ready queue of the roster.
pub trait Queue: Factory<Output: ReadyQueue> + Clone {}
impl<F: Factory<Output: ReadyQueue> + Clone> Queue for F {}

/// A timer of the roster.
pub trait Timer: Factory<Output: TimerBackend> + Clone {}
impl<F: Factory<Output: TimerBackend> + Clone> Timer for F {}

/// A preemptor of the roster.
pub trait Preempt: Factory<Output: Preemptor> + Clone {}
impl<F: Factory<Output: Preemptor> + Clone> Preempt for F {}

/// Three parts that runtimes are built from.
pub trait Stack {
    /// A runtime with `workers` workers.
    fn runtime(&self, workers: usize) -> Box<dyn Assembled> {
        self.with(&|builder| builder.workers(workers))
    }

    /// A runtime with settings of its own.
    fn with(&self, settings: &dyn Fn(RuntimeBuilder) -> RuntimeBuilder) -> Box<dyn Assembled>;

    /// What the queue promises.
    fn order(&self) -> Order;

    /// What the preemptor can do.
    fn strength(&self) -> Strength;
}

/// The only implementor.
#[derive(Clone)]
pub struct Parts<Q, T, P>(pub Q, pub T, pub P);

impl<Q: Queue, T: Timer, P: Preempt> Stack for Parts<Q, T, P> {
    fn with(&self, settings: &dyn Fn(RuntimeBuilder) -> RuntimeBuilder) -> Box<dyn Assembled> {
        let Parts(queue, timer, preemptor) = self.clone();
        let builder = settings(Runtime::builder()).queue(queue).timer(timer).preemptor(preemptor);
        Box::new(builder.build().expect("an ordinary runtime"))
    }

    fn order(&self) -> Order {
        Q::Output::ORDER
    }

    fn strength(&self) -> Strength {
        self.2.build(&Plan::new(1, 1)).expect("an ordinary plan").strength()
    }
}

/// A runtime, whatever its parts.
pub trait Assembled {
    /// `Runtime::block_on`.
    fn block_on<'a>(&self, body: Box<dyn FnOnce() + Send + 'a>);
    /// `Runtime::handle`.
    fn handle(&self) -> Handle;
    /// `Runtime::shutdown_timeout`; whether all ended in time.
    fn shutdown(self: Box<Self>) -> bool;
}

impl<Q: Queue, T: Timer, P: Preempt> Assembled for Runtime<Q, T, P> {
    fn block_on<'a>(&self, body: Box<dyn FnOnce() + Send + 'a>) {
        Runtime::block_on(self, body);
    }

    fn handle(&self) -> Handle {
        Runtime::handle(self)
    }

    fn shutdown(self: Box<Self>) -> bool {
        self.shutdown_timeout(Duration::from_secs(60)).is_ok()
    }
}
