//! What a slot costs, in time and memory: the figures of the README.
//!
//!     cargo run --release -p gvt-mem-mmap --example slot_costs [slots]

use std::hint::black_box;
use std::time::Instant;

use gvt_mem_mmap::{MmapPool, MmapSlots, SlotCache};
use gvt_traits::{Factory, Plan, Slot, SlotAllocator, StackClass, WorkerId};

fn main() {
    let slots = std::env::args().nth(1).map_or(100_000, |n| n.parse().expect("a number of slots"));
    println!("slot     guard     fresh ns  KiB a slot*  reuse ns  cached ns  trim ns  KiB left*");
    for (size, name) in
        [(16 << 20, "16 MiB"), (1 << 20, "1 MiB"), (256 << 10, "256 KiB"), (64 << 10, "64 KiB")]
    {
        run(MmapSlots::default().slot_size(size), name, "madvise", slots);
    }
    // `vm.max_map_count` does not allow many more.
    let few = slots.min(20_000);
    run(MmapSlots::default().force_mprotect_guards(true), "16 MiB", "mprotect", few);
    println!("* resident memory and page tables");
}

fn run(factory: MmapSlots, size: &str, guard: &str, slots: usize) {
    let (mut fresh, mut kib, mut reuse, mut trim, mut left) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..3 {
        let pool = factory.build(&Plan::new(1, slots)).expect("a valid slot size");
        let mut local = pool.local(WorkerId::new(0));
        pool.reserve(StackClass::DEFAULT, slots).expect("address space");
        let mut held = Vec::with_capacity(slots);
        let before = kib_used();
        fresh.push(each(slots, || held.push(first_use(&pool, &mut local))));
        let after = kib_used();
        kib.push((after - before) / slots as f64);
        release_all(&pool, &mut local, &mut held);
        reuse.push(each(slots, || held.push(first_use(&pool, &mut local))));
        release_all(&pool, &mut local, &mut held);
        let start = Instant::now();
        pool.trim();
        trim.push(start.elapsed().as_nanos() as f64 / slots as f64);
        left.push((kib_used() - before) / slots as f64);
    }
    println!(
        "{size:8} {guard:9} {:8.0}  {:11.2}  {:8.0}  {:9.1}  {:7.0}  {:9.2}",
        median(fresh),
        median(kib),
        median(reuse),
        cached(&factory),
        median(trim),
        median(left)
    );
}

/// What a thread does to a slot when it is first run: take it, ask where it is, write at its top.
fn first_use(pool: &MmapPool, local: &mut SlotCache) -> Slot {
    let slot = pool.acquire(local, StackClass::DEFAULT).expect("reserved");
    let top = pool.bounds(&slot).top.as_ptr();
    // SAFETY: S3: the 256 bytes below the top of a slot in use can be written.
    unsafe { top.sub(256).write_bytes(1, 256) };
    slot
}

fn release_all(pool: &MmapPool, local: &mut SlotCache, held: &mut Vec<Slot>) {
    for slot in held.drain(..) {
        // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
        unsafe { pool.release(local, slot) };
    }
}

/// A slot that goes out and comes back at once.
fn cached(factory: &MmapSlots) -> f64 {
    let pool = factory.build(&Plan::new(1, 100)).expect("a valid slot size");
    let mut local = pool.local(WorkerId::new(0));
    pool.reserve(StackClass::DEFAULT, 100).expect("address space");
    let runs = (0..9).map(|_| {
        each(1_000_000, || {
            let slot = pool.acquire(&mut local, StackClass::DEFAULT).expect("reserved");
            black_box(pool.bounds(&slot));
            // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
            unsafe { pool.release(&mut local, slot) };
        })
    });
    median(runs.collect())
}

fn each(times: usize, mut action: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        action();
    }
    start.elapsed().as_nanos() as f64 / times as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory and page tables of this process, KiB.
fn kib_used() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let field = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a field of every kernel");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    };
    field("VmRSS:") + field("VmPTE:")
}
