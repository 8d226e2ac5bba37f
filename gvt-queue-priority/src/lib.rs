#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | `queues` | the backend: which end a worker has |
//! | `team` | a worker's end among several: deques, bitmaps, stealing |
//! | `solo` | the end of an only worker: no atomics |
//! | `lists` | threads from outside |
//! | `policy` | strict or ageing |
//! | `sync` | std and crossbeam, or loom; planted defects |
#![cfg_attr(not(test), forbid(unsafe_code))]
#![warn(missing_docs)]

mod lists;
mod policy;
mod queues;
mod solo;
mod sync;
mod team;

#[cfg(all(test, not(loom)))]
mod cost;
#[cfg(all(test, loom))]
mod models;

use std::marker::PhantomData;

use gvt_traits::{Factory, Plan, Runnable, SchedError};

pub use policy::{Ageing, LIFT, Policy, Strict};
pub use queues::{PriorityLocal, PriorityQueues};

/// Pops at a level until the global list of that level comes before the worker's own deque.
pub const TURN: u32 = 61;
/// Of these, one in so many goes to another worker instead.
pub const PATROL: u32 = 16;

/// A ready queue with four levels. Pass it to the builder: `.queue(PriorityQueue::default())`.
///
/// `P` says what happens to the less urgent: [`Ageing`], the default, or [`Strict`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PriorityQueue<P = Ageing>(PhantomData<P>);

/// A [`PriorityQueue`] under which less urgent threads may wait for ever: `PriorityQueue::<Strict>::new()` by
/// a name of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StrictPriorityQueue;

impl<P> PriorityQueue<P> {
    /// The queue.
    pub const fn new() -> Self {
        PriorityQueue(PhantomData)
    }
}

/// For [`Ageing`] alone: with a default for every policy, `PriorityQueue::default()` would not say which it
/// is.
impl Default for PriorityQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Factory for StrictPriorityQueue {
    type Output = PriorityQueues<Strict>;

    fn build(&self, plan: &Plan) -> Result<PriorityQueues<Strict>, SchedError> {
        PriorityQueue::<Strict>::new().build(plan)
    }
}

/// Panics over tokens that a queue still holds when it is dropped (R2), unless a panic is under way. The
/// tokens themselves are forgotten, since each would panic.
fn left_behind(tasks: impl Iterator<Item = Runnable>, place: &str) {
    let count = tasks.map(std::mem::forget).count();
    if count > 0 && !std::thread::panicking() {
        panic!("R2: a queue was dropped with {count} ready threads in {place}; they could never run again");
    }
}
