#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod central;
mod layout;
mod local;
mod pool;
mod sys;

pub use local::SlotCache;
pub use pool::MmapPool;

use gvt_traits::{Factory, MIN_SLOT_SIZE, Plan, SLOT_SIZE, SchedError};

/// Configures [`MmapPool`]: what users pass to `.slots(…)`.
///
/// ```
/// use gvt_mem_mmap::MmapSlots;
/// use gvt_traits::{Factory, Plan, SlotAllocator, WorkerId};
///
/// let pool = MmapSlots::default().slot_size(64 << 10).build(&Plan::new(1, 1000)).unwrap();
/// let mut local = pool.local(WorkerId::new(0));
/// pool.reserve(1).unwrap();
/// let slot = pool.acquire(&mut local, 0).unwrap();
/// assert!(pool.bounds(&slot).top > pool.bounds(&slot).bottom);
/// // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
/// unsafe { pool.release(&mut local, slot) };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmapSlots {
    slot_size: usize,
    force_mprotect_guards: bool,
}

impl Default for MmapSlots {
    /// Slots of [`SLOT_SIZE`], 16 MiB, guarded in the best way that the kernel offers.
    fn default() -> Self {
        MmapSlots { slot_size: SLOT_SIZE, force_mprotect_guards: false }
    }
}

impl MmapSlots {
    /// The address space of one slot: a power of two, 64 KiB or more. Its guard (4 KiB) and its stagger
    /// (2 KiB; above 256 KiB also up to an eighth of the slot) go off the stack.
    pub const fn slot_size(mut self, bytes: usize) -> Self {
        self.slot_size = bytes;
        self
    }

    /// Whether to guard with `mprotect` even where the kernel has something better; for tests of the
    /// way that old kernels take.
    pub const fn force_mprotect_guards(mut self, force: bool) -> Self {
        self.force_mprotect_guards = force;
        self
    }
}

impl Factory for MmapSlots {
    type Output = MmapPool;

    fn build(&self, plan: &Plan) -> Result<MmapPool, SchedError> {
        let size = self.slot_size;
        if !size.is_power_of_two() || size < MIN_SLOT_SIZE {
            let mend = match size.checked_next_power_of_two() {
                Some(next) => next.max(MIN_SLOT_SIZE),
                None => SLOT_SIZE,
            };
            return Err(SchedError::Config {
                setting: "slot_size",
                problem: format!(
                    "{size} bytes were asked for, but a slot's size is a power of two of at least {MIN_SLOT_SIZE} \
                     bytes (64 KiB); {mend} would do"
                ),
            });
        }
        Ok(MmapPool::new(size, self.force_mprotect_guards, plan))
    }
}
