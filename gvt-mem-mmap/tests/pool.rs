//! What the conformance suite cannot see: physical memory, limits of the system, and misuse.
//!
//! Tests that look at the whole process, or limit it, run in a process of their own.

use std::process::Command;

use gvt_mem_mmap::{MmapPool, MmapSlots, SlotCache};
use gvt_traits::{Factory, MemoryError, Plan, SchedError, Slot, SlotAllocator, StackClass, WorkerId};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const D: StackClass = StackClass::DEFAULT;

fn pool(slots: MmapSlots, workers: usize, threads: usize) -> MmapPool {
    let pool = slots.build(&Plan::new(workers, threads)).unwrap();
    pool.reserve(D, threads).unwrap();
    pool
}

fn acquire(pool: &MmapPool, local: &mut SlotCache, count: usize) -> Vec<Slot> {
    (0..count).map(|_| pool.acquire(local, D).unwrap()).collect()
}

fn release(pool: &MmapPool, local: &mut SlotCache, slots: Vec<Slot>) {
    for slot in slots {
        // SAFETY: C1: the slot is this pool's, and no frame ever ran on it.
        unsafe { pool.release(local, slot) };
    }
}

/// The topmost byte of a slot in use.
fn top(pool: &MmapPool, slot: &Slot) -> *mut u8 {
    pool.bounds(slot).top.as_ptr().wrapping_sub(1)
}

/// Runs the calling test in a process of its own, under `limit` (a shell command), and fails if that fails.
/// Returns whether this is that process.
fn alone(test: &str, limit: &str) -> bool {
    const MARK: &str = "GVT_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-c", &format!("{limit} && exec \"$0\" --exact {test} --test-threads 1")])
        .arg(std::env::current_exe().unwrap())
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{limit}: {said}");
    false
}

/// A field of `/proc/self/status`, bytes.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
}

#[test]
fn refuses_bad_sizes_in_a_sentence() {
    for (size, mend) in
        [(0, "65536"), (1, "65536"), (4096, "65536"), (100_000, "131072"), (usize::MAX, "16777216")]
    {
        let error = MmapSlots::default().slot_size(size).build(&Plan::new(1, 1)).unwrap_err();
        let SchedError::Config { setting: "slot_size", problem } = &error else { panic!("{error:?}") };
        assert!(problem.contains(&size.to_string()) && problem.contains(mend), "{error}");
    }
    for shift in 16..=30 {
        assert!(MmapSlots::default().slot_size(1 << shift).build(&Plan::new(1, 1)).is_ok());
    }
}

#[test]
fn absurd_sizes_and_numbers_are_errors() {
    for shift in [40, 47, 62, 63] {
        let pool = MmapSlots::default().slot_size(1 << shift).build(&Plan::new(2, usize::MAX)).unwrap();
        assert!(matches!(pool.reserve(D, 1_000_000), Err(MemoryError::Reserve { .. })));
        assert!(matches!(pool.reserve(D, usize::MAX), Err(MemoryError::Reserve { .. })));
        assert_eq!(pool.memory_use(D).bytes_reserved, 0);
    }
}

#[test]
fn three_runtimes_of_the_default_size_fit_into_a_process() {
    let pools: Vec<_> = (0..3).map(|_| pool(MmapSlots::default(), 2, gvt_traits::MAX_GVTHREADS)).collect();
    for pool in &pools {
        assert!(pool.memory_use(D).bytes_reserved < 33 << 40, "{:?}", pool.memory_use(D));
    }
}

#[test]
fn small_plans_reserve_little() {
    for (workers, threads, most) in [(1, 1, 300 * MIB), (2, 100, 4096 * MIB), (64, 1, 8192 * MIB)] {
        let pool = pool(MmapSlots::default(), workers, threads);
        assert!(pool.memory_use(D).bytes_reserved <= most, "{:?}", pool.memory_use(D));
    }
}

#[test]
fn trim_gives_memory_back_once() {
    for factory in [
        MmapSlots::default(),
        MmapSlots::default().slot_size(64 * KIB),
        MmapSlots::default().slot_size(64 * KIB).force_mprotect_guards(true),
    ] {
        let pool = pool(factory, 1, 1000);
        let mut local = pool.local(WorkerId::new(0));
        let slots = acquire(&pool, &mut local, 1000);
        for slot in &slots {
            // SAFETY: S3: the top of a slot in use can be written.
            unsafe { top(&pool, slot).write(7) };
        }
        release(&pool, &mut local, slots);
        assert!(pool.memory_use(D).slots_cached >= 1000);
        let bytes = pool.trim();
        assert!((900 * 4096..=1032 * 4096).contains(&bytes), "{bytes}");
        assert_eq!(pool.trim(), 0, "nothing came back meanwhile");
        // The worker's own cache follows at its next use.
        let slots = acquire(&pool, &mut local, 1000);
        for slot in &slots {
            // SAFETY: S3, as before.
            assert_eq!(unsafe { top(&pool, slot).read() }, 0, "{slot:?} kept its page");
        }
        release(&pool, &mut local, slots);
    }
}

#[test]
fn slots_of_dropped_and_surplus_caches_are_not_lost() {
    let pool = pool(MmapSlots::default().slot_size(64 * KIB), 2, 100);
    for round in 0..100 {
        let mut locals: Vec<_> = (0..5).map(|n| pool.local(WorkerId::new(n))).collect();
        let mut held = Vec::new();
        for n in 0..100 {
            held.extend(acquire(&pool, &mut locals[(round + n) % 5], 1));
        }
        for (n, slot) in held.into_iter().enumerate() {
            release(&pool, &mut locals[(round + n * 3) % 5], vec![slot]);
        }
        let held = acquire(&pool, &mut locals[round % 5], 100);
        release(&pool, &mut locals[round % 5], held);
    }
    assert_eq!(pool.memory_use(D).slots_in_use, 0);
}

#[test]
#[should_panic(expected = "another pool")]
fn a_cache_of_another_pool_is_refused() {
    let (a, b) = (pool(MmapSlots::default(), 1, 1), pool(MmapSlots::default(), 1, 1));
    let _ = a.acquire(&mut b.local(WorkerId::new(0)), D);
}

#[test]
fn a_thread_costs_one_page_and_its_share_of_page_tables() {
    if !alone("a_thread_costs_one_page_and_its_share_of_page_tables", "true") {
        return;
    }
    for (size, most) in [(16 * MIB, 8400), (4 * MIB, 8400), (2 * MIB, 8400), (MIB, 6400), (64 * KIB, 4400)] {
        const SLOTS: usize = 20_000;
        let pool = pool(MmapSlots::default().slot_size(size), 1, SLOTS);
        let mut local = pool.local(WorkerId::new(0));
        let before = status("VmRSS") + status("VmPTE");
        let slots = acquire(&pool, &mut local, SLOTS);
        for slot in &slots {
            // SAFETY: S3: the top of a slot in use can be written.
            unsafe { top(&pool, slot).write(7) };
        }
        // The list of slots is memory too.
        let each = (status("VmRSS") + status("VmPTE") - before) / SLOTS;
        assert!(each <= most, "{each} bytes a slot of {size}");
        release(&pool, &mut local, slots);
        pool.trim();
        // The worker's next use gives back what its cache holds.
        drop(local);
        pool.trim();
        let left = (status("VmRSS") + status("VmPTE")).saturating_sub(before) / SLOTS;
        assert!(left <= most - 4096, "{left} bytes a slot of {size} after trimming");
    }
}

#[test]
fn dropping_unmaps_unless_a_slot_is_in_use() {
    if !alone("dropping_unmaps_unless_a_slot_is_in_use", "true") {
        return;
    }
    let before = status("VmSize");
    {
        let pool = pool(MmapSlots::default(), 1, 1000);
        let mut local = pool.local(WorkerId::new(0));
        let slots = acquire(&pool, &mut local, 1000);
        release(&pool, &mut local, slots);
        assert!(status("VmSize") > before + 1000 * 16 * MIB);
    }
    assert!(status("VmSize") < before + 16 * MIB);

    let pool = pool(MmapSlots::default(), 1, 10);
    let mut local = pool.local(WorkerId::new(0));
    let slot = pool.acquire(&mut local, D).unwrap();
    let byte = top(&pool, &slot);
    // Put away, as a thread that never ends puts its slot away.
    let _ = slot.into_index();
    drop((pool, local));
    // SAFETY: S2: a slot in use stays where it is.
    unsafe { byte.write(1) };
}

/// Under `ulimit -v`: what fits is promised, what does not is an error that leaves all as it was.
#[test]
fn address_space_limit_is_an_error() {
    if !alone("address_space_limit_is_an_error", "ulimit -v 8000000") {
        return;
    }
    let pool = MmapSlots::default().build(&Plan::new(2, 1_000_000)).unwrap();
    let mut local = pool.local(WorkerId::new(0));
    pool.reserve(D, 100).unwrap();
    let mut slots = acquire(&pool, &mut local, 50);
    for threads in [1000, 100_000, 1_000_000] {
        let before = pool.memory_use(D);
        let error = pool.reserve(D, threads).unwrap_err();
        assert!(matches!(error, MemoryError::Reserve { errno: libc::ENOMEM, .. }), "{error:?}");
        assert!(error.to_string().contains("ulimit -v"), "{error}");
        assert_eq!(pool.memory_use(D), before);
    }
    slots.extend(acquire(&pool, &mut local, 50));
    pool.reserve(D, 150).unwrap();
    slots.extend(acquire(&pool, &mut local, 50));
    release(&pool, &mut local, slots);
}

/// With `mprotect` guards the kernel runs out of mappings first.
#[test]
fn running_out_of_mappings_is_an_error() {
    if !alone("running_out_of_mappings_is_an_error", "true") {
        return;
    }
    let most =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse::<usize>().unwrap();
    if most > 300_000 {
        eprintln!("skipped: vm.max_map_count is {most}, which takes too long to reach");
        return;
    }
    let factory = MmapSlots::default().slot_size(64 * KIB).force_mprotect_guards(true);
    let pool = factory.build(&Plan::new(1, most)).unwrap();
    let mut local = pool.local(WorkerId::new(0));
    let mut slots = Vec::new();
    let error = loop {
        match pool.reserve(D, slots.len() + 1) {
            Ok(()) => slots.extend(acquire(&pool, &mut local, 1)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, MemoryError::Guard { errno: libc::ENOMEM });
    assert!(error.to_string().contains("vm.max_map_count"), "{error}");
    assert!(slots.len() > most * 2 / 5, "{} slots for {most} mappings", slots.len());
    assert!(pool.reserve(D, slots.len() + 1).is_err(), "still none to be had");
    // The rest of the process still has mappings: these are some.
    std::thread::scope(|scope| {
        (0..100).for_each(|_| _ = scope.spawn(|| std::hint::black_box(vec![1; MIB]).len()))
    });
    // What was there goes on, and what comes back can be had again; also without the memory it had.
    for _ in 0..2 {
        let back = slots.split_off(slots.len() / 2);
        let count = back.len();
        release(&pool, &mut local, back);
        pool.trim();
        slots.extend(acquire(&pool, &mut local, count));
        assert!(pool.reserve(D, slots.len() + 1).is_err(), "still none to be had");
    }
    assert_eq!(pool.memory_use(D).slots_in_use, slots.len());
    release(&pool, &mut local, slots);
    assert_eq!(pool.memory_use(D).slots_in_use, 0);
    // With the pool its guards end, and another can have them.
    drop((local, pool));
    let pool = factory.build(&Plan::new(1, most)).unwrap();
    pool.reserve(D, most * 2 / 5).unwrap();
}

/// What nobody needs loses its memory a share at a time, and then nothing is left to do.
#[test]
fn unneeded_memory_decays() {
    const SECOND: u64 = 1_000_000_000;
    for factory in [MmapSlots::default(), MmapSlots::default().force_mprotect_guards(true)] {
        let pool = pool(factory, 1, 1000);
        let small = pool.class_for(64 * KIB).unwrap();
        pool.reserve(small, 200).unwrap();
        let mut local = pool.local(WorkerId::new(0));
        assert_eq!(pool.decay(1), None, "nothing came back");
        let mut slots = acquire(&pool, &mut local, 1000);
        slots.extend((0..200).map(|_| pool.acquire(&mut local, small).unwrap()));
        for slot in &slots {
            // SAFETY: S3: the top of a slot in use can be written.
            unsafe { top(&pool, slot).write(7) };
        }
        let resident = |class| pool.resident(class).unwrap();
        assert!(resident(D) >= 1000 * 4096 && resident(small) >= 200 * 4096, "{}", resident(small));
        release(&pool, &mut local, slots);

        // A period in which half of them is needed again and again.
        let mut now = SECOND;
        assert_eq!(pool.decay(now), Some(2 * SECOND));
        let half = acquire(&pool, &mut local, 500);
        release(&pool, &mut local, half);
        now += SECOND;
        while pool.decay(now).is_some_and(|next| next < now + SECOND / 2) {}
        let cached = pool.memory_use(D).slots_cached;
        assert!((600..900).contains(&cached), "{cached}");
        assert!(pool.memory_use(small).slots_cached < 170);

        // Then nothing.
        let mut calls = 0;
        while let Some(next) = pool.decay(now) {
            assert!(next > now, "asked to be called again at once");
            now = next;
            calls += 1;
            assert!(calls < 1000, "never done");
        }
        for class in [D, small] {
            assert_eq!(pool.memory_use(class).slots_in_use, 0);
            // But what lies in the worker's cache.
            assert!(pool.memory_use(class).slots_cached <= 64);
            assert!(resident(class) <= 64 * 4096, "{}", resident(class));
        }
        assert_eq!(pool.decay(now + 1000 * SECOND), None);
        let again = acquire(&pool, &mut local, 1000);
        release(&pool, &mut local, again);
        assert!(pool.decay(now).is_some());
    }
    let pool = pool(MmapSlots::default().keep_warm(None), 1, 100);
    let mut local = pool.local(WorkerId::new(0));
    let slots = acquire(&pool, &mut local, 100);
    release(&pool, &mut local, slots);
    assert_eq!((pool.decay(1), pool.decay(100 * SECOND)), (None, None));
}

/// Nothing decays while more comes back in a period than would be given back after it.
#[test]
fn decay_waits_until_a_burst_has_ended() {
    const SECOND: u64 = 1_000_000_000;
    let pool = pool(MmapSlots::default(), 1, 2_000);
    let mut local = pool.local(WorkerId::new(0));
    let mut slots = acquire(&pool, &mut local, 2_000);
    let mut now = 1;
    for level in [400, 700, 1_200] {
        let back = slots.split_off(2_000 - level);
        release(&pool, &mut local, back);
        let due = pool.decay(now);
        assert_eq!(due, Some(now + SECOND), "{level}: given back amid the burst");
        now += SECOND;
    }
    let back = slots.split_off(700);
    release(&pool, &mut local, back);
    assert!(pool.memory_use(D).slots_cached >= 1_300);
    while pool.decay(now).is_some_and(|next| next < now + SECOND / 2) {}
    let cached = pool.memory_use(D).slots_cached;
    assert!((650..800).contains(&cached), "{cached}: few came back, and half of the rest was to go");
    release(&pool, &mut local, slots);
}

/// Classes: those of the builder, the default first, none twice.
#[test]
fn classes_are_what_was_asked_for() {
    let sizes = |slots: MmapSlots| {
        let pool = slots.build(&Plan::new(1, 1)).unwrap();
        StackClass::all().map_while(|class| pool.slot_size(class)).collect::<Vec<_>>()
    };
    assert_eq!(sizes(MmapSlots::default()), [16 * MIB, 64 * KIB, 256 * KIB, MIB]);
    assert_eq!(sizes(MmapSlots::default().slot_size(2 * MIB)), [2 * MIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB]);
    assert_eq!(sizes(MmapSlots::default().slot_size(MIB).classes(&[])), [MIB]);
    assert_eq!(sizes(MmapSlots::default().slot_size(MIB).classes(&[4 * MIB, MIB, 4 * MIB])), [MIB, 4 * MIB]);
    for classes in [
        &[96 * KIB][..],
        &[32 * KIB],
        &[1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 25],
    ] {
        let error = MmapSlots::default().classes(classes).build(&Plan::new(1, 1)).unwrap_err();
        assert!(matches!(error, SchedError::Config { setting: "classes", .. }), "{error}");
    }
}

/// Page tables, half of what a large slot costs, go too, in whatever order the slots came back.
#[test]
fn page_tables_decay() {
    if !alone("page_tables_decay", "true") {
        return;
    }
    const SLOTS: usize = 8_000;
    let pool = pool(MmapSlots::default(), 1, SLOTS);
    let mut local = pool.local(WorkerId::new(0));
    let before = status("VmRSS") + status("VmPTE");
    let slots = acquire(&pool, &mut local, SLOTS);
    for slot in &slots {
        // SAFETY: S3: the top of a slot in use can be written.
        unsafe { top(&pool, slot).write(7) };
    }
    let (mut last, mut rest) = (Vec::new(), Vec::new());
    for (n, slot) in slots.into_iter().enumerate() {
        if n * 7919 % 10 < 3 { last.push(slot) } else { rest.push(slot) }
    }
    release(&pool, &mut local, rest);
    release(&pool, &mut local, last);
    let mut now = 1;
    while let Some(next) = pool.decay(now) {
        now = next;
    }
    let left = (status("VmRSS") + status("VmPTE")).saturating_sub(before) / SLOTS;
    // Up to 8.1 KiB were there. Page tables are kept by slots whose neighbours went earlier.
    assert!(left < 1_500, "{left} bytes a slot");
}
