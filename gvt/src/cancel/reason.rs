//! Why a token is cancelled.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a token is cancelled. Of several causes the nearest counts: its own before its parent's.
///
/// It is an [`Error`], so that [`CancellationToken::check`](crate::CancellationToken::check) works with `?`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CancelReason {
    /// [`cancel`](crate::CancellationToken::cancel) was called.
    Requested,
    /// Its deadline, or an ancestor's, has passed.
    DeadlinePassed,
    /// [`cancel_because`](crate::CancellationToken::cancel_because) was called with these words.
    Because(Arc<str>),
    /// The runtime shuts down.
    ShutDown,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CancelReason::Requested => f.pad("cancelled on request"),
            CancelReason::DeadlinePassed => f.pad("cancelled because its deadline has passed"),
            CancelReason::Because(words) => write!(f, "cancelled: {words}"),
            CancelReason::ShutDown => f.pad("cancelled because the runtime shuts down"),
        }
    }
}

impl Error for CancelReason {}

/// A reason as a byte; the words are in the node. 0: not cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Code(pub(super) u8);

impl Code {
    pub(super) const NONE: Code = Code(0);
    pub(super) const REQUESTED: Code = Code(1);
    pub(super) const DEADLINE: Code = Code(2);
    pub(super) const BECAUSE: Code = Code(3);

    pub(super) fn is_set(self) -> bool {
        self != Code::NONE
    }

    /// The reason; calls `words` if it has words.
    pub(super) fn reason(self, words: impl FnOnce() -> Option<Arc<str>>) -> Option<CancelReason> {
        match self {
            Code::NONE => None,
            Code::DEADLINE => Some(CancelReason::DeadlinePassed),
            Code::BECAUSE => Some(words().map_or(CancelReason::Requested, CancelReason::Because)),
            _ => Some(CancelReason::Requested),
        }
    }
}
