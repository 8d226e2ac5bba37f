//! Scheduling: which thread a worker runs next, and how it gets there.

pub(crate) mod calls;
pub(crate) mod detach;
pub(crate) mod first_frame;
pub(crate) mod idle_worker;
pub(crate) mod pinned;
pub(crate) mod start;
pub(crate) mod switch;
pub(crate) mod worker_loop;
