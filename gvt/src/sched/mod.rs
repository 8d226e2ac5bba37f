//! The scheduler: threads, workers, and how the one goes on on the other.
//!
//! | file | mechanism |
//! |---|---|
//! | `record`, `table` | a thread's record; where records are |
//! | `core`, `entries` | what a runtime consists of; ways in for callers that do not know its types |
//! | `local`, `os_thread`, `pool` | what an OS thread knows; how workers pass between OS threads; all of them |
//! | `schedule`, `look_ahead`, `carry`, `root` | leaving one thread for the next, which is prefetched; the loop between; a thread's beginning and end |
//! | `wait`, `join`, `reach` | one wait and its wake-up; a thread's end and its joiner; ending whatever wait |
//! | `idle`, `parker`, `sleep` | who sleeps; where; when |
//! | `held` | threads that keep their OS thread: preempted, blocked, unwinding |
//! | `turn`, `rescue` | preempted threads that wait for a worker, or go on without one; when they do |
//! | `claim` | taking the worker of an OS thread that is outside the runtime |
//! | `resident` | threads that share an OS thread and cannot go on elsewhere: pinned, taken off by a stack switch |
//! | `arrivals` | threads brought to an OS thread that may be away, or asleep at home |
//! | `monitor`, `urgency`, `counters` | looking after busy workers; at which priority; what was done |
//! | `lifecycle`, `report`, `names` | beginning and end of a runtime; what its threads do; what they are called |
//!
//! `wait`, `join`, `idle`, `claim`, `arrivals`, `links`, `names`, `parker`, `reach`, `request`, `settle` and `turn` are protocols on words of
//! their own and compile with loom's atomics too; under `--cfg loom` nothing else of this module does.

#[cfg(not(loom))]
mod account;
pub(crate) mod arrivals;
pub(crate) mod claim;
pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod links;
pub(crate) mod names;
pub(crate) mod parker;
pub(crate) mod reach;
pub(crate) mod request;
pub(crate) mod settle;
mod sync;
pub(crate) mod turn;
pub(crate) mod wait;

#[cfg(not(loom))]
pub(crate) mod carry;
#[cfg(not(loom))]
pub(crate) mod contract;
#[cfg(not(loom))]
pub(crate) mod core;
#[cfg(not(loom))]
pub(crate) mod counters;
#[cfg(not(loom))]
pub(crate) mod entries;
#[cfg(not(loom))]
pub(crate) mod held;
#[cfg(not(loom))]
pub(crate) mod inner;
#[cfg(not(loom))]
pub(crate) mod lifecycle;
#[cfg(not(loom))]
pub(crate) mod local;
#[cfg(not(loom))]
mod look_ahead;
#[cfg(not(loom))]
pub(crate) mod monitor;
#[cfg(not(loom))]
pub(crate) mod os_thread;
#[cfg(not(loom))]
pub(crate) mod pace;
#[cfg(not(loom))]
mod place;
#[cfg(not(loom))]
pub(crate) mod pool;
#[cfg(not(loom))]
pub(crate) mod record;
#[cfg(not(loom))]
pub(crate) mod report;
#[cfg(not(loom))]
mod rescue;
#[cfg(not(loom))]
pub(crate) mod resident;
#[cfg(not(loom))]
pub(crate) mod root;
#[cfg(not(loom))]
pub(crate) mod schedule;
#[cfg(not(loom))]
pub(crate) mod sleep;
#[cfg(not(loom))]
pub(crate) mod starter;
#[cfg(not(loom))]
pub(crate) mod table;
#[cfg(not(loom))]
mod urgency;
