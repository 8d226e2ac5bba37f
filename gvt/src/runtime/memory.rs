//! What a runtime's memory is spent on.
//!
//! The report, [`Memory`], has the runtime's own counts, which are exact and cheap, and physical memory,
//! which the kernel is asked for. [`Runtime::memory_use`] has the counts alone.

use std::fmt;

use gvt_traits::{
    ContextSwitch, Factory, MemoryUse, Preemptor, ReadyQueue, SlotAllocator, StackClass, TimerBackend,
};

use crate::kernel::thread::record::Record;
use crate::runtime::runtime::Runtime;

/// What a runtime's memory is spent on; see [`Runtime::memory`]. Bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Memory {
    /// The stacks, by size, in the order of the allocator's classes.
    pub stacks: Vec<StackMemory>,
    /// Thread records that were ever used. Their memory is kept.
    pub records_used: usize,
    /// Physical memory of those records, if all of it is touched.
    pub records_bytes: usize,
    /// Physical memory of the whole process; 0 if it cannot be read.
    pub process_resident: usize,
    /// Page tables of the whole process; 0 if they cannot be read.
    pub process_page_tables: usize,
}

/// The stacks of one class. Bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StackMemory {
    /// Address space of one slot.
    pub slot_size: usize,
    /// Whether threads that ask for no size get these.
    pub is_default: bool,
    /// Slots bound to threads.
    pub bound: usize,
    /// Free slots that may hold physical memory.
    pub cached: usize,
    /// Slots for which address space is reserved.
    pub reserved: usize,
    /// Address space reserved.
    pub bytes_reserved: usize,
    /// Physical memory of all of them; `None` if the allocator does not know.
    pub resident: Option<usize>,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stack in self.stacks.iter().filter(|stack| stack.reserved > 0) {
            write!(
                f,
                "stacks of {} KiB: {} bound, {} cached",
                stack.slot_size >> 10,
                stack.bound,
                stack.cached
            )?;
            if let Some(resident) = stack.resident {
                write!(f, ", {} KiB resident", resident >> 10)?;
            }
            f.write_str("; ")?;
        }
        write!(
            f,
            "{} records, {} KiB; the process: {} KiB resident, {} KiB of page tables",
            self.records_used,
            self.records_bytes >> 10,
            self.process_resident >> 10,
            self.process_page_tables >> 10
        )
    }
}

impl<Q, T, P, C, S> Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    /// What the runtime's memory is spent on. Asks the kernel, which walks page tables: some 100 µs, and with
    /// a million stacks much longer.
    ///
    /// ```
    /// let runtime = gvt::Runtime::new(Default::default());
    /// runtime.block_on(|| ());
    /// let memory = runtime.memory();
    /// assert!(memory.stacks.iter().any(|stack| stack.is_default && stack.reserved > 0));
    /// println!("{memory}");
    /// ```
    ///
    /// Context: an OS thread or a green thread; reads `/proc`, allocates.
    pub fn memory(&self) -> Memory {
        let stacks = StackClass::all().filter_map(|class| {
            let slot_size = self.ask_slots(|slots| slots.slot_size(class))?;
            let MemoryUse { slots_in_use, slots_cached, slots_reserved, bytes_reserved, .. } =
                self.ask_slots(|slots| slots.memory_use(class));
            let resident =
                if slots_reserved == 0 { Some(0) } else { self.ask_slots(|slots| slots.resident(class)) };
            Some(StackMemory {
                slot_size,
                is_default: class == self.default_class(),
                bound: slots_in_use,
                cached: slots_cached,
                reserved: slots_reserved,
                bytes_reserved,
                resident,
            })
        });
        let stacks = stacks.collect();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<usize>().ok()? << 10)
        };
        let records_used = self.table().used_count();
        Memory {
            stacks,
            records_used,
            records_bytes: records_used * size_of::<Record>(),
            process_resident: field("VmRSS:").unwrap_or(0),
            process_page_tables: field("VmPTE:").unwrap_or(0),
        }
    }

    /// How many slots the allocator of stacks holds, over all classes.
    ///
    /// Context: an OS thread or a green thread.
    pub fn memory_use(&self) -> MemoryUse {
        let mut sum = MemoryUse::default();
        let of = |class| self.ask_slots(|slots| slots.slot_size(class).map(|_| slots.memory_use(class)));
        for one in StackClass::all().filter_map(of) {
            sum.slots_in_use += one.slots_in_use;
            sum.slots_cached += one.slots_cached;
            sum.slots_reserved += one.slots_reserved;
            sum.bytes_reserved += one.bytes_reserved;
        }
        sum
    }

    /// Returns the memory of unused stacks to the system at once; the value is roughly the number of bytes.
    /// Workers return the stacks in their caches when they next take or free a stack.
    ///
    /// Seldom needed: stacks that are unused for about a second are returned gradually.
    ///
    /// Context: an OS thread or a green thread; makes system calls, some 2 µs a stack.
    pub fn trim(&self) -> usize {
        self.ask_slots(SlotAllocator::trim)
    }
}
