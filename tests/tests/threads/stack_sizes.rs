//! Stacks of several sizes in one runtime: who gets which, limits, overflow, accounts, and running out.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{Builder, MemoryError, MmapSlots, Runtime, SchedError, spawn, yield_now};
use gvt_conformance::process::{Child, Watchdog, becomes};
use rstest::rstest;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Goes at least `bytes` down the stack, and a few KiB more, and touches all of it.
fn descend(bytes: usize) {
    #[inline(never)]
    fn from(start: usize, bytes: usize) -> u8 {
        let frame = black_box([bytes as u8; KIB]);
        let here = start - (&raw const frame).addr();
        let below = if here < bytes { from(start, bytes) } else { 0 };
        black_box(frame)[7] ^ below
    }
    let start = 0_u8;
    black_box(from((&raw const start).addr(), bytes));
}

/// Threads of all classes at once, each using its stack, again and again: also those that run on a stack that
/// another has just left.
#[rstest]
fn side_by_side(#[values(1, 2, 8)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    let sizes = [0, 64 * KIB, 256 * KIB, MIB, 16 * MIB, 40 * KIB, 65 * KIB, 2 * MIB];
    let done = runtime.block_on(|| {
        let done = Arc::new(AtomicUsize::new(0));
        for round in 0..6 {
            let mut handles = Vec::new();
            for n in 0..160 {
                let size = sizes[(n * 7 + round) % sizes.len()];
                let done = done.clone();
                let body = move |_: &gvt::CancellationToken| {
                    if n % 3 == 0 {
                        yield_now();
                    }
                    descend((if size == 0 { 16 * MIB } else { size.max(64 * KIB) } / 2).min(300 * KIB));
                    if n % 5 == 0 {
                        // From within: a class for the child that is not its parent's.
                        let small = Builder::new().stack_size(64 * KIB).spawn(|_| descend(20 * KIB)).unwrap();
                        small.join().unwrap();
                    }
                    done.fetch_add(1, Relaxed);
                };
                handles.push(Builder::new().stack_size(size).spawn(body).unwrap());
                handles.push(spawn(|_| ()));
            }
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        }
        done.load(Relaxed)
    });
    assert_eq!(done, 6 * 160);
    assert!(becomes(|| runtime.memory_use().slots_in_use == 0), "{}", runtime.memory());
    let memory = runtime.memory();
    let used =
        |kib: usize| memory.stacks.iter().any(|stack| stack.slot_size == kib * KIB && stack.cached > 0);
    assert!([64, 256, 1024, 16 * 1024].into_iter().all(used), "{memory}");
}

/// While they wait, each class has as many as asked for it.
#[test]
fn accounts_by_class() {
    let runtime = Runtime::builder().workers(2).stack_size(256 * KIB).build().unwrap();
    let (gate, at_gate) = gvt::channel::<()>(1);
    let counts = [(0, 30), (64 * KIB, 50), (100 * KIB, 20), (MIB, 10), (16 * MIB, 5)];
    let handles: Vec<_> = counts
        .into_iter()
        .flat_map(|(size, count)| (0..count).map(move |_| size))
        .map(|size| {
            let at_gate = at_gate.clone();
            let builder = Builder::new().stack_size(size);
            runtime.handle().spawn_builder(builder, move |_| at_gate.recv().is_err()).unwrap()
        })
        .collect();
    let bound = |kib: usize| {
        let memory = runtime.memory();
        let stack = *memory.stacks.iter().find(|stack| stack.slot_size == kib * KIB).unwrap();
        assert_eq!(stack.is_default, kib == 256);
        stack.bound
    };
    assert!(becomes(|| runtime.memory_use().slots_in_use == 115), "{}", runtime.memory());
    assert_eq!([64, 256, 1024, 16 * 1024].map(bound), [50, 50, 10, 5]);
    let resident: usize = runtime.memory().stacks.iter().filter_map(|stack| stack.resident).sum();
    assert!((115 * 4 * KIB..115 * 40 * KIB).contains(&resident), "{}", runtime.memory());
    drop(gate);
    assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
    assert!(becomes(|| runtime.memory_use().slots_in_use == 0));
    runtime.trim();
}

#[rstest]
#[case::small("says_which_limit::case_1_small", 64 * KIB, "58 KiB")]
#[case::middle("says_which_limit::case_2_middle", 256 * KIB, "250 KiB")]
#[case::large("says_which_limit::case_3_large", MIB, "1018 KiB")]
fn says_which_limit(#[case] name: &'static str, #[case] size: usize, #[case] limit: &str) {
    let ended = Child::of(name).run(|| {
        Runtime::builder().workers(2).build().unwrap().block_on(|| {
            // The stack is one that others have used.
            for _ in 0..10 {
                Builder::new().stack_size(size).spawn(|_| descend(20 * KIB)).unwrap().join().unwrap();
            }
            let deep = Builder::new().name("deep").stack_size(size).spawn(move |_| descend(2 * size));
            drop(deep.unwrap().join());
        });
    });
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}");
    // Stagger takes 2 KiB of some.
    let low: usize = limit.split_once(' ').unwrap().0.parse().unwrap();
    let says = |kib: usize| ended.stderr.contains(&format!("'deep' has overflowed its stack of {kib} KiB"));
    assert!((low..low + 4).any(says), "{ended}");
    assert!(ended.stderr.contains("Builder::stack_size"), "{ended}");
}

/// A size that no class has is refused by the spawn, as by the builder of a runtime; nothing is lost.
#[test]
fn too_large() {
    let refusal = |asked| SchedError::Memory(MemoryError::SlotTooSmall { asked, largest: 16 * MIB });
    let error = Runtime::builder().stack_size(16 * MIB + 1).build().unwrap_err();
    assert_eq!(error, refusal(16 * MIB + 1));
    let runtime = Runtime::builder().workers(1).max_gvthreads(3).build().unwrap();
    runtime.block_on(|| {
        for asked in [16 * MIB + 1, usize::MAX] {
            for _ in 0..10 {
                let dropped = Arc::new(());
                let held = dropped.clone();
                let error = Builder::new().stack_size(asked).spawn(move |_| drop(held)).unwrap_err();
                assert_eq!(error, refusal(asked));
                assert_eq!(Arc::strong_count(&dropped), 1, "the closure was not dropped");
            }
        }
        // Refused for another reason, no room is kept for them.
        let kept: Vec<_> = (0..2).map(|_| spawn(|_| gvt::sleep_ms(1))).collect();
        for _ in 0..1_000 {
            let error = Builder::new().stack_size(MIB).spawn(|_| ()).unwrap_err();
            assert_eq!(error, SchedError::TooManyThreads { limit: 3 });
        }
        kept.into_iter().for_each(|handle| handle.join().unwrap());
        Builder::new().stack_size(MIB).spawn(|_| ()).unwrap().join().unwrap();
    });
    let memory = runtime.memory();
    let reserved = memory.stacks.iter().find(|stack| stack.slot_size == MIB).unwrap().bytes_reserved;
    assert!(reserved < 600 * MIB, "{memory}");
}

/// With guards by `mprotect` the kernel's limit on mappings is met first: by the spawn, not by the thread.
/// All that run go on, other classes too fail cleanly, and when some have ended there is room again.
#[test]
fn running_out_of_mappings() {
    let ended = Child::of("running_out_of_mappings").run(|| {
        let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let most: usize = most.trim().parse().unwrap();
        if most > 300_000 {
            eprintln!("skipped: vm.max_map_count is {most}, which takes too long to reach");
            return;
        }
        let slots = MmapSlots::default().slot_size(64 * KIB).force_mprotect_guards(true);
        let runtime = Runtime::builder().workers(2).slots(slots).build().unwrap();
        let before = runtime.block_on(|| {
            let (gate, at_gate) = gvt::channel::<()>(1);
            let mut handles = Vec::new();
            let error = loop {
                let at_gate = at_gate.clone();
                match gvt::try_spawn(move |_| at_gate.recv().is_err()) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => break error,
                }
                if handles.len() % 64 == 0 {
                    yield_now();
                }
            };
            assert_eq!(error, SchedError::Memory(MemoryError::Guard { errno: libc::ENOMEM }));
            assert!(error.to_string().contains("vm.max_map_count"), "{error}");
            let error = Builder::new().stack_size(MIB).spawn(|_| ()).unwrap_err();
            assert!(matches!(error, SchedError::Memory(MemoryError::Guard { .. })), "{error}");
            // The rest goes on: OS threads, the heap, and those green threads that are there.
            assert_eq!(std::thread::spawn(|| vec![1_u8; 8 * MIB].len()).join().unwrap(), 8 * MIB);
            gvt::blocking(|| std::thread::sleep(std::time::Duration::from_millis(5)));
            let count = handles.len();
            assert!(count > most * 2 / 5, "{count} threads for {most} mappings");
            drop(gate);
            // None of those that were accepted has found no stack.
            assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
            count
        });
        runtime.block_on(|| {
            let handles: Vec<_> = (0..before / 2).map(|n| gvt::try_spawn(move |_| n).unwrap()).collect();
            handles.into_iter().enumerate().for_each(|(n, handle)| assert_eq!(handle.join().unwrap(), n));
        });
    });
    ended.succeeded();
}

/// Address space runs out for one class, and others, that need less, go on.
#[test]
fn address_space_for_a_class() {
    let ended = Child::of("address_space_for_a_class").run(|| {
        gvt_conformance::process::stock_up_on_heap();
        let runtime = Runtime::builder().workers(2).stack_size(64 * KIB).build().unwrap();
        let size = gvt_conformance::process::status("VmSize") << 10;
        let limit = libc::rlimit { rlim_cur: size + (4 << 30), rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a valid structure.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        runtime.block_on(|| {
            let (gate, at_gate) = gvt::channel::<()>(1);
            let spawn_of = |size| {
                let at_gate = at_gate.clone();
                Builder::new().stack_size(size).spawn(move |_| at_gate.recv().is_err())
            };
            let mut handles = Vec::new();
            let error = loop {
                match spawn_of(16 * MIB) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, SchedError::Memory(MemoryError::Reserve { .. })), "{error:?}");
            assert!(error.to_string().contains("ulimit -v"), "{error}");
            assert!(handles.len() > 20, "{}", handles.len());
            handles.extend((0..500).map(|_| spawn_of(0).unwrap()));
            yield_now();
            drop(gate);
            assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
            Builder::new().stack_size(16 * MIB).spawn(|_| ()).unwrap().join().unwrap();
        });
    });
    ended.succeeded();
}

/// What a thread costs beyond its stack's first page: with a hundred thousand there, all the runtime's
/// records, its lists and queues counted. And what one costs that has not begun.
#[test]
fn bytes_a_thread() {
    let ended = Child::of("bytes_a_thread").run(|| {
        use gvt_conformance::process::status;
        const THREADS: usize = 100_000;
        let slots = MmapSlots::default().slot_size(64 * KIB).classes(&[]);
        let runtime = Runtime::builder().workers(1).slots(slots).preemptor(gvt::NoPreempt).build().unwrap();
        let weigh = || status("VmRSS") << 10;
        runtime.block_on(|| {
            let gate = Arc::new(gvt::SchedMutex::new(()));
            let guard = gate.lock();
            // The vector's own pages are not counted.
            let mut handles: Vec<_> = (0..THREADS).map(|_| None).collect();
            let start = weigh();
            for handle in &mut handles {
                let gate = gate.clone();
                *handle = Some(spawn(move |_| drop(gate.lock())));
            }
            let not_started = (weigh() - start) as usize / THREADS;
            yield_now();
            let parked = (weigh() - start) as usize;
            let stacks: usize = runtime.memory().stacks.iter().filter_map(|stack| stack.resident).sum();
            drop(guard);
            handles.into_iter().flatten().for_each(|handle| handle.join().unwrap());
            // How deep the stack is where it waits is the compiler's affair; in a release build it is one
            // page.
            let beyond = parked.saturating_sub(stacks) / THREADS;
            println!("not started: {not_started}; parked: {beyond}, and {} of stack", stacks / THREADS);
            // Its closure is in the record, which has 64 bytes for it.
            assert!(not_started <= 256 + 64, "{not_started} bytes a thread that has not started");
            assert!(beyond <= 320, "{beyond} bytes a parked thread beyond its stack");
        });
    });
    println!("{}", ended.stdout);
    ended.succeeded();
}
