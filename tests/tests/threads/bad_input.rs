//! What cannot work is refused with a sentence that says what and how to mend it; nothing is lost, and
//! the runtime goes on.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::{MemoryError, MmapSlots, Runtime, SchedError, SchedulerConfig, WorkerError, spawn, yield_now};
use gvt_conformance::process::{
    Child, Watchdog, becomes, deny_new_os_threads, descriptors, os_threads, status, stock_up_on_heap,
};
use gvt_traits::{Factory, MemoryUse, Plan, Slot, SlotAllocator, StackBounds, StackClass, WorkerId};
use rstest::rstest;

fn config() -> SchedulerConfig {
    SchedulerConfig::default().num_workers(2)
}

fn refused(config: SchedulerConfig, setting: &str, words: &[&str]) {
    let error = Runtime::try_new(config.clone()).unwrap_err();
    assert!(matches!(&error, SchedError::Config { setting: name, .. } if *name == setting), "{error:?}");
    let sentence = error.to_string();
    for word in words.iter().chain(&[setting]) {
        assert!(sentence.contains(word), "no '{word}' in: {sentence}");
    }
    // The same as a panic.
    let payload = std::panic::catch_unwind(|| Runtime::new(config)).unwrap_err();
    assert_eq!(payload.downcast_ref::<String>(), Some(&sentence));
}

#[test]
fn settings() {
    let _watchdog = Watchdog::new();
    refused(config().num_workers(0), "num_workers", &["0 workers", "1 to 64"]);
    refused(config().num_workers(65), "num_workers", &["65 workers", "1 to 64"]);
    refused(config().num_workers(usize::MAX), "num_workers", &["1 to 64"]);
    refused(config().max_gvthreads(0), "max_gvthreads", &["0 green threads", "1 to"]);
    refused(config().max_gvthreads(usize::MAX), "max_gvthreads", &["1 to"]);
    refused(config().num_low_priority_workers(2), "num_low_priority_workers", &["2 of 2", "at least one"]);
    refused(config().num_low_priority_workers(usize::MAX), "num_low_priority_workers", &["at least one"]);
    refused(config().time_slice(Duration::ZERO), "time_slice", &["0ns", "10 µs"]);
    refused(config().time_slice(Duration::MAX), "time_slice", &["one hour"]);
    refused(config().timer_interval(Duration::ZERO), "timer_interval", &["0ns"]);
    refused(config().timer_interval(Duration::MAX), "timer_interval", &["one hour"]);
}

#[rstest]
fn slot_sizes(#[values(0, 1, 4096, 32 << 10, (64 << 10) + 1, 96 << 10, 3 << 20, usize::MAX)] bytes: usize) {
    let slots = MmapSlots::default().slot_size(bytes);
    let error = Runtime::builder().workers(1).slots(slots).build().unwrap_err();
    let sentence = error.to_string();
    assert!(matches!(&error, SchedError::Config { setting: "slot_size", .. }), "{error:?}");
    for word in [&bytes.to_string() as &str, "power of two", "64 KiB"] {
        assert!(sentence.contains(word), "no '{word}' in: {sentence}");
    }
}

/// More address space than there is.
#[test]
fn slots_that_do_not_fit_into_the_address_space() {
    let slots = MmapSlots::default().slot_size(1 << 46);
    let error = Runtime::builder().workers(1).slots(slots).build().unwrap_err();
    assert!(matches!(error, SchedError::Memory(MemoryError::Reserve { .. })), "{error:?}");
    assert!(error.to_string().contains("lower `max_gvthreads` or the slot size"), "{error}");
}

/// Settings at the edge of what is allowed do work.
#[rstest]
#[case::short_periods(config().time_slice(Duration::from_micros(10)).timer_interval(Duration::from_micros(10)))]
#[case::grace_for_ever(config().grace_period(Duration::MAX).time_slice(Duration::from_micros(10)))]
#[case::no_grace(config().grace_period(Duration::ZERO).time_slice(Duration::from_micros(10)))]
#[case::wake_wait_for_ever(config().wake_wait(Duration::MAX).min_run(Duration::MAX))]
#[case::no_wake_wait(config().wake_wait(Duration::ZERO).min_run(Duration::ZERO))]
#[case::no_force(config().enable_forced_preempt(false))]
#[case::many_workers(config().num_workers(64).num_low_priority_workers(63))]
#[case::debug(config().debug_logging(true))]
fn settings_at_the_edge(#[case] config: SchedulerConfig) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::try_new(config).unwrap();
    runtime.block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let stop = stop.clone();
                spawn(move |_| {
                    while !stop.load(Relaxed) {
                        if n % 2 == 0 { gvt::safepoint!() } else { yield_now() }
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            gvt::sleep_us(500);
        }
        stop.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// With a grace for ever a thread that never looks is taken off for sleepers only; and that it has had less
/// than it is due puts nothing off for ever.
#[rstest]
fn only_sleepers_force(#[values(Duration::from_micros(10), Duration::from_secs(3600))] slice: Duration) {
    let _watchdog = Watchdog::new();
    let config = SchedulerConfig::default().num_workers(1).time_slice(slice).grace_period(Duration::MAX);
    let runtime = Runtime::new(config);
    runtime.block_on(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let spinner = spawn(move |_| while !stopped.load(Relaxed) {});
        for _ in 0..10 {
            gvt::sleep_us(500);
        }
        stop.store(true, Relaxed);
        spinner.join().unwrap();
    });
    assert!(runtime.counters().forced_preemptions > 0);
}

/// As many threads as were asked for, and not one more.
#[rstest]
fn the_limit_is_exact(#[values(1, 2, 8)] workers: usize, #[values(1, 2, 3, 17, 64, 500)] limit: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(workers).max_gvthreads(limit));
    for round in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let ran = runtime.block_on(|| {
            let waits = |stop: &Arc<AtomicBool>| {
                let stop = stop.clone();
                move |_: &gvt::CancellationToken| {
                    while !stop.load(SeqCst) {
                        gvt::sleep_us(50);
                    }
                }
            };
            let mut handles = Vec::new();
            let error = loop {
                match gvt::try_spawn(waits(&stop)) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, SchedError::TooManyThreads { limit });
            let sentence = error.to_string();
            assert!(sentence.contains(&limit.to_string()) && sentence.contains("raise `max_gvthreads`"));
            assert_eq!(handles.len(), limit - 1, "round {round}");
            assert_eq!(runtime.handle().try_spawn(|_| ()).unwrap_err(), error);
            let payload = std::panic::catch_unwind(|| drop(spawn(|_| ()))).unwrap_err();
            assert_eq!(payload.downcast_ref::<String>(), Some(&sentence));
            stop.store(true, SeqCst);
            handles.into_iter().map(|handle| handle.join().unwrap()).count()
        });
        assert_eq!(ran, limit - 1);
    }
    // An ended thread counts as long as it can be joined.
    if limit > 2 {
        runtime.block_on(|| {
            let kept: Vec<_> = (0..limit - 1).map(|n| spawn(move |_| n)).collect();
            while !kept.iter().all(|handle| handle.is_finished()) {
                yield_now();
            }
            assert!(gvt::try_spawn(|_| ()).is_err());
            kept.into_iter().enumerate().for_each(|(n, handle)| assert_eq!(handle.join().unwrap(), n));
            spawn(|_| ()).join().unwrap();
        });
    }
}

/// A large limit is kept to within what the workers' caches may hold.
#[rstest]
fn a_large_limit(#[values(1, 2)] workers: usize) {
    const LIMIT: usize = 20_000;
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(workers)
        .max_gvthreads(LIMIT)
        .slots(MmapSlots::default().slot_size(64 << 10))
        .build()
        .unwrap();
    for _ in 0..3 {
        let count = runtime.block_on(|| {
            let gate = Arc::new(gvt::SchedMutex::new(()));
            let guard = gate.lock();
            let mut handles = Vec::new();
            let error = loop {
                let gate = gate.clone();
                match gvt::try_spawn(move |_| drop(gate.lock())) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => break error,
                }
                if handles.len() % 64 == 0 {
                    yield_now();
                }
            };
            assert_eq!(error, SchedError::TooManyThreads { limit: LIMIT });
            drop(guard);
            handles.into_iter().map(|handle| handle.join().unwrap()).count() + 1
        });
        assert!((LIMIT..=LIMIT + 64 * workers).contains(&count), "{count}");
    }
}

/// Sets a soft limit.
fn limit(resource: gvt_conformance::process::Resource, most: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid structures.
    let answer = unsafe {
        libc::getrlimit(resource, &mut limit);
        limit.rlim_cur = most.min(limit.rlim_max);
        libc::setrlimit(resource, &limit)
    };
    assert_eq!(answer, 0);
}

fn limit_address_space(bytes: u64) {
    limit(libc::RLIMIT_AS, bytes);
}

/// Under `ulimit -v`, whatever the limit, a runtime is built and works, or is refused.
#[test]
fn address_space() {
    let ended = Child::of("address_space").run(|| {
        stock_up_on_heap();
        let (threads, files) = (os_threads(), descriptors());
        let mut refusals = 0;
        let mut built = 0;
        for extra_mib in [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 400, 600, 800, 1_000, 2_000, 4_000] {
            for small in [false, true] {
                let present = status("VmSize") << 10;
                limit_address_space(present + (extra_mib << 20));
                let built_now = if small {
                    let slots = MmapSlots::default().slot_size(64 << 10);
                    Runtime::builder().workers(2).max_gvthreads(50).slots(slots).build()
                } else {
                    Runtime::builder().workers(2).build()
                };
                match built_now {
                    Ok(runtime) => {
                        built += 1;
                        let sum = runtime.try_block_on(|| {
                            let handles: Vec<_> =
                                (0..20).map_while(|n| gvt::try_spawn(move |_| n).ok()).collect();
                            handles.into_iter().map(|handle| handle.join().unwrap_or(0)).sum::<i32>()
                        });
                        limit_address_space(libc::RLIM_INFINITY);
                        assert!(sum.is_ok_and(|sum| sum > 0) || extra_mib < 100);
                    }
                    Err(error) => {
                        limit_address_space(libc::RLIM_INFINITY);
                        refusals += 1;
                        let sentence = error.to_string();
                        let mends =
                            sentence.contains("raise `ulimit -v`") || sentence.contains("`ulimit -u`");
                        assert!(mends, "{sentence}");
                    }
                }
                assert!(becomes(|| os_threads() == threads), "OS threads are left");
                assert_eq!(descriptors(), files, "descriptors are left");
            }
        }
        assert!(refusals > 3 && built > 3, "{refusals} refusals, {built} built");
    });
    ended.succeeded();
}

/// A runtime that has been built runs threads, as many as there is address space for: records are made in
/// batches, and so are stacks, but the last are not refused because a whole batch cannot be had.
#[test]
fn address_space_for_a_few_threads() {
    let ended = Child::of("address_space_for_a_few_threads").run(|| {
        stock_up_on_heap();
        for workers in [1, 2, 4] {
            let (threads, present) = (os_threads(), status("VmSize") << 10);
            for extra_mib in (500..1_500).step_by(50) {
                limit_address_space(present + (extra_mib << 20));
                let built = Runtime::builder().workers(workers).max_gvthreads(20_000).build();
                let ran = built.as_ref().ok().map(|runtime| {
                    runtime.try_block_on(|| {
                        let sleeps = |_: &gvt::CancellationToken| gvt::sleep_ms(1);
                        let handles: Vec<_> = (0..20).map_while(|_| gvt::try_spawn(sleeps).ok()).collect();
                        handles.into_iter().filter_map(|handle| handle.join().ok()).count()
                    })
                });
                limit_address_space(libc::RLIM_INFINITY);
                match (built, ran) {
                    (Ok(_), Some(Ok(count))) => {
                        // The first 512 MiB, of which workers may keep some to themselves.
                        assert!(count >= 4, "{count} threads with {workers} workers and {extra_mib} MiB");
                    }
                    (Err(error), _) => {
                        assert!(error.to_string().contains("raise `ulimit -v`"), "{error}");
                        assert!(
                            extra_mib < if workers < 4 { 700 } else { 1_200 },
                            "refused with {extra_mib} MiB"
                        );
                    }
                    (_, ran) => panic!("built, but the first thread is refused: {ran:?}"),
                }
                assert!(becomes(|| os_threads() == threads), "OS threads are left");
            }
        }
    });
    ended.succeeded();
}

/// Threads are refused when address space runs out; those that are there go on, and later others.
#[test]
fn address_space_for_one_more_thread() {
    let ended = Child::of("address_space_for_one_more_thread").run(|| {
        stock_up_on_heap();
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.block_on(|| spawn(|_| yield_now()).join().unwrap());
        limit_address_space((status("VmSize") << 10) + (9_000 << 20));
        for _ in 0..3 {
            let stop = Arc::new(AtomicBool::new(false));
            let (count, error) = runtime.block_on(|| {
                let mut handles = Vec::new();
                let error = loop {
                    let stop = stop.clone();
                    let waits = move |_: &gvt::CancellationToken| {
                        while !stop.load(SeqCst) {
                            gvt::sleep_ms(1);
                        }
                    };
                    match gvt::try_spawn(waits) {
                        Ok(handle) => handles.push(handle),
                        Err(error) => break error,
                    }
                };
                stop.store(true, SeqCst);
                (handles.into_iter().map(|handle| handle.join().unwrap()).count(), error)
            });
            assert!(count > 20, "{count}");
            assert!(matches!(error, SchedError::Memory(MemoryError::Reserve { .. })), "{error:?}");
            assert!(error.to_string().contains("raise `ulimit -v`"), "{error}");
            assert_eq!(runtime.block_on(|| spawn(|_| 7).join().unwrap()), 7);
        }
    });
    ended.succeeded();
}

#[test]
fn no_os_threads() {
    let ended = Child::of("no_os_threads").run(|| {
        deny_new_os_threads();
        let (threads, files) = (os_threads(), descriptors());
        for _ in 0..10 {
            let error = Runtime::try_new(config()).unwrap_err();
            assert_eq!(
                error,
                SchedError::Worker(WorkerError::ThreadCreation { running: 0, errno: libc::EAGAIN })
            );
            let sentence = error.to_string();
            assert!(
                sentence.contains("raise `ulimit -u`") && sentence.contains("fewer workers"),
                "{sentence}"
            );
            assert_eq!((os_threads(), descriptors()), (threads, files), "something is left");
        }
    });
    ended.succeeded();
}

/// Some workers could be started, and then no more: those that were are ended again.
#[test]
fn too_few_os_threads() {
    let ended = Child::of("too_few_os_threads").run(|| {
        // `ulimit -u` does not bind root.
        // SAFETY: no pointers.
        unsafe {
            if libc::getuid() == 0 {
                assert_eq!(libc::setresuid(0x6776_7401, 0x6776_7401, 0x6776_7401), 0);
                libc::prctl(libc::PR_SET_DUMPABLE, 1);
            }
        }
        let (threads, files) = (os_threads(), descriptors());
        let mut partly = 0;
        for most in threads..threads + 12 {
            limit(libc::RLIMIT_NPROC, most);
            match Runtime::try_new(SchedulerConfig::default().num_workers(8)) {
                Ok(runtime) => assert_eq!(runtime.block_on(|| spawn(|_| 3).join().unwrap()), 3),
                Err(SchedError::Worker(WorkerError::ThreadCreation { running, errno: libc::EAGAIN })) => {
                    partly += usize::from(running > 0);
                }
                Err(error) => panic!("{error:?}"),
            }
            assert!(becomes(|| os_threads() == threads), "OS threads are left");
            assert_eq!(descriptors(), files, "descriptors are left");
        }
        assert!(partly > 0, "no attempt failed half-way");
    });
    ended.succeeded();
}

#[test]
fn no_descriptors() {
    let ended = Child::of("no_descriptors").run(|| {
        let threads = os_threads();
        for _ in 0..3 {
            limit(libc::RLIMIT_NOFILE, 0);
            let error = Runtime::try_new(config()).unwrap_err();
            limit(libc::RLIMIT_NOFILE, u64::MAX);
            assert!(matches!(&error, SchedError::Worker(WorkerError::Descriptor { .. })), "{error:?}");
            assert!(error.to_string().contains("raise `ulimit -n`"), "{error}");
            assert_eq!(os_threads(), threads);
            // Once built, a runtime needs no more.
            let runtime = Runtime::try_new(config()).unwrap();
            limit(libc::RLIMIT_NOFILE, 0);
            runtime.block_on(|| (0..100).for_each(|n| drop(spawn(move |_| gvt::sleep_us(n)))));
            drop(runtime);
            limit(libc::RLIMIT_NOFILE, u64::MAX);
        }
    });
    ended.succeeded();
}

/// An allocator that promises exactly what it is asked for, and refuses when told to.
#[derive(Clone, Default)]
struct Exact(Arc<State>);

#[derive(Default)]
struct State {
    promised: AtomicUsize,
    in_use: AtomicUsize,
    short: AtomicBool,
    exceeded: AtomicUsize,
}

struct ExactSlots {
    pool: <MmapSlots as Factory>::Output,
    state: Arc<State>,
}

impl Factory for Exact {
    type Output = ExactSlots;
    fn build(&self, plan: &Plan) -> Result<ExactSlots, SchedError> {
        let pool = MmapSlots::default().slot_size(64 << 10).classes(&[]).build(plan)?;
        Ok(ExactSlots { pool, state: self.0.clone() })
    }
}

// SAFETY: all slots are the pool's; this one only refuses more often.
unsafe impl SlotAllocator for ExactSlots {
    type Local = <<MmapSlots as Factory>::Output as SlotAllocator>::Local;
    fn local(&self, worker: WorkerId) -> Self::Local {
        self.pool.local(worker)
    }
    fn slot_size(&self, class: StackClass) -> Option<usize> {
        self.pool.slot_size(class)
    }
    fn reserve(&self, class: StackClass, threads: usize) -> Result<(), MemoryError> {
        self.pool.reserve(class, threads)?;
        self.state.promised.fetch_max(threads, SeqCst);
        Ok(())
    }
    fn acquire(&self, local: &mut Self::Local, class: StackClass) -> Result<Slot, MemoryError> {
        if self.state.short.load(SeqCst) {
            return Err(MemoryError::Guard { errno: libc::ENOMEM });
        }
        let slots = self.state.promised.load(SeqCst);
        if self.state.in_use.fetch_add(1, SeqCst) >= slots {
            self.state.in_use.fetch_sub(1, SeqCst);
            self.state.exceeded.fetch_add(1, SeqCst);
            return Err(MemoryError::SlotsExhausted { slots });
        }
        self.pool.acquire(local, class)
    }
    unsafe fn release(&self, local: &mut Self::Local, slot: Slot) {
        self.state.in_use.fetch_sub(1, SeqCst);
        // SAFETY: C1 is the caller's.
        unsafe { self.pool.release(local, slot) }
    }
    fn bounds(&self, slot: &Slot) -> StackBounds {
        self.pool.bounds(slot)
    }
    fn memory_use(&self, class: StackClass) -> MemoryUse {
        self.pool.memory_use(class)
    }
}

/// The runtime never uses more slots than it was promised, also while threads end and others begin.
#[rstest]
fn no_more_slots_than_promised(#[values(1, 2, 4)] workers: usize, #[values(2, 5, 40)] limit: usize) {
    let _watchdog = Watchdog::new();
    let exact = Exact::default();
    let runtime =
        Runtime::builder().workers(workers).max_gvthreads(limit).slots(exact.clone()).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..2_000 {
            let handles: Vec<_> = (1..limit).map_while(|_| gvt::try_spawn(|_| yield_now()).ok()).collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        }
    });
    drop(runtime);
    assert_eq!((exact.0.exceeded.load(SeqCst), exact.0.in_use.load(SeqCst)), (0, 0));
}

/// A thread that finds no stack when it is to run ends with the error as payload; its closure is dropped,
/// and whatever its destructor does, the runtime goes on.
#[rstest]
fn no_stack_when_it_is_to_run(#[values(1, 2)] workers: usize) {
    struct Counts(Arc<AtomicUsize>, Arc<Mutex<()>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            // Ordinary code, which may call anything.
            yield_now();
            gvt::safepoint!();
            gvt::sleep_us(50);
            drop(gvt::try_spawn(|_| ()));
            drop(self.1.lock());
            drop(gvt::SchedMutex::new(0).lock());
            self.0.fetch_add(1, SeqCst);
        }
    }
    let _watchdog = Watchdog::new();
    let exact = Exact::default();
    let runtime = Runtime::builder().workers(workers).slots(exact.clone()).build().unwrap();
    let (dropped, lock) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(())));
    let counts = || Counts(dropped.clone(), lock.clone());
    let refusal = SchedError::Memory(MemoryError::Guard { errno: libc::ENOMEM });
    // A thread may also be run on the warm stack of one that has just ended.
    let mut refused = [0; 3];
    for round in 1..=40 {
        runtime.block_on(|| {
            exact.0.short.store(true, SeqCst);
            let [joined, named, detached] = [counts(), counts(), counts()];
            let joined = spawn(move |_| drop(joined));
            let named = gvt::Builder::new().name("x").spawn(move |_| drop(named)).unwrap();
            drop(spawn(move |_| drop(detached)));
            for handle in [joined, named] {
                if let Err(payload) = handle.join() {
                    assert_eq!(payload.downcast_ref::<SchedError>(), Some(&refusal));
                    refused[0] += 1;
                }
            }
            match gvt::scope(|s| s.spawn(|_| 5).join()) {
                Ok(value) => assert_eq!(value, 5),
                Err(payload) => {
                    assert_eq!(payload.downcast_ref::<SchedError>(), Some(&refusal));
                    refused[1] += 1;
                }
            }
            while dropped.load(SeqCst) < 3 * round {
                yield_now();
            }
            exact.0.short.store(false, SeqCst);
            assert_eq!(spawn(|_| 8).join().unwrap(), 8);
        });
        // A thread of `block_on` is refused like any other.
        assert!(becomes(|| runtime.live_threads() == 0));
        exact.0.short.store(true, SeqCst);
        if let Err(error) = runtime.try_block_on(|| ()) {
            assert_eq!(error, refusal);
            assert!(error.to_string().contains("cannot guard a stack"));
            refused[2] += 1;
        }
        exact.0.short.store(false, SeqCst);
        assert_eq!(runtime.try_block_on(|| 2), Ok(2));
    }
    drop(runtime);
    assert_eq!((dropped.load(SeqCst), exact.0.in_use.load(SeqCst)), (120, 0));
    assert!(refused.iter().all(|&count| count > 0), "{refused:?}");
}

/// Capacities for which there is no memory anywhere: a panic where the documentation says so, an error where
/// one is returned.
#[test]
fn capacities_beyond_all_memory() {
    let said = |make: fn()| -> String {
        let payload = std::panic::catch_unwind(make).expect_err("it was made");
        payload.downcast_ref::<String>().expect("a sentence").clone()
    };
    for make in [
        || drop(gvt::channel::bounded::<i32>(1 << 57)),
        || drop(gvt::channel::<i32>(usize::MAX)),
        || drop(gvt::channel::broadcast::channel::<i32>(1 << 57)),
        || drop(gvt::channel::broadcast::channel::<i32>(usize::MAX)),
    ] {
        let said = said(make);
        assert!(said.contains("smaller capacity"), "{said}");
    }
    let (sender, receiver) = gvt::channel::bounded(usize::MAX);
    sender.send(()).unwrap();
    assert_eq!((receiver.capacity(), receiver.recv()), (Some(usize::MAX), Ok(())));
}
