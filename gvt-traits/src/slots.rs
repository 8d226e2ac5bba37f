//! Where stacks come from.

use core::fmt;
use core::mem::ManuallyDrop;

use crate::{MemoryError, StackBounds, WorkerId};

/// The right to use one slot's stack. Move-only; a dropped one is a leak and panics.
pub struct Slot(u32);

impl Slot {
    /// Makes the token of slot `index`.
    ///
    /// # Safety
    ///
    /// **C1**: no other token for that slot exists; one taken apart by
    /// [`into_index`](Self::into_index) does not count.
    pub const unsafe fn from_index(index: u32) -> Self {
        Slot(index)
    }

    /// Takes the token apart, for storage.
    pub fn into_index(self) -> u32 {
        ManuallyDrop::new(self).0
    }

    /// The slot's number.
    pub const fn index(&self) -> u32 {
        self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        panic!("slot {} was dropped instead of released; its stack would be lost", self.0);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

/// What an allocator holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Slots in use.
    pub slots_in_use: usize,
    /// Free slots that may still hold physical pages, for quick reuse.
    pub slots_cached: usize,
    /// Slots for which address space is reserved.
    pub slots_reserved: usize,
    /// Address space reserved, bytes.
    pub bytes_reserved: usize,
}

/// Supplies the memory that green threads' stacks live in.
///
/// Threads get a slot when they are first run and give it back when they end, so the next thread
/// finds a warm stack: allocators should hand out the slot that came back last (LIFO).
///
/// # Implementer's contract
///
/// - **S1 exclusive**: a slot in use overlaps no other slot in use, its guard included.
/// - **S2 pinned**: a slot in use never moves, shrinks, is unmapped or loses its contents.
/// - **S3 guarded**: touching the page below `bounds(slot).bottom` faults; all of `bottom..top` can be
///   read and written.
/// - **S4 sized**: `top - bottom >= min_bytes` of the `acquire`; `top` is a multiple of 16.
/// - **S5 promised**: after `reserve(n)` returned `Ok` (`n` at most the plan's `max_gvthreads`), `acquire` fails with
///   [`MemoryError::SlotsExhausted`] only while `n` or more slots are in use.
/// - **S6 refusals lose nothing**: after an `Err` the allocator works as before.
/// - **S7 accounts**: with no other call under way, `memory_use().slots_in_use` is exact.
/// - **S8 outlived**: slots still in use when the allocator is dropped keep their memory (S2).
///
/// Also B1–B5 of the crate. Tested: S1, S3–S7 (`slot_allocator` suite). Argued by hand: S2, S8.
///
/// # Safety
///
/// Breaking S1–S4 is undefined behaviour in safe callers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not allocate stack slots",
    label = "this backend does not implement `SlotAllocator`",
    note = "pass `MmapSlots` to `.slots(…)`, or leave it out"
)]
pub unsafe trait SlotAllocator: Send + Sync + 'static {
    /// One worker's own cache. Only that worker uses it; it may move between OS threads (B4).
    type Local: Send + 'static;

    /// Makes `worker`'s cache.
    ///
    /// Context: the thread that builds the runtime.
    fn local(&self, worker: WorkerId) -> Self::Local;

    /// Makes sure that `threads` slots can be in use at once (S5). Called before thread number
    /// `threads` is accepted, so that a thread once spawned does find a stack.
    ///
    /// Context: any OS thread, preemption off; may make a system call.
    fn reserve(&self, threads: usize) -> Result<(), MemoryError>;

    /// Takes a slot with a stack of at least `min_bytes` (0: the default).
    ///
    /// Context: worker, preemption off; usually no system call.
    ///
    /// # Panics
    ///
    /// If `local` is another allocator's.
    fn acquire(&self, local: &mut Self::Local, min_bytes: usize) -> Result<Slot, MemoryError>;

    /// Takes a slot back.
    ///
    /// Context: as `acquire`, on another stack than the slot's.
    ///
    /// # Safety
    ///
    /// **C1**: `slot` came from `self`; no frame on it will run again.
    unsafe fn release(&self, local: &mut Self::Local, slot: Slot);

    /// The stack of a slot in use.
    ///
    /// Context: any OS thread.
    fn bounds(&self, slot: &Slot) -> StackBounds;

    /// Gives physical memory of free slots back to the system; returns bytes given back, roughly.
    /// Slots in a worker's cache are reached at that worker's next `acquire` or `release`.
    ///
    /// Context: any OS thread; makes system calls.
    fn trim(&self) -> usize {
        0
    }

    /// What the allocator holds; for people and tests.
    fn memory_use(&self) -> MemoryUse;
}
