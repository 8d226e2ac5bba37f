//! Reading the name of a thread that may end meanwhile.
//!
//! **Hazard.** A dump of all threads reads records that it does not own. A record's cold part, which holds
//! the name, is freed by the thread that drops the last reference to the record. Neither may wait for the
//! other: a dump may read two million records, and named threads may end a million times a second.
//!
//! **Protocol.** One reader at a time announces the part that it reads (a hazard pointer). Reader: **N1**
//! reads the record's pointer, **N2** announces it, **N3** exchanges the record's pointer for itself, and
//! reads the part only if that succeeds; **N4** takes its announcement back, and if that says LEFT, frees the
//! part. The thread that frees: **M1** takes the pointer out of the record, **M2** if it is the announced
//! one, adds LEFT to the announcement and leaves the part to the reader; else frees it. N3 and M1 are
//! exchanges of one word: either N3 comes first, and then M2 sees N2, or N3 fails.
//!
//! **Rejected.** One lock over all names, held during a dump: every end of a named thread waits for it. A
//! counted reference to the record: a thread's end counts without a read-modify-write where it drops the last
//! reference, and a slot in the table would become free later than the thread's join.
//!
//! **Evidence.** loom `names::*`; mutants `ReadBlind` (no N3) and `FreeBlind` (no M2) fail.

use std::ptr;

use crate::protocol::atomics::Ordering::*;
use crate::protocol::atomics::{AtomicPtr, Mutant, mutant};

/// In an announcement: the reader must free the part.
const LEFT: usize = 1;

/// The part being read.
pub(crate) struct Reading(AtomicPtr<()>);

impl Reading {
    /// Nothing.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Reading(AtomicPtr::new(ptr::null_mut()))
    }

    /// Nothing.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Reading(AtomicPtr::new(ptr::null_mut()))
    }
}

/// M1 and M2: the part that the caller must free, or null.
pub(crate) fn take(place: &AtomicPtr<()>, reading: &Reading) -> *mut () {
    // ORDERING O2: Acquire pairs with the Release of N3: M2 sees N2. O1: the part is seen.
    let part = place.swap(ptr::null_mut(), AcqRel);
    if part.is_null() || mutant(Mutant::FreeBlind) {
        return part;
    }
    // ORDERING O3: Release pairs with the Acquire of N4, which frees the part. Acquire on failure pairs with
    // the Release of N4, or of a later N2: the read is over before this caller frees the part.
    match reading.0.compare_exchange(part, part.map_addr(|address| address | LEFT), AcqRel, Acquire) {
        Ok(_) => ptr::null_mut(),
        Err(_) => part,
    }
}

/// N1 to N4: the result of `f` on the part, and a part that the caller must free, or null.
///
/// Context: one caller at a time.
pub(crate) fn read<R>(
    place: &AtomicPtr<()>,
    reading: &Reading,
    f: impl FnOnce(*mut ()) -> R,
) -> (Option<R>, *mut ()) {
    // Relaxed: N3 checks it.
    let part = place.load(Relaxed);
    if part.is_null() {
        return (None, ptr::null_mut());
    }
    // ORDERING O3: Release, see M2.
    reading.0.store(part, Release);
    // ORDERING O1: Acquire pairs with the Release that published the part. O2: Release pairs with M1.
    let is_there = mutant(Mutant::ReadBlind) || place.compare_exchange(part, part, AcqRel, Relaxed).is_ok();
    let read = is_there.then(|| f(part));
    // ORDERING O3: AcqRel, see M2.
    let announced = reading.0.swap(ptr::null_mut(), AcqRel);
    (read, if announced == part { ptr::null_mut() } else { part })
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::protocol::atomics::{check, check_mutant};
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;

    /// A part's life: alive, or the number of times that it was freed.
    fn reader_meets_end() {
        loom::model(|| {
            let freed = Arc::new(AtomicUsize::new(0));
            let part = ptr::without_provenance_mut::<()>(64);
            let shared = Arc::new((AtomicPtr::new(part), Reading::new()));
            let ender = {
                let (shared, freed) = (shared.clone(), freed.clone());
                loom::thread::spawn(move || {
                    if !take(&shared.0, &shared.1).is_null() {
                        freed.fetch_add(1, SeqCst);
                    }
                })
            };
            let look = |_| assert_eq!(freed.load(SeqCst), 0, "read after it was freed");
            let (_, left) = read(&shared.0, &shared.1, look);
            if !left.is_null() {
                freed.fetch_add(1, SeqCst);
            }
            ender.join().unwrap();
            assert_eq!(freed.load(SeqCst), 1, "freed once");
        });
    }

    #[test]
    fn names_are_read_while_they_last() {
        check(reader_meets_end);
    }

    #[test]
    fn mutant_read_blind() {
        check_mutant(Mutant::ReadBlind, reader_meets_end);
    }

    #[test]
    fn mutant_free_blind() {
        check_mutant(Mutant::FreeBlind, reader_meets_end);
    }
}
