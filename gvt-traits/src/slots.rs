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

/// One of an allocator's sizes of stack. Classes are numbered from 0, the default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StackClass(u8);

impl StackClass {
    /// The most classes that an allocator may have.
    pub const COUNT: usize = 7;
    /// The class of threads that ask for none.
    pub const DEFAULT: StackClass = StackClass(0);

    /// Class number `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`COUNT`](Self::COUNT).
    #[inline]
    pub const fn new(index: usize) -> Self {
        assert!(index < Self::COUNT, "classes of stacks are numbered below 7");
        StackClass(index as u8)
    }

    /// Its number.
    #[inline]
    pub const fn index(self) -> usize {
        // It is below `COUNT` anyway; the compiler does not know.
        if (self.0 as usize) < Self::COUNT { self.0 as usize } else { Self::COUNT - 1 }
    }

    /// All numbers that classes may have; an allocator need not have them all.
    pub fn all() -> impl Iterator<Item = StackClass> {
        (0..Self::COUNT).map(Self::new)
    }
}

/// What an allocator holds of one class.
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

/// Supplies the memory for green threads' stacks.
///
/// Threads get a slot when they are first run and give it back when they end, so the next thread
/// finds a warm stack: allocators should hand out the slot that came back last (LIFO).
///
/// **Classes.** An allocator has one size of slot, or several; each class is one size and has slots of its
/// own. If there is a single size, [`slot_size`](Self::slot_size) knows [`StackClass::DEFAULT`] only, and the
/// other methods may ignore their class: they are given none that `slot_size` does not know.
///
/// # Implementer's contract
///
/// - **S1 exclusive**: a slot in use overlaps no other slot in use, its guard included, of whatever class.
/// - **S2 pinned**: a slot in use never moves, shrinks, is unmapped or loses its contents.
/// - **S3 guarded**: touching the page below `bounds(slot).bottom` faults; all of `bottom..top` can be
///   read and written.
/// - **S4 sized**: of a slot of class `c`, at least three quarters of `slot_size(c)` are stack: `top -
///   bottom`; `top` is a multiple of 16. What `slot_size` answers is constant, and for the default class not
///   `None`.
/// - **S5 promised**: after `reserve(c, n)` returned `Ok` (`n` at most the plan's `max_gvthreads`), `acquire`
///   of class `c` fails with [`MemoryError::SlotsExhausted`] only while `n` or more slots of that class are
///   in use.
/// - **S6 refusals lose nothing**: after an `Err` the allocator works as before.
/// - **S7 accounts**: with no other call in progress, `memory_use(c).slots_in_use` is exact.
/// - **S8 outlived**: slots still in use when the allocator is dropped keep their memory (S2).
/// - **S9 classed**: `class_for(bytes)` is a class whose slots have at least `bytes`, and no other such class
///   has smaller ones; it is the default class for 0. If there is none, the error names the largest size, for
///   which there is one.
///
/// Also B1–B6 of the crate. Tested: S1, S3–S7, S9 (`slot_allocator` suite). Argued by hand: S2, S8.
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

    /// The address space of one slot of a class, guard and all, in bytes: what users choose it by. `None` if
    /// there is no such class.
    ///
    /// Context: any OS thread; neither blocks nor allocates.
    fn slot_size(&self, class: StackClass) -> Option<usize>;

    /// The class of a thread that asks for a slot of `bytes` (S9).
    ///
    /// Context: any OS thread; neither blocks nor allocates.
    fn class_for(&self, bytes: usize) -> Result<StackClass, MemoryError> {
        if bytes == 0 {
            return Ok(StackClass::DEFAULT);
        }
        let sizes = || StackClass::all().filter_map(|class| Some((self.slot_size(class)?, class)));
        match sizes().filter(|&(size, _)| size >= bytes).min() {
            Some((_, class)) => Ok(class),
            None => {
                let largest = sizes().map(|(size, _)| size).max().unwrap_or(0);
                Err(MemoryError::SlotTooSmall { asked: bytes, largest })
            }
        }
    }

    /// Makes sure that `threads` slots of a class can be in use at once (S5). Called before thread number
    /// `threads` of that class is accepted, so that every thread that was spawned finds a stack.
    ///
    /// Context: any OS thread, preemption off; may make system calls.
    fn reserve(&self, class: StackClass, threads: usize) -> Result<(), MemoryError>;

    /// Takes a slot of a class.
    ///
    /// Context: worker, preemption off; usually no system call.
    ///
    /// # Panics
    ///
    /// If `local` is another allocator's.
    fn acquire(&self, local: &mut Self::Local, class: StackClass) -> Result<Slot, MemoryError>;

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
    /// Context: any OS thread; signal-safe.
    fn bounds(&self, slot: &Slot) -> StackBounds;

    /// Gives physical memory of free slots back to the system; returns bytes given back, roughly.
    /// Slots in a worker's cache are reached at that worker's next `acquire` or `release`.
    ///
    /// Context: any OS thread; makes system calls.
    fn trim(&self) -> usize {
        0
    }

    /// Gives back some of the memory that has not been needed for a while. Returns when to call again (in
    /// `now_ns`'s clock), or `None` if there is nothing to do until more slots come back.
    ///
    /// Context: **monitor** (B6), one call at a time; may make a few system calls, but allocates nothing.
    fn decay(&self, now_ns: u64) -> Option<u64> {
        let _ = now_ns;
        None
    }

    /// What the allocator holds of a class; for people and tests.
    fn memory_use(&self, class: StackClass) -> MemoryUse;

    /// Physical memory of a class's slots, free ones included, in bytes; `None` if that is not known. May
    /// take long; for reports.
    ///
    /// Context: any OS thread; may block and allocate.
    fn resident(&self, class: StackClass) -> Option<usize> {
        let _ = class;
        None
    }
}
