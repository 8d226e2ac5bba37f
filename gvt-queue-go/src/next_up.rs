//! The next-up slot: one thread, just woken or spawned, that its worker runs next (Go's `runnext`, tokio's
//! LIFO slot).
//!
//! **Hazard.** The owner takes the thread while a thief takes it; a thief takes it just before the
//! owner would, away from the caches that hold its data.
//!
//! **Protocol.** The slot is one pointer. The owner puts by swapping, takes by swapping null in;
//! a thief exchanges the pointer that it saw for null. The one that gets a pointer out has the token.
//! By then the pointer may be from a later push of the same thread; the token is as good.
//!
//! A thief looks here last and then watches for about a microsecond, lets others have the processor, since
//! the owner may be among these, and watches again; an owner that is about to block, as wakers mostly are,
//! takes its thread within that time. Else a thief that the kernel put on the owner's processor would take
//! the owner's thread each time, and the two would wake each other without end. This is a delay of fixed
//! length, not a wait for anybody (Q2).
//!
//! **Evidence.** loom `next_up_*`; mutants `TakeWithoutSwap`, `NextUpStealWithoutCas` fail them.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use gvt_traits::{Metadata, Runnable};

use crate::sync::{Arc, AtomicPtr, Mutant, Padded, left_behind, look_ptr, mutant, publish_ptr};

/// How often a thief looks again before it takes: about 1 µs at 140 cycles a pause.
const GRACE: usize = if cfg!(loom) { 0 } else { 24 };

struct Place(Padded<AtomicPtr<Metadata>>);

impl Drop for Place {
    fn drop(&mut self) {
        // Relaxed: `&mut self`.
        if !self.0.0.load(Relaxed).is_null() {
            left_behind(1, "a next-up slot");
        }
    }
}

/// The owner's end.
pub(crate) struct Owner(Arc<Place>);

/// Everybody else's end.
pub(crate) struct Stealer(Arc<Place>);

/// An empty place.
pub(crate) fn next_up() -> (Owner, Stealer) {
    let place = Arc::new(Place(Padded(AtomicPtr::new(ptr::null_mut()))));
    (Owner(place.clone()), Stealer(place))
}

/// The token of what came out of a place, if it was not null.
///
/// # Safety
///
/// **C1**: `pointer` is null or was taken out of a place by a swap or exchange.
unsafe fn token(pointer: *mut Metadata) -> Option<Runnable> {
    // SAFETY: C1 and C2 of `from_raw`: only `put` writes pointers, from a token's `into_raw`, and each
    // comes out once (C1).
    NonNull::new(pointer).map(|metadata| unsafe { Runnable::from_raw(metadata) })
}

impl Owner {
    /// Whether something was put and not yet seen taken.
    #[inline]
    pub(crate) fn is_occupied(&self) -> bool {
        // Relaxed: only the owner puts, so null is the truth; a thief's taking seen late is found
        // out by the swap.
        !self.0.0.0.load(Relaxed).is_null()
    }

    /// Puts `task` here, before the caller's next look at sleeping workers (Q6), and returns what
    /// was here. While that is on its way elsewhere the caller's `Moves` must announce a move.
    #[inline]
    pub(crate) fn put(&mut self, task: Runnable) -> Option<Runnable> {
        let old = publish_ptr(&self.0.0.0, task.into_raw().as_ptr());
        // SAFETY: C1: it came out by a swap.
        unsafe { token(old) }
    }

    /// Takes what is here.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Runnable> {
        if !self.is_occupied() {
            return None;
        }
        let taken = if mutant(Mutant::TakeWithoutSwap) {
            let seen = self.0.0.0.load(Relaxed);
            self.0.0.0.store(ptr::null_mut(), Relaxed);
            seen
        } else {
            // Relaxed: what is here the owner put itself. The swap goes on with the release sequence
            // of `put`, on which T2 of `transit` relies.
            self.0.0.0.swap(ptr::null_mut(), Relaxed)
        };
        // SAFETY: C1: it came out by a swap.
        unsafe { token(taken) }
    }

    /// What is here (Q7: only to prefetch).
    pub(crate) fn peek(&self) -> Option<NonNull<Metadata>> {
        // Relaxed: nothing follows from it.
        NonNull::new(self.0.0.0.load(Relaxed))
    }
}

impl Stealer {
    /// Takes what is here, unless it moves while we watch.
    pub(crate) fn steal(&self) -> Option<Runnable> {
        let place = &self.0.0.0;
        let seen = look_ptr(place);
        if seen.is_null() {
            return None;
        }
        for step in 0..2 * GRACE {
            if step == GRACE {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            // Relaxed: the exchange below decides.
            if place.load(Relaxed) != seen {
                return None;
            }
        }
        if mutant(Mutant::NextUpStealWithoutCas) {
            place.store(ptr::null_mut(), Relaxed);
        } else {
            // ORDERING O4: Acquire pairs with the SeqCst swap of `put`: what the thread did before
            // it was pushed. Relaxed on failure: nothing was taken.
            place.compare_exchange(seen, ptr::null_mut(), Acquire, Relaxed).ok()?;
        }
        // SAFETY: C1: it came out by an exchange.
        unsafe { token(seen) }
    }

    /// The address of what is here; the last look before sleeping (Q6).
    pub(crate) fn look(&self) -> *mut Metadata {
        look_ptr(&self.0.0.0)
    }
}
