//! Ways into the parts of a runtime, for callers who do not know their types: the plain entries of `core::Vtable`.

use gvt_traits::{MemoryError, Slot, SlotAllocator, StackClass, TimerBackend, TimerEntry, TimerHandle};

use crate::kernel::worker::core::{Core, CoreBase, Parts};
use crate::kernel::worker::no_unwind::NoUnwind;

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn insert_timer<P: Parts>(base: &CoreBase, entry: TimerEntry) -> TimerHandle {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let handle = unsafe { Core::<P>::of(base) }.timer.insert(entry);
    std::mem::forget(no_unwind);
    handle
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn cancel_timer<P: Parts>(base: &CoreBase, handle: TimerHandle) -> Option<TimerEntry> {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let entry = unsafe { Core::<P>::of(base) }.timer.cancel(handle);
    std::mem::forget(no_unwind);
    entry
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn now_ns<P: Parts>(base: &CoreBase) -> u64 {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    let now = unsafe { Core::<P>::of(base) }.now_ns();
    std::mem::forget(no_unwind);
    now
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn reserve_slots<P: Parts>(
    base: &CoreBase,
    class: StackClass,
    threads: usize,
) -> Result<(), MemoryError> {
    // SAFETY: C1.
    unsafe { Core::<P>::of(base) }.slots.reserve(class, threads)
}

/// # Safety
///
/// C1 of `Core::of`.
pub(super) unsafe fn class_for<P: Parts>(base: &CoreBase, bytes: usize) -> Result<StackClass, MemoryError> {
    // SAFETY: C1.
    unsafe { Core::<P>::of(base) }.slots.class_for(bytes)
}

/// # Safety
///
/// C1 of `Core::of`; **C2**: `slot` is in use.
pub(super) unsafe fn stack_bounds<P: Parts>(base: &CoreBase, slot: u32) -> (usize, usize) {
    // SAFETY: C2; the token is taken apart again below.
    let slot = unsafe { Slot::from_index(slot) };
    // SAFETY: C1.
    let bounds = unsafe { Core::<P>::of(base) }.slots.bounds(&slot);
    let _ = slot.into_index();
    (bounds.bottom.as_ptr() as usize, bounds.top.as_ptr() as usize)
}

/// # Safety
///
/// **C1**: `base` came from `Box::into_raw` of a `Core<P>` that nobody refers to any more.
pub(crate) unsafe fn destroy<P: Parts>(base: *const CoreBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1.
    drop(unsafe { Box::from_raw(base.cast_mut().cast::<Core<P>>()) });
    std::mem::forget(no_unwind);
}
