//! A timer in the place of the stacks.

fn main() {
    let _ = gvt::Runtime::builder().slots(gvt::HeapTimer).build();
}

//~ error: `HeapBackend` does not allocate stack slots
//~ label: this backend does not implement `SlotAllocator`
//~ note: pass `MmapSlots` to `.slots(…)`, or leave it out
