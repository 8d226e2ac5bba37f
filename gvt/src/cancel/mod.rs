//! Cancellation: tokens, which are requests to stop.
//!
//! Each thread has a token, a child of its spawner's token, and each spawned closure is lent its own.
//! Cancelling a token cancels all its descendants. Code sees that in one of three ways: it asks
//! ([`CancellationToken::is_cancelled`], [`check`](CancellationToken::check)), it waits for it
//! ([`CancellationToken::cancelled`], `cancelled(token)` in [`select!`](crate::select)), or its waits end
//! with it ([`cancellable`]).
//!
//! | name | what it is |
//! |---|---|
//! | [`CancellationToken`] | the token: cancel it, ask it, make children and deadlines of it |
//! | [`CancelReason`] | why a token is cancelled |
//! | [`Cancelled`] | a cancellation to wait for |
//! | [`cancellable`] | runs code whose waits end when the calling thread is cancelled |
//!
//! ```
//! # gvt::Runtime::new(Default::default()).block_on(|| {
//! use gvt::cancel::{CancelReason, CancellationToken};
//! let group = CancellationToken::new();
//! let worker = gvt::Builder::new().token(&group).spawn(|token| {
//!     token.cancelled().wait();
//!     token.reason()
//! })?;
//! group.cancel_because("the client is gone");
//! assert_eq!(worker.join().unwrap(), Some(CancelReason::Because("the client is gone".into())));
//! # Ok::<(), gvt::SchedError>(()) }).unwrap();
//! ```

pub(crate) mod cancelled;
pub(crate) mod reason;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod token;

pub use cancelled::Cancelled;
pub use reason::CancelReason;
pub use run::cancellable;
pub use token::CancellationToken;
