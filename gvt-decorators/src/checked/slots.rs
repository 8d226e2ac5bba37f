//! The ledger of a slot allocator: which stacks are in use.
//!
//! Checked: S1 (with one page below each stack, its guard) and S4 at every call, S7 at calls that are alone.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;

use gvt_traits::{GUARD_SIZE, MemoryError, MemoryUse, Slot, SlotAllocator, StackBounds, WorkerId};

use super::{CheckedLocal, CheckedPart, broken, demand, lock};

/// Stacks in use: bottom, then top and slot.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<usize, (usize, u32)>);

fn ends(bounds: StackBounds) -> (usize, usize) {
    (bounds.bottom.as_ptr() as usize, bounds.top.as_ptr() as usize)
}

// SAFETY: S1 to S4 are the wrapped allocator's: slots and bounds are passed on unchanged.
unsafe impl<S: SlotAllocator> SlotAllocator for CheckedPart<S> {
    type Local = CheckedLocal<S::Local>;

    fn local(&self, worker: WorkerId) -> Self::Local {
        CheckedLocal { local: self.part.local(worker), worker: worker.index().unwrap_or(usize::MAX) }
    }

    fn reserve(&self, threads: usize) -> Result<(), MemoryError> {
        self.part.reserve(threads)
    }

    fn acquire(&self, local: &mut Self::Local, min_bytes: usize) -> Result<Slot, MemoryError> {
        let _call = self.calls.begin();
        let slot = ManuallyDrop::new(self.part.acquire(&mut local.local, min_bytes)?);
        let (bottom, top) = ends(self.part.bounds(&slot));
        demand(top % 16 == 0 && top.saturating_sub(bottom) >= min_bytes.max(1), "S4", || {
            format!("{min_bytes} bytes were asked for and {bottom:#x}..{top:#x} was given")
        });
        let mut ledger = lock(&self.slots);
        let guard = bottom.saturating_sub(GUARD_SIZE);
        let below =
            ledger.0.range(..top + GUARD_SIZE).next_back().filter(|(_, (other_top, _))| *other_top > guard);
        if let Some((other, (other_top, index))) = below {
            broken(
                "S1",
                &format!(
                    "{slot:?} at {bottom:#x}..{top:#x} overlaps slot {index} at {other:#x}..{other_top:#x}"
                ),
            );
        }
        ledger.0.insert(bottom, (top, slot.index()));
        Ok(ManuallyDrop::into_inner(slot))
    }

    unsafe fn release(&self, local: &mut Self::Local, slot: Slot) {
        let _call = self.calls.begin();
        let (bottom, _) = ends(self.part.bounds(&slot));
        let slot = ManuallyDrop::new(slot);
        let known = lock(&self.slots).0.remove(&bottom);
        demand(known.is_some_and(|(_, index)| index == slot.index()), "S1", || {
            format!("{slot:?} is given back, and {known:?} is what was in use there")
        });
        // SAFETY: the caller's C1.
        unsafe { self.part.release(&mut local.local, ManuallyDrop::into_inner(slot)) };
    }

    fn bounds(&self, slot: &Slot) -> StackBounds {
        self.part.bounds(slot)
    }

    fn trim(&self) -> usize {
        self.part.trim()
    }

    fn memory_use(&self) -> MemoryUse {
        let call = self.calls.begin();
        let memory = self.part.memory_use();
        let used = lock(&self.slots).0.len();
        demand(memory.slots_in_use == used || !call.is_alone(), "S7", || {
            format!("it says that {} of {used} slots are in use", memory.slots_in_use)
        });
        memory
    }
}
