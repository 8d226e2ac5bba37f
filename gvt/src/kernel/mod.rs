//! The scheduler: threads, workers, and how the one goes on on the other.
//!
//! Floors, the top one first; imports point downward:
//!
//! | folder | what it holds |
//! |---|---|
//! | `lifecycle` | beginning and end of a runtime; stacks that overflow |
//! | `monitor` | looking after busy workers, blocked OS threads, deadlocks |
//! | `sched` | leaving one thread for the next; the loop between; threads that keep their OS thread |
//! | `worker` | what a runtime, a worker, an OS thread consist of; how workers pass between OS threads |
//! | `state` | states of the monitor, the starter, of closing, of deadlocks |
//! | `thread` | a thread's record; where records are |

pub(crate) mod lifecycle;
pub(crate) mod monitor;
pub(crate) mod sched;
pub(crate) mod state;
pub(crate) mod thread;
pub(crate) mod worker;
