//! A pool, its workers' caches, and the slots in use.

use gvt_traits::{
    Factory, GUARD_SIZE, MemoryError, Plan, Slot, SlotAllocator, StackBounds, StackClass, WorkerId,
};

use crate::{Verdict, Violation};

/// A pool under test. Slots still in use at the end are put away, since dropping one panics.
pub(super) struct Rig<A: SlotAllocator> {
    held: Vec<Slot>,
    locals: Vec<A::Local>,
    pub(super) pool: A,
}

impl<A: SlotAllocator> Rig<A> {
    pub(super) fn new(
        factory: &impl Factory<Output = A>,
        workers: usize,
        threads: usize,
    ) -> Result<Self, Violation> {
        let pool = factory.build(&Plan::new(workers, threads)).map_err(|error| {
            Violation::new("F2", format!("{workers} workers, {threads} threads: {error}"))
        })?;
        Ok(Self::with(pool, workers))
    }

    pub(super) fn with(pool: A, workers: usize) -> Self {
        let locals = (0..workers).map(|n| pool.local(WorkerId::new(n))).collect();
        Rig { held: Vec::new(), locals, pool }
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The classes that there are, with their sizes.
    pub(super) fn classes(&self) -> Result<Vec<(StackClass, usize)>, Violation> {
        let sizes = StackClass::all().filter_map(|class| Some((class, self.pool.slot_size(class)?)));
        let classes: Vec<_> = sizes.collect();
        match classes.first() {
            Some((StackClass::DEFAULT, _)) => Ok(classes),
            _ => Err(Violation::new("S4", format!("the default class has no size: {classes:?}"))),
        }
    }

    pub(super) fn reserve(&self, class: StackClass, threads: usize) -> Verdict {
        self.pool
            .reserve(class, threads)
            .map_err(|error| Violation::new("S5", format!("{threads} threads cannot be promised: {error}")))
    }

    /// Takes a slot, which is then the last in use.
    pub(super) fn try_acquire(&mut self, worker: usize, class: StackClass) -> Result<(), MemoryError> {
        let slot = self.pool.acquire(&mut self.locals[worker], class)?;
        self.held.push(slot);
        Ok(())
    }

    /// Takes a slot that must be there.
    pub(super) fn acquire(&mut self, worker: usize, class: StackClass) -> Verdict {
        self.try_acquire(worker, class).map_err(|error| {
            let held = self.held.len();
            Violation::new("S5", format!("{held} slots are in use and one more was promised, but: {error:?}"))
        })
    }

    /// Gives back the slot at place `n` among those in use.
    pub(super) fn release(&mut self, worker: usize, n: usize) {
        let slot = self.held.remove(n);
        // SAFETY: C1: the slot came from this pool, and no frame ever ran on it.
        unsafe { self.pool.release(&mut self.locals[worker], slot) };
    }

    pub(super) fn bounds(&self, n: usize) -> StackBounds {
        self.pool.bounds(&self.held[n])
    }

    /// S1 for all slots in use.
    pub(super) fn check_disjoint(&self) -> Verdict {
        let mut ranges: Vec<_> =
            self.held.iter().map(|slot| (extent(self.pool.bounds(slot)), slot.index())).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            let (((_, end), first), ((start, _), second)) = (pair[0], pair[1]);
            if start < end {
                return Err(Violation::new(
                    "S1",
                    format!("slot {first} ends at {end:#x}, slot {second}'s guard begins at {start:#x}"),
                ));
            }
        }
        Ok(())
    }
}

/// First and last address of a slot, guard included.
pub(super) fn extent(bounds: StackBounds) -> (usize, usize) {
    (bounds.bottom.as_ptr() as usize - GUARD_SIZE, bounds.top.as_ptr() as usize)
}

impl<A: SlotAllocator> Drop for Rig<A> {
    fn drop(&mut self) {
        // Given back where possible, so that a pool that leaks what is in use does not eat up the process.
        for slot in self.held.drain(..) {
            match self.locals.first_mut() {
                // SAFETY: C1, as in `release`.
                Some(local) => unsafe { self.pool.release(local, slot) },
                None => _ = slot.into_index(),
            }
        }
    }
}
