//! Green threads, with the names of [`std::thread`].
//!
//! Code moves here by a change of its `use` lines, with two exceptions: [`current`] returns an `Option`,
//! `None` outside a runtime; and closures that [`Builder::spawn`] and [`Scope::spawn`] run take their
//! thread's [token](crate::cancel), `|_| …`. ([`Builder`] is [`gvt::Builder`](crate::Builder), whose closures
//! take it too.)
//!
//! ```
//! use gvt::thread;
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! let handle = thread::spawn(|| {
//!     thread::park();
//!     6 * 7
//! });
//! handle.thread().unpark();
//! assert_eq!(handle.join().unwrap(), 42);
//! # });
//! ```
//!
//! | to | names |
//! |---|---|
//! | spawn | [`spawn`], [`try_spawn`]; with a token [`gvt::spawn`](crate::spawn()), [`spawn_with_priority`] |
//! | choose name, [`Priority`], stack, [`Migration`] | [`Builder`] |
//! | take a result | [`JoinHandle`], [`JoinFuture`], [`join_all`], [`Result`] |
//! | borrow | [`scope`], [`Scope`], [`ScopedJoinHandle`] |
//! | end together | [`TaskSet`], [`TaskError`] |
//! | wait | [`sleep`], [`sleep_until`], [`park`], [`park_timeout`], [`Thread::unpark`] |
//! | let others run | [`yield_now`], [`safepoint!`](crate::safepoint), [`blocking`] |
//! | ask about the running thread | [`current`], [`current_id`], [`current_name`], [`current_priority`] |
//! | | [`current_tag`], [`current_token`], [`current_worker`], [`is_in_gvthread`], [`panicking`] |
//! | name a thread | [`Thread`], [`ThreadId`] |
//! | have a value for each thread | [`gvt_local!`](crate::gvt_local), [`LocalKey`], [`AccessError`] |
//! | test | [`settle`] |

pub(crate) mod builder;
pub(crate) mod current;
pub(crate) mod join_handle;
pub(crate) mod local_key;
pub(crate) mod plain;
pub(crate) mod scope;
pub(crate) mod settle;
pub(crate) mod spawn;
pub(crate) mod tag;
pub(crate) mod task_set;
pub(crate) mod unjoined;
pub(crate) mod unpark;

pub(crate) use builder::staying;
pub(crate) use spawn::{Options, Refused, refused, spawn_here, spawn_on};

pub use crate::kernel::thread::id::ThreadId;
pub use crate::time::sleep::{sleep, sleep_until};
pub use crate::wait::yielding::yield_now;
pub use builder::{Builder, spawn_with_priority};
pub use current::{
    Thread, blocking, current, current_id, current_name, current_priority, current_token, current_worker,
    is_in_gvthread,
};
pub use join_handle::{JoinFuture, JoinHandle, join_all};
pub use local_key::{AccessError, LocalKey};
pub use plain::{spawn, try_spawn};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use settle::settle;
pub use spawn::Migration;
pub use tag::current_tag;
pub use task_set::{TaskError, TaskSet};
pub use unpark::{park, park_timeout};

pub use gvt_traits::Priority;
#[doc(no_inline)]
pub use std::thread::{Result, available_parallelism, panicking};
