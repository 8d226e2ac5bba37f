#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod central;
mod decay;
mod layout;
mod local;
mod pool;
mod protect;
mod region;
mod sys;

pub use local::SlotCache;
pub use pool::MmapPool;

use std::time::Duration;

use gvt_traits::{Factory, MIN_SLOT_SIZE, Plan, SLOT_SIZE, SchedError, StackClass};

/// Sizes of slot that there are unless [`MmapSlots::classes`] says otherwise.
pub const CLASSES: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 16 << 20];

/// Configures [`MmapPool`]: what users pass to `.slots(…)`.
///
/// ```
/// use gvt_mem_mmap::MmapSlots;
/// use gvt_traits::{Factory, Plan, SlotAllocator, WorkerId};
///
/// let pool = MmapSlots::default().slot_size(1 << 20).build(&Plan::new(1, 1000)).unwrap();
/// let small = pool.class_for(50_000).unwrap();
/// assert_eq!(pool.slot_size(small), Some(64 << 10));
///
/// let mut local = pool.local(WorkerId::new(0));
/// pool.reserve(small, 1).unwrap();
/// let slot = pool.acquire(&mut local, small).unwrap();
/// assert!(pool.bounds(&slot).top > pool.bounds(&slot).bottom);
/// // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
/// unsafe { pool.release(&mut local, slot) };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmapSlots {
    slot_size: usize,
    classes: [usize; StackClass::COUNT],
    class_count: usize,
    keep_warm: Option<Duration>,
    force_mprotect_guards: bool,
}

impl Default for MmapSlots {
    /// Slots of [`SLOT_SIZE`], 16 MiB, unless a thread asks for one of the other [`CLASSES`]; guarded in the
    /// best way that the kernel offers; kept warm for a second.
    fn default() -> Self {
        let slots = MmapSlots {
            slot_size: SLOT_SIZE,
            classes: [0; StackClass::COUNT],
            class_count: 0,
            keep_warm: Some(Duration::from_secs(1)),
            force_mprotect_guards: false,
        };
        slots.classes(&CLASSES)
    }
}

impl MmapSlots {
    /// The address space of one slot of the default class: a power of two, 64 KiB or more. Its guard (4 KiB)
    /// and its stagger (2 KiB; above 2 MiB also up to an eighth of the slot) go off the stack.
    pub const fn slot_size(mut self, bytes: usize) -> Self {
        self.slot_size = bytes;
        self
    }

    /// The sizes of slot that threads may ask for, beside the default class; at most seven with that. Each is
    /// as [`slot_size`](Self::slot_size) says. `&[]` leaves the default class alone.
    ///
    /// A size that nobody asks for costs next to nothing.
    pub const fn classes(mut self, sizes: &[usize]) -> Self {
        self.class_count = sizes.len();
        let mut n = 0;
        while n < sizes.len() && n < StackClass::COUNT {
            self.classes[n] = sizes[n];
            n += 1;
        }
        self
    }

    /// How long slots that nobody needs keep their physical memory: each such period half of them lose it, a
    /// few at a time. `None`: until `trim` is called.
    pub const fn keep_warm(mut self, period: Option<Duration>) -> Self {
        self.keep_warm = period;
        self
    }

    /// Whether to guard with `mprotect` even where the kernel has something better; for tests of the
    /// way that old kernels take.
    pub const fn force_mprotect_guards(mut self, force: bool) -> Self {
        self.force_mprotect_guards = force;
        self
    }

    pub(crate) fn forces_mprotect_guards(&self) -> bool {
        self.force_mprotect_guards
    }

    pub(crate) fn keeps_warm(&self) -> Option<u64> {
        // A second is 10^9 ns; three centuries fit.
        self.keep_warm.map(|period| u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1_000_000))
    }

    /// The sizes of all classes, the default's first.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        let others = self.classes.into_iter().take(self.class_count).enumerate();
        let default = self.slot_size;
        let known = self.classes;
        let new = move |&(n, size): &(usize, usize)| size != default && !known[..n].contains(&size);
        [default].into_iter().chain(others.filter(new).map(|(_, size)| size))
    }
}

fn check(setting: &'static str, size: usize) -> Result<(), SchedError> {
    if size.is_power_of_two() && size >= MIN_SLOT_SIZE {
        return Ok(());
    }
    let mend = match size.checked_next_power_of_two() {
        Some(next) => next.max(MIN_SLOT_SIZE),
        None => SLOT_SIZE,
    };
    Err(SchedError::Config {
        setting,
        problem: format!(
            "{size} bytes were asked for, but a slot's size is a power of two of at least {MIN_SLOT_SIZE} \
             bytes (64 KiB); {mend} would do"
        ),
    })
}

impl Factory for MmapSlots {
    type Output = MmapPool;

    fn build(&self, plan: &Plan) -> Result<MmapPool, SchedError> {
        check("slot_size", self.slot_size)?;
        self.sizes().try_for_each(|size| check("classes", size))?;
        let classes = self.sizes().count();
        if classes.max(self.class_count) > StackClass::COUNT {
            return Err(SchedError::Config {
                setting: "classes",
                problem: format!(
                    "{} sizes of slot were asked for, the default's included; there may be {}",
                    classes.max(self.class_count),
                    StackClass::COUNT
                ),
            });
        }
        Ok(MmapPool::new(self, plan))
    }
}
