//! How green threads and OS threads wait: the parts of every primitive.
//!
//! | file | mechanism |
//! |---|---|
//! | `lock` | the short lock inside every primitive |
//! | `list`, `seat`, `select_wait` | waiters, and how one is taken; a future's waiter; a thread in several lists |
//! | `clock` | the clock that deadlines go by |
//! | `host` | green threads and OS threads as waiters |
//! | `park`, `yielding` | a green thread's wait; letting other threads run |
//! | `settlers` | threads that wait until all others are parked |
//! | `cancelled`, `reach` | waits that end with a token |
//! | `parking`, `locals` | a thread's `unpark` token; its thread-local values |
//! | `alarm` | deadlines of futures |

#[cfg(not(loom))]
pub(crate) mod cancelled;
pub(crate) mod list;
#[cfg(not(loom))]
pub(crate) mod locals;
#[cfg(not(loom))]
pub(crate) mod park;
#[cfg(not(loom))]
pub(crate) mod parking;
#[cfg(not(loom))]
pub(crate) mod yielding;

#[cfg_attr(loom, path = "model/alarm.rs")]
pub(crate) mod alarm;
#[cfg_attr(loom, path = "model/clock.rs")]
pub(crate) mod clock;
#[cfg_attr(loom, path = "model/host.rs")]
pub(crate) mod host;
#[cfg_attr(loom, path = "model/lock.rs")]
pub(crate) mod lock;
pub(crate) mod reach;
pub(crate) mod seat;
pub(crate) mod select_wait;
pub(crate) mod settlers;
pub(crate) mod wake;
