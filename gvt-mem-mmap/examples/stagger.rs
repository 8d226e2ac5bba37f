//! What staggering the tops of stacks is worth: the table in `layout`.
//!
//!     cargo run --release -p gvt-mem-mmap --example stagger
//!
//! Hops through a ring of stacks, each of which holds the address of the next, and writes to five lines of
//! each: what a switch and a few frames touch. Ways are interleaved; medians.

use std::time::Instant;

use gvt_mem_mmap::{MmapPool, MmapSlots, SlotCache};
use gvt_traits::{Factory, GUARD_SIZE, Plan, Slot, SlotAllocator, StackClass, WorkerId};

const HOPS: usize = 300_000;
const ROUNDS: usize = 11;

/// How far below its slot's end stack number `n` begins.
type Way = fn(n: usize) -> usize;

const WAYS: [(&str, Option<Way>); 4] = [
    ("none", Some(|_| 0)),
    ("lines", Some(|n| 64 * (n % 32))),
    ("lines, 32 KiB steps", Some(|n| 64 * (n % 32) + (32 << 10) * (n % 32))),
    ("as built", None),
];

fn main() {
    println!("slot     stacks    {}", WAYS.map(|(name, _)| format!("{name:>20}")).join(""));
    for (size, name) in [(16 << 20, "16 MiB"), (4 << 20, "4 MiB"), (1 << 20, "1 MiB"), (64 << 10, "64 KiB")] {
        for stacks in [64, 200, 1_000, 3_000, 10_000] {
            // A way that takes more than an eighth of a slot is none.
            let fits = |way: Way| (0..32).all(|n| way(n) <= size / 8);
            let rings = WAYS.map(|(_, way)| way.is_none_or(fits).then(|| Ring::new(size, stacks, way)));
            let mut times: [Vec<f64>; WAYS.len()] = Default::default();
            for _ in 0..ROUNDS {
                for (ring, times) in rings.iter().zip(&mut times) {
                    times.extend(ring.as_ref().map(Ring::run));
                }
            }
            let medians = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times.get(ROUNDS / 2).map_or("-".into(), |ns| format!("{ns:.1}"))
            });
            println!("{name:8} {stacks:8}  {}", medians.map(|median| format!("{median:>20}")).join(""));
        }
    }
}

struct Ring {
    pool: MmapPool,
    local: SlotCache,
    slots: Vec<Slot>,
    first: *mut u64,
}

impl Ring {
    fn new(size: usize, stacks: usize, way: Option<Way>) -> Self {
        let factory = MmapSlots::default().slot_size(size);
        let pool = factory.build(&Plan::new(1, stacks)).expect("a valid slot size");
        pool.reserve(StackClass::DEFAULT, stacks).expect("address space");
        let mut local = pool.local(WorkerId::new(0));
        let slots: Vec<Slot> =
            (0..stacks).map(|_| pool.acquire(&mut local, StackClass::DEFAULT).expect("reserved")).collect();
        let hot = |n: usize| -> *mut u64 {
            let bounds = pool.bounds(&slots[n]);
            let end = bounds.bottom.as_ptr().wrapping_add(size - GUARD_SIZE);
            let top = way.map_or(bounds.top.as_ptr(), |way| end.wrapping_sub(way(n)));
            top.wrapping_sub(512).cast()
        };
        for n in 0..stacks {
            // SAFETY: S3: the 512 bytes below a top are in the slot.
            unsafe { hot(n).write(hot((n + 1) % stacks).expose_provenance() as u64) };
        }
        let first = hot(0);
        Ring { pool, local, slots, first }
    }

    /// Nanoseconds a hop.
    fn run(&self) -> f64 {
        let mut at = self.first;
        let start = Instant::now();
        for _ in 0..HOPS {
            // SAFETY: `at` is 512 bytes below a top in the ring, as is the address that it holds.
            unsafe {
                let next = at.read_volatile();
                for line in [1, 8, 16, 24] {
                    at.add(line).write_volatile(at.add(line).read_volatile() + 1);
                }
                at = std::ptr::with_exposed_provenance_mut(next as usize);
            }
        }
        start.elapsed().as_nanos() as f64 / HOPS as f64
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for slot in self.slots.drain(..) {
            // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
            unsafe { self.pool.release(&mut self.local, slot) };
        }
    }
}
