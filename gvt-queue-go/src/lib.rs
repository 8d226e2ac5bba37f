#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | `queues` | the backend: which end a worker has, what goes where |
//! | `team` | a worker's end among several: order of pops, fairness, stealing |
//! | `solo` | the end of the only worker: no atomics |
//! | `fifo` | its growing ring |
//! | `ring` | the ring: one producer, one compare-and-exchange a pop |
//! | `next_up` | the place for the thread just woken |
//! | `global` | the list for threads from outside and for overflow |
//! | `transit` | why nobody sleeps beside threads that are being moved |
//! | `sync` | atomics of std or loom; the total order of Q6; planted defects |
#![warn(missing_docs)]

mod fifo;
mod global;
mod next_up;
mod queues;
mod ring;
mod solo;
mod sync;
mod team;
mod transit;

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod cost;

pub use queues::{GoLocal, GoQueues};

/// Pops in a row that the next-up place may serve before woken threads go behind the others.
pub const STREAK: u32 = if cfg!(loom) { 2 } else { 16 };
/// Pops from a worker's own end until the global list has its turn.
pub const TURN: u32 = if cfg!(loom) { 4 } else { 61 };

/// The default ready queue. Pass it to the builder: `.queue(GoQueue)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoQueue;
