//! The entries of `core::Vtable`: calls into a runtime's parts for callers that do not know their types.

use gvt_traits::{MemoryError, Slot, SlotAllocator, StackClass, TimerBackend, TimerEntry, TimerHandle};

use crate::kernel::sched::{detach, enqueue, first_frame, leave, pinned, start};
use crate::kernel::worker::core::{Core, CoreBase, Parts, Vtable};
use crate::kernel::worker::no_unwind::NoUnwind;

impl<P: Parts> Core<P> {
    /// The table for these parts.
    pub(crate) const VTABLE: Vtable = Vtable {
        yield_now: leave::yield_now::<P>,
        park: leave::park::<P>,
        park_for: leave::park_for::<P>,
        push: enqueue::push::<P>,
        push_spawned: enqueue::push_spawned::<P>,
        push_woken: enqueue::push_woken::<P>,
        inject: enqueue::inject::<P>,
        insert_timer: insert_timer::<P>,
        cancel_timer: cancel_timer::<P>,
        now_ns: now_ns::<P>,
        reserve_slots: reserve_slots::<P>,
        class_for: class_for::<P>,
        stack_bounds: stack_bounds::<P>,
        release_worker: detach::release_worker::<P>,
        divert: pinned::divert_on::<P>,
        first_frame: first_frame::first_frame::<P>,
        start_spare: start::start_spare::<P>,
        destroy: destroy::<P>,
    };
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn insert_timer<P: Parts>(base: &CoreBase, entry: TimerEntry) -> TimerHandle {
    let no_unwind = NoUnwind;
    // SAFETY: C1: `base` begins a `Core<P>`.
    let handle = unsafe { Core::<P>::of(base) }.timer.insert(entry);
    std::mem::forget(no_unwind);
    handle
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn cancel_timer<P: Parts>(base: &CoreBase, handle: TimerHandle) -> Option<TimerEntry> {
    let no_unwind = NoUnwind;
    // SAFETY: C1: `base` begins a `Core<P>`.
    let entry = unsafe { Core::<P>::of(base) }.timer.cancel(handle);
    std::mem::forget(no_unwind);
    entry
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn now_ns<P: Parts>(base: &CoreBase) -> u64 {
    let no_unwind = NoUnwind;
    // SAFETY: C1: `base` begins a `Core<P>`.
    let now = unsafe { Core::<P>::of(base) }.now_ns();
    std::mem::forget(no_unwind);
    now
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn reserve_slots<P: Parts>(
    base: &CoreBase,
    class: StackClass,
    threads: usize,
) -> Result<(), MemoryError> {
    // SAFETY: C1: `base` begins a `Core<P>`.
    unsafe { Core::<P>::of(base) }.slots.reserve(class, threads)
}

/// # Safety
///
/// C1 of `Core::of`.
unsafe fn class_for<P: Parts>(base: &CoreBase, bytes: usize) -> Result<StackClass, MemoryError> {
    // SAFETY: C1: `base` begins a `Core<P>`.
    unsafe { Core::<P>::of(base) }.slots.class_for(bytes)
}

/// # Safety
///
/// C1 of `Core::of`; **C2**: `slot` is in use.
unsafe fn stack_bounds<P: Parts>(base: &CoreBase, slot: u32) -> (usize, usize) {
    // SAFETY: C2: in use; the token is taken apart again below.
    let slot = unsafe { Slot::from_index(slot) };
    // SAFETY: C1: `base` begins a `Core<P>`.
    let bounds = unsafe { Core::<P>::of(base) }.slots.bounds(&slot);
    let _ = slot.into_index();
    (bounds.bottom.as_ptr() as usize, bounds.top.as_ptr() as usize)
}

/// # Safety
///
/// **C1**: `base` came from `Box::into_raw` of a `Core<P>` to which there is no reference left.
pub(crate) unsafe fn destroy<P: Parts>(base: *const CoreBase) {
    let no_unwind = NoUnwind;
    // SAFETY: C1: the box, without another reference.
    drop(unsafe { Box::from_raw(base.cast_mut().cast::<Core<P>>()) });
    std::mem::forget(no_unwind);
}
