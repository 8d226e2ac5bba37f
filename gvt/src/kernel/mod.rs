//! The scheduler: threads, workers and OS threads, and how workers run threads.
//!
//! Floors, the top one first; imports point downward:
//!
//! | folder | what it holds |
//! |---|---|
//! | `lifecycle` | start and end of a runtime; stack overflows |
//! | `monitor` | supervision of busy workers, blocked OS threads and deadlocks |
//! | `sched` | picking and switching threads; the worker loop; threads bound to an OS thread |
//! | `worker` | the parts of a runtime, a worker and an OS thread; how workers pass between OS threads |
//! | `state` | the state words of the monitor, the spare starter, shutdown and deadlock reports |
//! | `thread` | a thread's record, and the table of records |

pub(crate) mod lifecycle;
pub(crate) mod monitor;
pub(crate) mod sched;
pub(crate) mod state;
pub(crate) mod thread;
pub(crate) mod worker;
