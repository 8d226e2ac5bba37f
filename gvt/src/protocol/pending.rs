//! Whether a thread's waits are to end now: U3 and U4 of `cancel::run`. `wait::reach` has the models.

use crate::protocol::atomics::{Mutant, Ordering::*, fence, mutant};

/// U3 and U4, by a thread whose wait is armed; `look` says whether what would end its waits has come.
pub(crate) fn is_pending(look: impl FnOnce() -> bool) -> bool {
    if !mutant(Mutant::ReachUnfenced) {
        // ORDERING O1: pairs with K5 of `cancel::cancelled`.
        fence(SeqCst);
    }
    look() && !mutant(Mutant::ReachUnseen)
}
