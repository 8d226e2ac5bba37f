//! The ledger of a slot allocator: which stacks are in use.
//!
//! Checked: S1 (with one page below each stack, its guard), S4 and S9 at every call, S7 at calls that are
//! alone.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;

use gvt_traits::{
    GUARD_SIZE, MemoryError, MemoryUse, Slot, SlotAllocator, StackBounds, StackClass, WorkerId,
};

use super::{CheckedLocal, CheckedPart, broken, demand, lock};

/// Stacks in use, by their bottoms.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<usize, InUse>);

#[derive(Debug)]
struct InUse {
    top: usize,
    slot: u32,
    class: StackClass,
}

fn ends(bounds: StackBounds) -> (usize, usize) {
    (bounds.bottom.as_ptr() as usize, bounds.top.as_ptr() as usize)
}

// SAFETY: S1 to S4 are the wrapped allocator's: slots and bounds are passed on unchanged.
unsafe impl<S: SlotAllocator> SlotAllocator for CheckedPart<S> {
    type Local = CheckedLocal<S::Local>;

    fn local(&self, worker: WorkerId) -> Self::Local {
        CheckedLocal { local: self.part.local(worker), worker: worker.index().unwrap_or(usize::MAX) }
    }

    fn slot_size(&self, class: StackClass) -> Option<usize> {
        self.part.slot_size(class)
    }

    fn class_for(&self, bytes: usize) -> Result<StackClass, MemoryError> {
        let class = self.part.class_for(bytes)?;
        let size = self.part.slot_size(class);
        demand(size.is_some_and(|size| size >= bytes), "S9", || {
            format!("{bytes} bytes were asked for; {class:?} was named, which has {size:?}")
        });
        Ok(class)
    }

    fn reserve(&self, class: StackClass, threads: usize) -> Result<(), MemoryError> {
        self.part.reserve(class, threads)
    }

    fn acquire(&self, local: &mut Self::Local, class: StackClass) -> Result<Slot, MemoryError> {
        let _call = self.calls.begin();
        let slot = ManuallyDrop::new(self.part.acquire(&mut local.local, class)?);
        let (bottom, top) = ends(self.part.bounds(&slot));
        let size = self.part.slot_size(class).unwrap_or(0);
        demand(top % 16 == 0 && top.saturating_sub(bottom) >= (size / 4 * 3).max(1), "S4", || {
            format!("a slot of {size} bytes was asked for and {bottom:#x}..{top:#x} was given as its stack")
        });
        let mut ledger = lock(&self.slots);
        let guard = bottom.saturating_sub(GUARD_SIZE);
        let below = ledger.0.range(..top + GUARD_SIZE).next_back().filter(|(_, other)| other.top > guard);
        if let Some((other, InUse { top: other_top, slot: index, .. })) = below {
            broken(
                "S1",
                &format!(
                    "{slot:?} at {bottom:#x}..{top:#x} overlaps slot {index} at {other:#x}..{other_top:#x}"
                ),
            );
        }
        ledger.0.insert(bottom, InUse { top, slot: slot.index(), class });
        Ok(ManuallyDrop::into_inner(slot))
    }

    unsafe fn release(&self, local: &mut Self::Local, slot: Slot) {
        let _call = self.calls.begin();
        let (bottom, _) = ends(self.part.bounds(&slot));
        let slot = ManuallyDrop::new(slot);
        let known = lock(&self.slots).0.remove(&bottom);
        demand(known.as_ref().is_some_and(|known| known.slot == slot.index()), "S1", || {
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

    fn decay(&self, now_ns: u64) -> Option<u64> {
        self.part.decay(now_ns)
    }

    fn resident(&self, class: StackClass) -> Option<usize> {
        self.part.resident(class)
    }

    fn memory_use(&self, class: StackClass) -> MemoryUse {
        let call = self.calls.begin();
        let memory = self.part.memory_use(class);
        let used = lock(&self.slots).0.values().filter(|known| known.class == class).count();
        demand(memory.slots_in_use == used || !call.is_alone(), "S7", || {
            format!("it says that {} of {used} slots are in use", memory.slots_in_use)
        });
        memory
    }
}
