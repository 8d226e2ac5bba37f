//! Scheduling: which thread a worker runs next, and how it gets there.

pub(crate) mod calls;
pub(crate) mod detach;
pub(crate) mod enqueue;
pub(crate) mod first_frame;
pub(crate) mod idle_worker;
pub(crate) mod leave;
pub(crate) mod look_ahead;
pub(crate) mod maintenance;
pub(crate) mod own;
pub(crate) mod pick;
pub(crate) mod pick_bound;
pub(crate) mod pinned;
pub(crate) mod start;
pub(crate) mod switch;
pub(crate) mod timers;
pub(crate) mod wakeup;
pub(crate) mod worker_loop;
