#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | `queues` | the backend: which end a worker has, what goes where |
//! | `team` | the local end of one worker among several: order of pops, fairness, stealing |
//! | `solo` | the local end of the only worker: no atomics |
//! | `fifo` | its growing ring |
//! | `ring` | the ring: one producer, one compare-and-exchange a pop |
//! | `next_up` | the slot for the thread just woken (Go's `runnext`, tokio's LIFO slot) |
//! | `global` | the list for threads from outside and for overflow |
//! | `levels` | the lists of other levels than Normal, and their shares |
//! | `turns` | when urgent threads and those that have rested go ahead, and when the global list has its turn |
//! | `transit` | why no worker sleeps beside threads that are being moved |
//! | `sync` | atomics of std or loom; the total order of Q6; planted defects |
#![warn(missing_docs)]

mod fifo;
mod global;
mod levels;
mod next_up;
mod queues;
mod ring;
mod solo;
mod sync;
mod team;
mod transit;
mod turns;

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod cost;

use gvt_traits::PushKind;

pub use queues::{GoLocal, GoQueues};

/// Pops in a row that the next-up slot may serve before woken threads go behind the others.
pub const STREAK: u32 = if cfg!(loom) { 2 } else { 16 };
/// The same for spawned threads and those whose child has ended. A depth-first walk over a tree of threads is
/// interrupted less often, since each interruption starts one more branch beside the current ones (fork-join
/// Fibonacci, a call: 274 ns at 16, 187 at 64, 116 at 256).
pub const FAMILY_STREAK: u32 = if cfg!(loom) { 3 } else { 256 };
/// Pops from a worker's local end until the global list has its turn.
pub const TURN: u32 = if cfg!(loom) { 4 } else { 61 };

/// Whether a thread is put in the next-up slot, which has served `streak` pops in a row.
#[inline(always)]
fn goes_next_up(kind: PushKind, streak: u32) -> bool {
    match kind {
        PushKind::Wake => streak < STREAK,
        PushKind::Spawn | PushKind::Joined => streak < FAMILY_STREAK,
        _ => false,
    }
}

/// The default ready queue. Pass it to the builder: `.queue(GoQueue)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoQueue;
