//! Protocols on single words.
//!
//! They know nothing of the runtime and compile with loom's atomics too, so that models check the real code.
//!
//! | file | mechanism |
//! |---|---|
//! | `atomics` | atomics, or loom's; the faults that models plant |
//! | `wait`, `join` | one wait and its wake-up; a thread's end and its joiner |
//! | `idle`, `parker` | which workers sleep; where |
//! | `retake` | taking the worker from an OS thread that is outside the runtime |
//! | `preempt_count` | which OS thread this is, and whether it may be preempted |
//! | `turn` | a preempted thread that waits for a worker, or runs without one |
//! | `mailbox` | threads brought to an OS thread that is away, or asleep at home |
//! | `request` | a request to one OS thread |
//! | `links`, `names` | references to a record that outlive its thread; names that a dump reads |
//! | `unjoined` | handles that a scope keeps |
//! | `user` | calls of users' code |

#[macro_use]
pub(crate) mod atomics;

pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod links;
pub(crate) mod mailbox;
pub(crate) mod names;
pub(crate) mod parker;
pub(crate) mod pending;
#[cfg(not(loom))]
pub(crate) mod preempt_count;
pub(crate) mod request;
pub(crate) mod retake;
pub(crate) mod turn;
pub(crate) mod unjoined;
pub(crate) mod user;
pub(crate) mod wait;
