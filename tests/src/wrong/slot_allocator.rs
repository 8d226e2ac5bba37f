//! A naive slot allocator, one mapping a slot, and the ways to get it wrong.

use std::sync::{Mutex, MutexGuard};

use gvt_traits::{
    Factory, GUARD_SIZE, MIN_SLOT_SIZE, MemoryError, MemoryUse, Plan, SchedError, Slot, SlotAllocator,
    StackBounds, WorkerId,
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
    /// S4: no request is too large.
    GrantsAnySize,
    /// S4: tops are multiples of 8 only.
    TopNotAligned,
    /// S5: now and then a slot that came back is forgotten.
    Loses,
    /// S5: slots stay with the worker that freed them, and no more are reserved for that.
    Hoards,
    /// S6: after a refusal everything is refused.
    GivesUp,
    /// S6: a refused request for a large stack takes a slot with it.
    RefusalLoses,
    /// The slot that came back first goes out first.
    FirstInFirstOut,
    /// Slots in use are counted wrong.
    Miscounts,
}

/// Configures a naive allocator: a lock, a mapping for each slot, a list of free ones.
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

/// What [`Naive`] builds. Slots have [`MIN_SLOT_SIZE`].
#[derive(Debug)]
pub struct NaivePool {
    flaw: Flaw,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mappings: Vec<usize>,
    free: Vec<u32>,
    in_use: usize,
    promised: usize,
    releases: usize,
    refused: bool,
}

/// A worker's cache; unused but by [`Flaw::Hoards`].
pub type Hoard = Vec<u32>;

/// Two mappings of one slot's size, so that an overlapping stack still lies in mapped memory.
const MAPPED: usize = 2 * MIN_SLOT_SIZE;
const LARGEST: usize = MIN_SLOT_SIZE - GUARD_SIZE;

impl NaivePool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn map(&self) -> Result<usize, MemoryError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), MAPPED, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(MemoryError::Reserve { what: "a stack", bytes: MAPPED, errno: errno() });
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
// its lowest page is protected (S3), and requests beyond its size are refused (S4). With another flaw it breaks
// the clause that the flaw names, which is its purpose: only laws may use it, and they run no code on its
// stacks.
unsafe impl SlotAllocator for NaivePool {
    type Local = Hoard;

    fn local(&self, _worker: WorkerId) -> Hoard {
        Vec::new()
    }

    fn reserve(&self, threads: usize) -> Result<(), MemoryError> {
        if threads > 1 << 20 {
            let bytes = threads.saturating_mul(MIN_SLOT_SIZE);
            return self.refuse(MemoryError::Reserve { what: "stacks", bytes, errno: libc::ENOMEM });
        }
        let mut state = self.lock();
        state.promised = state.promised.max(threads);
        Ok(())
    }

    fn acquire(&self, local: &mut Hoard, min_bytes: usize) -> Result<Slot, MemoryError> {
        if min_bytes > LARGEST && self.flaw != Flaw::GrantsAnySize {
            if self.flaw == Flaw::RefusalLoses {
                let mut state = self.lock();
                state.promised = state.promised.saturating_sub(1);
            }
            return self.refuse(MemoryError::SlotTooSmall { asked: min_bytes, largest: LARGEST });
        }
        let mut state = self.lock();
        let exhausted = MemoryError::SlotsExhausted { slots: state.promised };
        if self.flaw == Flaw::GivesUp && state.refused {
            return Err(exhausted);
        }
        let free = match self.flaw {
            Flaw::Hoards => local.pop(),
            Flaw::FirstInFirstOut if !state.free.is_empty() => Some(state.free.remove(0)),
            _ => state.free.pop(),
        };
        let index = match free {
            Some(index) => index,
            None if state.mappings.len() < state.promised => {
                let mapping = self.map()?;
                state.mappings.push(mapping);
                state.mappings.len() as u32 - 1
            }
            None => {
                drop(state);
                return self.refuse(exhausted);
            }
        };
        state.in_use += 1;
        // SAFETY: C1 of `from_index`: the number was in the list of free ones, or is new. (`HandsOutTwice`
        // breaks it.)
        Ok(unsafe { Slot::from_index(index) })
    }

    unsafe fn release(&self, local: &mut Hoard, slot: Slot) {
        let mut state = self.lock();
        state.releases += 1;
        let now_and_then = state.releases.is_multiple_of(9);
        let index = slot.into_index();
        match self.flaw {
            Flaw::Loses if now_and_then => {}
            Flaw::Hoards => local.push(index),
            Flaw::HandsOutTwice if now_and_then => state.free.extend([index, index]),
            _ => state.free.push(index),
        }
        if self.flaw != Flaw::Miscounts || !now_and_then {
            state.in_use = state.in_use.saturating_sub(1);
        }
    }

    fn bounds(&self, slot: &Slot) -> StackBounds {
        let (mut index, mut offset) = (slot.index() as usize, 0);
        if self.flaw == Flaw::Overlaps && index % 2 == 1 {
            (index, offset) = (index - 1, MIN_SLOT_SIZE - GUARD_SIZE);
        }
        let base = self.lock().mappings[index] + offset;
        let top = base + MIN_SLOT_SIZE - if self.flaw == Flaw::TopNotAligned { 8 } else { 0 };
        let bottom = base + if self.flaw == Flaw::GuardInside { 0 } else { GUARD_SIZE };
        let at = |address| std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(address));
        StackBounds { top: at(top).expect("mapped"), bottom: at(bottom).expect("mapped") }
    }

    fn trim(&self) -> usize {
        let state = self.lock();
        let free = |index: &usize| self.flaw == Flaw::TrimsInUse || state.free.contains(&(*index as u32));
        for index in (0..state.mappings.len()).filter(free) {
            let stack = std::ptr::with_exposed_provenance_mut(state.mappings[index] + GUARD_SIZE);
            // SAFETY: a free slot's stack holds nothing that is needed. (`TrimsInUse` breaks that.)
            unsafe { libc::madvise(stack, LARGEST, libc::MADV_DONTNEED) };
        }
        state.free.len() * GUARD_SIZE
    }

    fn memory_use(&self) -> MemoryUse {
        let state = self.lock();
        let mut memory = MemoryUse::default();
        memory.slots_in_use = state.in_use;
        memory.slots_cached = state.free.len();
        memory.slots_reserved = state.promised;
        memory.bytes_reserved = state.mappings.len() * MAPPED;
        memory
    }
}

impl Drop for NaivePool {
    fn drop(&mut self) {
        for &mapping in &self.lock().mappings {
            // SAFETY: laws keep no stack beyond the pool.
            unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(mapping), MAPPED) };
        }
    }
}
