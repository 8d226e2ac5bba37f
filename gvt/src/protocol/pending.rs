//! Whether a thread's waits must end: U3 and U4 of `cancel::run`. The models are in `wait::reach`.

use crate::protocol::atomics::{Mutant, Ordering::*, fence, mutant};

/// U3 and U4, by a thread whose wait is armed; `look` says whether the end of its waits has come.
pub(crate) fn is_pending(look: impl FnOnce() -> bool) -> bool {
    if !mutant(Mutant::ReachUnfenced) {
        // ORDERING O1: pairs with K5 of `cancel::cancelled`.
        fence(SeqCst);
    }
    look() && !mutant(Mutant::ReachUnseen)
}
