//! A naive slot allocator, one mapping a slot, and the ways to get it wrong.

use std::sync::{Mutex, MutexGuard};

use gvt_traits::{
    Factory, GUARD_SIZE, MIN_SLOT_SIZE, MemoryError, MemoryUse, Plan, SchedError, Slot, SlotAllocator,
    StackBounds, StackClass, WorkerId,
};

/// What a [`Naive`] allocator does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Nothing.
    None,
    /// S1: every other stack reaches into the slot before.
    Overlaps,
    /// S1: now and then a slot that came back goes out twice.
    HandsOutTwice,
    /// S2: `trim` discards the memory of slots in use too.
    TrimsInUse,
    /// S3: the guard is an ordinary page.
    NoGuard,
    /// S3: `bounds` counts the guard as stack.
    GuardInside,
    /// S4: the larger class has the stacks of the smaller.
    CutsCorners,
    /// S9: no request is too large.
    GrantsAnySize,
    /// S9: any class that is large enough will do.
    Generous,
    /// S4: tops are multiples of 8 only.
    TopNotAligned,
    /// S5: now and then a slot that came back is forgotten.
    Loses,
    /// S5: slots stay with the worker that freed them, and no more are reserved for that.
    Hoards,
    /// S5: one count of promised slots serves all classes.
    SharesPromises,
    /// S6: after a refusal everything is refused.
    GivesUp,
    /// S6: a refused promise takes one off the promises made.
    RefusalLoses,
    /// The slot that came back first goes out first.
    FirstInFirstOut,
    /// S7: slots in use are counted wrong.
    Miscounts,
    /// S7: slots in use are counted over all classes.
    CountsTogether,
}

/// Configures a naive allocator of two classes: a lock, a mapping for each slot, lists of free ones.
#[derive(Clone, Copy, Debug)]
pub struct Naive(pub Flaw);

impl Naive {
    /// Without a flaw: a second right implementation for the laws.
    pub const fn right() -> Self {
        Naive(Flaw::None)
    }
}

impl Factory for Naive {
    type Output = NaivePool;

    fn build(&self, _plan: &Plan) -> Result<NaivePool, SchedError> {
        Ok(NaivePool { flaw: self.0, state: Mutex::default() })
    }
}

/// What [`Naive`] builds. Slots have [`MIN_SLOT_SIZE`], or four times that.
#[derive(Debug)]
pub struct NaivePool {
    flaw: Flaw,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Lowest address and class of each slot.
    mappings: Vec<(usize, usize)>,
    classes: [OfClass; 2],
    releases: usize,
    refused: bool,
}

#[derive(Debug, Default)]
struct OfClass {
    free: Vec<u32>,
    in_use: usize,
    promised: usize,
    mapped: usize,
}

/// A worker's cache; unused but by [`Flaw::Hoards`].
pub type Hoard = Vec<u32>;

const SIZES: [usize; 2] = [MIN_SLOT_SIZE, 4 * MIN_SLOT_SIZE];

/// Two mappings of one slot's size, so that an overlapping stack still lies in mapped memory.
const fn mapped(class: usize) -> usize {
    2 * SIZES[class]
}

impl NaivePool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn map(&self, class: usize) -> Result<usize, MemoryError> {
        let bytes = mapped(class);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(MemoryError::Reserve { what: "a stack", bytes, errno: errno() });
        }
        // SAFETY: the page is the lowest of the mapping made above, which nobody uses yet.
        if self.flaw != Flaw::NoGuard && unsafe { libc::mprotect(base, GUARD_SIZE, libc::PROT_NONE) } != 0 {
            return Err(MemoryError::Guard { errno: errno() });
        }
        Ok(base.expose_provenance())
    }

    fn refuse<T>(&self, error: MemoryError) -> Result<T, MemoryError> {
        self.lock().refused = true;
        Err(error)
    }
}

// SAFETY: with `Flaw::None` each slot is a mapping of its own that stays until the pool is dropped (S1, S2),
// its lowest page is protected (S3), and the rest is stack (S4). With another flaw it breaks
// the clause that the flaw names, which is its purpose: only laws may use it, and they run no code on its
// stacks.
unsafe impl SlotAllocator for NaivePool {
    type Local = Hoard;

    fn local(&self, _worker: WorkerId) -> Hoard {
        Vec::new()
    }

    fn slot_size(&self, class: StackClass) -> Option<usize> {
        SIZES.get(class.index()).copied()
    }

    fn class_for(&self, bytes: usize) -> Result<StackClass, MemoryError> {
        match SIZES.iter().position(|&size| size >= bytes) {
            Some(_) if self.flaw == Flaw::Generous && bytes > 0 => Ok(StackClass::new(1)),
            Some(class) => Ok(StackClass::new(class)),
            None if self.flaw == Flaw::GrantsAnySize => Ok(StackClass::new(1)),
            None => Err(MemoryError::SlotTooSmall { asked: bytes, largest: SIZES[1] }),
        }
    }

    fn reserve(&self, class: StackClass, threads: usize) -> Result<(), MemoryError> {
        let class = class.index();
        if threads > 1 << 20 {
            if self.flaw == Flaw::RefusalLoses {
                let promised = &mut self.lock().classes[class].promised;
                *promised = promised.saturating_sub(1);
            }
            let bytes = threads.saturating_mul(SIZES[class]);
            return self.refuse(MemoryError::Reserve { what: "stacks", bytes, errno: libc::ENOMEM });
        }
        let promised = &mut self.lock().classes[class].promised;
        *promised = threads.max(*promised);
        Ok(())
    }

    fn acquire(&self, local: &mut Hoard, class: StackClass) -> Result<Slot, MemoryError> {
        let class = class.index();
        let mut state = self.lock();
        let exhausted = MemoryError::SlotsExhausted { slots: state.classes[class].promised };
        if self.flaw == Flaw::GivesUp && state.refused {
            return Err(exhausted);
        }
        let here = &mut state.classes[class];
        let free = match self.flaw {
            Flaw::Hoards if class == 0 => local.pop(),
            Flaw::FirstInFirstOut if !here.free.is_empty() => Some(here.free.remove(0)),
            _ => here.free.pop(),
        };
        let all = |field: fn(&OfClass) -> usize| state.classes.iter().map(field).sum::<usize>();
        let more = match self.flaw {
            Flaw::SharesPromises => {
                all(|of| of.mapped) < state.classes.iter().map(|of| of.promised).max().unwrap_or(0)
            }
            _ => state.classes[class].mapped < state.classes[class].promised,
        };
        let index = match free {
            Some(index) => index,
            None if more => {
                let mapping = self.map(class)?;
                state.mappings.push((mapping, class));
                state.classes[class].mapped += 1;
                state.mappings.len() as u32 - 1
            }
            None => {
                drop(state);
                return self.refuse(exhausted);
            }
        };
        state.classes[class].in_use += 1;
        // SAFETY: C1 of `from_index`: the number was in the list of free ones, or is new. (`HandsOutTwice`
        // breaks it.)
        Ok(unsafe { Slot::from_index(index) })
    }

    unsafe fn release(&self, local: &mut Hoard, slot: Slot) {
        let mut state = self.lock();
        state.releases += 1;
        let now_and_then = state.releases.is_multiple_of(9);
        let index = slot.into_index();
        let class = state.mappings[index as usize].1;
        let here = &mut state.classes[class];
        match self.flaw {
            Flaw::Loses if now_and_then => {}
            Flaw::Hoards if class == 0 => local.push(index),
            Flaw::HandsOutTwice if now_and_then => here.free.extend([index, index]),
            _ => here.free.push(index),
        }
        if self.flaw != Flaw::Miscounts || !now_and_then {
            here.in_use = here.in_use.saturating_sub(1);
        }
    }

    fn bounds(&self, slot: &Slot) -> StackBounds {
        let (mut index, mut offset) = (slot.index() as usize, 0);
        let state = self.lock();
        if self.flaw == Flaw::Overlaps && index % 2 == 1 {
            (index, offset) = (index - 1, MIN_SLOT_SIZE - GUARD_SIZE);
        }
        let (base, class) = state.mappings[index];
        let size = if self.flaw == Flaw::CutsCorners { SIZES[0] } else { SIZES[class] };
        let base = base + offset;
        let top = base + size - if self.flaw == Flaw::TopNotAligned { 8 } else { 0 };
        let bottom = base + if self.flaw == Flaw::GuardInside { 0 } else { GUARD_SIZE };
        let at = |address| std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(address));
        StackBounds { top: at(top).expect("mapped"), bottom: at(bottom).expect("mapped") }
    }

    fn trim(&self) -> usize {
        let state = self.lock();
        let is_free = |index: usize, class: usize| state.classes[class].free.contains(&(index as u32));
        let mut bytes = 0;
        for (index, &(base, class)) in state.mappings.iter().enumerate() {
            if self.flaw == Flaw::TrimsInUse || is_free(index, class) {
                let stack = std::ptr::with_exposed_provenance_mut(base + GUARD_SIZE);
                // SAFETY: a free slot's stack holds nothing that is needed. (`TrimsInUse` breaks that.)
                unsafe { libc::madvise(stack, SIZES[class] - GUARD_SIZE, libc::MADV_DONTNEED) };
                bytes += GUARD_SIZE;
            }
        }
        bytes
    }

    fn memory_use(&self, class: StackClass) -> MemoryUse {
        let state = self.lock();
        let here = &state.classes[class.index()];
        let mut memory = MemoryUse::default();
        memory.slots_in_use = match self.flaw {
            Flaw::CountsTogether => state.classes.iter().map(|of| of.in_use).sum(),
            _ => here.in_use,
        };
        memory.slots_cached = here.free.len();
        memory.slots_reserved = here.promised;
        memory.bytes_reserved = here.mapped * mapped(class.index());
        memory
    }
}

impl Drop for NaivePool {
    fn drop(&mut self) {
        for &(mapping, class) in &self.lock().mappings {
            // SAFETY: laws keep no stack beyond the pool.
            unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(mapping), mapped(class)) };
        }
    }
}
