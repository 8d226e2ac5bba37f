//! With everything asleep no OS thread of a runtime wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::{HeapTimer, MmapSlots, NoPreempt, Runtime, SchedMutex, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Child, becomes, cpu_time, os_threads, sleeps_of, sleeps_through};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, TimerBackend};
use rstest::rstest;

/// What goes on while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scene {
    /// Nobody is there.
    Empty,
    /// Sleepers that are due in an hour, filed by every worker.
    Sleepers,
    /// Threads that wait for each other.
    Waiters,
    /// Many runtimes.
    Crowd,
    /// Sleepers due in an hour, and a handful of earlier ones that were cancelled or have run out.
    Leftovers,
}

fn quiet(name: &'static str, scene: Scene, workers: usize) {
    let ended = Child::of(name).run(|| {
        let count = if scene == Scene::Crowd { 4 } else { 1 };
        // Stacks that nobody needs are given back soon, so that there is an end to that.
        let slots = MmapSlots::default().keep_warm(Some(Duration::from_millis(30)));
        let runtime = || Runtime::builder().workers(workers).slots(slots).build().unwrap();
        let runtimes: Vec<_> = (0..count).map(|_| runtime()).collect();
        let parked = Arc::new(AtomicUsize::new(0));
        let mutex = Arc::new(SchedMutex::new(()));
        let expected = match scene {
            Scene::Empty => 0,
            Scene::Sleepers | Scene::Leftovers => 300,
            Scene::Waiters => 301,
            Scene::Crowd => 1_200,
        };
        for runtime in &runtimes {
            // Some work first, so that every worker was awake.
            runtime.block_on(|| {
                let threads: Vec<_> = (0..200)
                    .map(|n| {
                        spawn(move |_| {
                            gvt::sleep_us(n);
                            yield_now();
                        })
                    })
                    .collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            });
            if scene == Scene::Empty {
                continue;
            }
            let (parked, mutex) = (parked.clone(), mutex.clone());
            runtime.handle().spawn(move |_| {
                let guard = (scene == Scene::Waiters).then(|| mutex.lock());
                for n in 0..300 {
                    let (parked, mutex) = (parked.clone(), mutex.clone());
                    spawn(move |_| {
                        if scene == Scene::Leftovers {
                            gvt::sleep_us(n);
                        }
                        parked.fetch_add(1, SeqCst);
                        match scene {
                            Scene::Waiters if n % 2 == 0 => drop(mutex.lock()),
                            Scene::Waiters => spawn(|_| gvt::sleep(Duration::MAX)).join().unwrap(),
                            _ => gvt::sleep(Duration::from_secs(3_600 + n)),
                        }
                    });
                }
                if guard.is_some() {
                    parked.fetch_add(1, SeqCst);
                    gvt::sleep(Duration::from_secs(3_600));
                }
            });
        }
        assert!(becomes(|| parked.load(SeqCst) == expected), "{}", parked.load(SeqCst));
        // The workers and the monitor.
        let (slept, sleeps) = sleeps_through("gvt", workers + 1, Duration::from_millis(1_500));
        assert!(slept, "something wakes again and again in {scene:?}: {sleeps:?}");
        let mut cpu = Duration::ZERO;
        let takes_nothing = becomes(|| {
            let before = cpu_time();
            std::thread::sleep(Duration::from_millis(300));
            cpu = cpu_time() - before;
            cpu < Duration::from_millis(20)
        });
        assert!(takes_nothing, "{cpu:?} of processor time for nothing, again and again");
        std::process::exit(0);
    });
    ended.succeeded();
}

#[rstest]
#[case::one_empty("nobody_wakes::case_01_one_empty", Scene::Empty, 1)]
#[case::empty("nobody_wakes::case_02_empty", Scene::Empty, 4)]
#[case::one_sleepers("nobody_wakes::case_03_one_sleepers", Scene::Sleepers, 1)]
#[case::sleepers("nobody_wakes::case_04_sleepers", Scene::Sleepers, 4)]
#[case::one_waiters("nobody_wakes::case_05_one_waiters", Scene::Waiters, 1)]
#[case::waiters("nobody_wakes::case_06_waiters", Scene::Waiters, 4)]
#[case::many_waiters("nobody_wakes::case_07_many_waiters", Scene::Waiters, 16)]
#[case::crowd("nobody_wakes::case_08_crowd", Scene::Crowd, 2)]
#[case::leftovers("nobody_wakes::case_09_leftovers", Scene::Leftovers, 2)]
#[case::sixty_four("nobody_wakes::case_10_sixty_four", Scene::Sleepers, 64)]
fn nobody_wakes(#[case] name: &'static str, #[case] scene: Scene, #[case] workers: usize) {
    quiet(name, scene, workers);
}

/// What many threads have left warm is given back while nothing happens, and then nothing happens.
#[rstest]
#[case::soon("unneeded_stacks_decay::case_1_soon", Some(20))]
#[case::by_default("unneeded_stacks_decay::case_2_by_default", None)]
fn unneeded_stacks_decay(#[case] name: &'static str, #[case] keep_warm_ms: Option<u64>) {
    let ended = Child::of(name).run(|| {
        let mut slots = MmapSlots::default();
        if let Some(ms) = keep_warm_ms {
            slots = slots.keep_warm(Some(Duration::from_millis(ms)));
        }
        let runtime = Runtime::builder().workers(2).slots(slots).build().unwrap();
        let burst = |threads: usize| {
            let ran = runtime.block_on(|| {
                let (gate, at_gate) = gvt::channel::<()>(1);
                let spawn = |_| {
                    let at_gate = at_gate.clone();
                    gvt::Builder::new().stack_size(256 << 10).spawn(move |_| at_gate.recv().is_err()).unwrap()
                };
                let threads: Vec<_> = (0..threads).map(spawn).collect();
                drop(gate);
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&closed| closed).count()
            });
            assert_eq!(ran, threads);
        };
        burst(2_000);
        let cached = || runtime.memory_use().slots_cached;
        // Workers keep what is at hand: 64 of each of two classes.
        assert!(becomes(|| cached() <= 4 * 64), "{} are kept", cached());
        let memory = runtime.memory();
        let resident: usize = memory.stacks.iter().filter_map(|stack| stack.resident).sum();
        // A few pages each; 2,000 had as many.
        assert!(resident <= 4 * 64 * 16_384, "{memory}");
        // A thread's stack goes back after its joiner is woken.
        assert!(becomes(|| runtime.memory_use().slots_in_use == 0), "{}", runtime.memory());

        let (slept, sleeps) = sleeps_through("gvt", 3, Duration::from_millis(1_200));
        assert!(slept, "something wakes again and again: {sleeps:?}");
        burst(3_000);
        assert!(becomes(|| cached() <= 4 * 64), "{} are kept the second time", cached());
    });
    ended.succeeded();
}

/// A worker that takes naps because threads are spawned and waited for at once sleeps when that is over,
/// beside one that computes too.
#[test]
fn naps_end() {
    let ended = Child::of("naps_end").run(|| {
        // One computes, one naps, one sleeps.
        let builder = Runtime::builder().workers(3).preemptor(NoPreempt);
        // Nor does the monitor look.
        let long = Duration::from_secs(3_600);
        let runtime = builder.timer_interval(long).time_slice(long).build().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let theirs = done.clone();
        let spawner = runtime.handle().spawn(move |_| {
            (0..200_000).for_each(|_| spawn(|_| ()).join().unwrap());
            while !theirs.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let all_sleep = || {
            let (slept, sleeps) = sleeps_through("gvt", 4, Duration::from_millis(300));
            assert!(slept, "something wakes again and again: {sleeps:?}");
        };
        all_sleep();
        done.store(true, Relaxed);
        spawner.join().unwrap();
        all_sleep();
    });
    ended.succeeded();
}

/// A single sleeper costs a few wake-ups a sleep, not a tick a millisecond.
#[test]
fn a_lone_sleeper_wakes_only_itself() {
    let ended = Child::of("a_lone_sleeper_wakes_only_itself").run(|| {
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(4));
        runtime.block_on(|| gvt::sleep_ms(50));
        let before = sleeps_of("gvt").sum();
        runtime.block_on(|| (0..5).for_each(|_| gvt::sleep_ms(100)));
        let sleeps = sleeps_of("gvt").sum() - before;
        assert!(sleeps < 100, "{sleeps} wake-ups for five sleeps");
    });
    ended.succeeded();
}

/// Sleepers at once: a million, but fewer where nothing is optimised or memory is short.
fn crowd() -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let kib: usize = available.and_then(|number| number.parse().ok()).unwrap_or(0);
    // A sleeper keeps a page of stack, and half as much besides.
    let most = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };
    most.min(kib / 16).max(1_000)
}

/// With a million sleepers and nothing due for two seconds no OS thread wakes, whichever backend holds the
/// deadlines; all of them claim that.
#[rstest]
#[case::heap("a_million_sleepers::case_1_heap", HeapTimer)]
#[case::wheel("a_million_sleepers::case_2_wheel", Wheel::default())]
#[case::timerfd_over_wheel("a_million_sleepers::case_3_timerfd_over_wheel", TimerFd::<Wheel>::default())]
#[case::timerfd_over_heap("a_million_sleepers::case_4_timerfd_over_heap", TimerFd::over(HeapTimer))]
fn a_million_sleepers(#[case] name: &'static str, #[case] timer: impl Factory<Output: TimerBackend>) {
    // One after the other: they take some gigabytes each.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let ended = Child::of(name).run(|| {
        let count = crowd();
        let runtime = Runtime::builder()
            .workers(2)
            .timer(timer)
            .slots(MmapSlots::default().slot_size(64 << 10))
            .build()
            .unwrap();
        let asleep = Arc::new(AtomicUsize::new(0));
        let here = asleep.clone();
        runtime.block_on(move || {
            for n in 0..count as u64 {
                let asleep = here.clone();
                drop(spawn(move |_| {
                    asleep.fetch_add(1, Relaxed);
                    // From one hour on, no two alike.
                    gvt::sleep(Duration::from_secs(3_600) + Duration::from_micros(n * 7_919 % 1_000_003));
                }));
            }
        });
        assert!(becomes(|| asleep.load(Relaxed) == count));
        let (slept, sleeps) = sleeps_through("gvt", 3, Duration::from_secs(2));
        assert!(slept, "something wakes again and again: {sleeps:?}");
        let cpu = cpu_time();
        std::thread::sleep(Duration::from_millis(300));
        println!(
            "{count} sleepers, {} OS threads, 0 wake-ups in two seconds, {:?} of processor time",
            sleeps.os_threads(),
            cpu_time() - cpu,
        );
        // A spare OS thread that a busy machine has called for may still have to end.
        let stays = || {
            let all = os_threads();
            std::thread::sleep(Duration::from_millis(300));
            os_threads() == all
        };
        assert!(becomes(stays), "OS threads come and go");
        std::process::exit(0);
    });
    println!("{}", ended.stdout);
    ended.succeeded();
}
