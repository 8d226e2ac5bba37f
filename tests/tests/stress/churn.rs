//! Everything at once, at random: nothing is lost, nothing leaks.
//!
//! Each round draws a seed, prints it, and lets some dozens of actors do what that seed says. `GVT_SEED=…`
//! repeats a round's decisions (not the kernel's). `GVT_STRESS_SECONDS=60` goes on for a minute; the default
//! is two seconds.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gvt::{
    Builder, CancellationToken, Handle, JoinHandle, MmapSlots, Priority, Runtime, SchedMutex,
    SchedulerConfig, spawn,
};
use gvt_conformance::process::{Child, Random, Watchdog, becomes, descriptors, os_threads, status};
use rstest::rstest;

/// Actors that act on their own.
const ACTORS: u64 = 48;
/// What each does in a round.
const STEPS: u64 = 40;

/// What all actors share, and the accounts.
struct World {
    mutexes: [SchedMutex<(u64, u64)>; 4],
    created: AtomicUsize,
    dropped: AtomicUsize,
    ran: AtomicUsize,
    to_run: AtomicUsize,
    outside: mpsc::SyncSender<Errand>,
}

/// Something for an OS thread to do.
type Errand = Box<dyn FnOnce(&Handle) + Send>;

/// Counted when made and when dropped, with ballast so that some closures are boxed.
struct Counted<const N: usize>(Arc<World>, [u8; N]);

impl<const N: usize> Counted<N> {
    fn new(world: &Arc<World>) -> Self {
        world.created.fetch_add(1, Relaxed);
        Counted(world.clone(), [N as u8; N])
    }
}

impl<const N: usize> Drop for Counted<N> {
    fn drop(&mut self) {
        assert!(self.1.iter().all(|&byte| byte == N as u8), "ballast was damaged");
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

impl World {
    /// A closure that runs `f` and is accounted for.
    fn account<const N: usize, T, F>(
        self: &Arc<Self>,
        f: F,
    ) -> impl FnOnce(&CancellationToken) -> T + use<N, T, F>
    where
        F: FnOnce(&CancellationToken) -> T,
    {
        self.to_run.fetch_add(1, Relaxed);
        let counted = Counted::<N>::new(self);
        move |token: &CancellationToken| {
            counted.0.ran.fetch_add(1, Relaxed);
            f(token)
        }
    }
}

/// Waits when it is dropped, also while unwinding.
struct WaitsInDrop(u64);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        match self.0 % 3 {
            0 => gvt::sleep_us(self.0),
            1 => assert_eq!(spawn(|_| 9).join().unwrap(), 9),
            _ => gvt::yield_now(),
        }
    }
}

fn tree(world: &Arc<World>, depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    let below = |world: &Arc<World>| {
        let inner = world.clone();
        spawn(world.account::<8, _, _>(move |_| tree(&inner, depth - 1)))
    };
    let (left, right) = (below(world), below(world));
    left.join().unwrap() + right.join().unwrap()
}

fn channel_run(world: &Arc<World>, random: &mut Random) {
    let capacity = random.below(4) as usize + 1;
    let (sender, receiver) = gvt::channel(capacity);
    let producers = random.below(3) + 1;
    for producer in 0..producers {
        let sender = sender.clone();
        let mut random = random.part(producer);
        drop(spawn(world.account::<16, _, _>(move |_| {
            for number in 0..30_u64 {
                sender.send((producer, number)).unwrap();
                if random.below(8) == 0 {
                    gvt::yield_now();
                }
            }
        })));
    }
    drop(sender);
    let mut next = [0; 3];
    while let Ok((producer, number)) = receiver.recv() {
        assert_eq!(number, next[producer as usize], "lost, doubled or out of order");
        next[producer as usize] += 1;
        if random.below(16) == 0 {
            gvt::sleep_us(random.below(60));
        }
    }
    assert!(next[..producers as usize].iter().all(|&count| count == 30), "{next:?}");
}

fn lock_run(world: &World, random: &mut Random) {
    let mutex = &world.mutexes[random.below(4) as usize];
    for _ in 0..4 {
        let mut guard = mutex.lock();
        assert_eq!(guard.0, guard.1, "two held the mutex");
        guard.0 += 1;
        match random.below(6) {
            0 => gvt::yield_now(),
            1 => gvt::sleep_us(random.below(30)),
            _ => {}
        }
        guard.1 += 1;
    }
}

fn errand(world: &Arc<World>, random: &mut Random) {
    let (answer, answered) = mpsc::channel();
    let number = random.next();
    let sleep = random.below(100);
    let run = world.account::<100, _, _>(move |_| {
        gvt::sleep_us(sleep);
        number
    });
    let errand: Errand = Box::new(move |handle| {
        let value = handle.spawn(run).join().unwrap();
        answer.send(value).unwrap();
    });
    // Blocking std code, on a green thread.
    gvt::blocking(|| world.outside.send(errand)).unwrap();
    assert_eq!(gvt::blocking(|| answered.recv()), Ok(number));
}

fn scope_run(random: &mut Random) {
    let (mut left, mut right) = (0, 0);
    let sleep = random.below(50);
    gvt::scope(|s| {
        s.spawn(|_| {
            gvt::sleep_us(sleep);
            left = 1;
        });
        let joined = s.spawn(|_| {
            right = 2;
            right
        });
        assert_eq!(joined.join().unwrap(), 2);
    });
    assert_eq!((left, right), (1, 2));
}

fn compute(random: &mut Random) -> u64 {
    // Allocations and floating-point state are alive when it is taken off.
    let mut numbers: Vec<f64> = (0..200).map(|n| n as f64 + 0.5).collect();
    let rounds = random.below(3) * 200 + 1;
    for round in 0..rounds {
        for number in &mut numbers {
            *number = number.mul_add(1.000_1, 0.25);
        }
        if round % 50 == 0 {
            numbers = black_box(numbers.clone());
        }
    }
    numbers.iter().sum::<f64>() as u64
}

fn step(world: &Arc<World>, random: &mut Random) {
    match random.below(20) {
        0 => gvt::yield_now(),
        1 => gvt::sleep_us(random.below(200)),
        2 => drop(spawn(world.account::<0, _, _>(|_| ()))),
        3 => {
            let number = random.next();
            let handle = spawn(world.account::<70, _, _>(move |_| {
                gvt::yield_now();
                [number; 20]
            }));
            assert_eq!(handle.join().unwrap(), [number; 20]);
        }
        4 | 5 => lock_run(world, random),
        6 => {
            let number = random.next();
            let handle: JoinHandle<()> = spawn(world.account::<8, _, _>(move |_| {
                let _waits = WaitsInDrop(number % 40);
                resume_unwind(Box::new(number));
            }));
            assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&number));
        }
        7 => {
            let number = random.below(40);
            drop(spawn(world.account::<8, (), _>(move |_| {
                let _waits = WaitsInDrop(number);
                resume_unwind(Box::new(WaitsInDrop(number)));
            })));
        }
        8 => scope_run(random),
        9 => {
            let looped = spawn(world.account::<8, _, _>(|token| {
                let mut rounds = 0_u64;
                while !token.is_cancelled() {
                    rounds += 1;
                    gvt::yield_now();
                }
                rounds
            }));
            let token = looped.token();
            gvt::sleep_us(random.below(50));
            token.cancel();
            looped.join().unwrap();
        }
        10 | 11 => channel_run(world, random),
        12 => assert_eq!(tree(world, 4), 16),
        13 => errand(world, random),
        14 => {
            for _ in 0..random.below(500) {
                gvt::safepoint!();
            }
        }
        15 => {
            black_box(compute(random));
        }
        16 => {
            let priority = Priority::ALL[random.below(4) as usize];
            let builder = Builder::new().name("named").priority(priority).affinity(random.below(16) as usize);
            let handle = builder.spawn(world.account::<8, _, _>(|_| gvt::current_name())).unwrap();
            assert_eq!(handle.join().unwrap().as_deref(), Some("named"));
        }
        17 => gvt::blocking(|| std::thread::sleep(Duration::from_micros(random.below(80)))),
        18 => {
            // A burst that nobody waits for.
            for _ in 0..random.below(60) {
                drop(spawn(world.account::<8, _, _>(|_| gvt::yield_now())));
            }
        }
        _ => {
            // Tokens that outlive their thread.
            let tokens =
                spawn(world.account::<8, _, _>(|token| (token.clone(), token.child()))).join().unwrap();
            assert!(!tokens.1.is_cancelled());
            tokens.0.cancel();
            assert!(tokens.1.is_cancelled());
        }
    }
}

fn round(runtime: &Runtime, random: &Random) {
    let (outside, errands) = mpsc::sync_channel::<Errand>(2);
    let world = Arc::new(World {
        mutexes: [const { SchedMutex::new((0, 0)) }; 4],
        created: AtomicUsize::new(0),
        dropped: AtomicUsize::new(0),
        ran: AtomicUsize::new(0),
        to_run: AtomicUsize::new(0),
        outside,
    });
    let handle = runtime.handle();
    let outsider = std::thread::spawn(move || errands.into_iter().for_each(|errand| errand(&handle)));
    runtime.block_on(|| {
        let actors: Vec<_> = (0..ACTORS)
            .map(|actor| {
                let (inner, mut random) = (world.clone(), random.part(actor));
                spawn(world.account::<8, _, _>(move |_| (0..STEPS).for_each(|_| step(&inner, &mut random))))
            })
            .collect();
        for actor in actors {
            actor.join().unwrap_or_else(|payload| resume_unwind(payload));
        }
    });
    // What nobody joined comes to its end by itself.
    let settled = becomes(|| runtime.live_threads() == 0);
    assert!(settled, "{} green threads are left", runtime.live_threads());
    let counts = [&world.to_run, &world.ran, &world.created, &world.dropped].map(|count| count.load(SeqCst));
    assert_eq!(
        (counts[0], counts[2]),
        (counts[1], counts[3]),
        "closures that should run and ran, made and dropped"
    );
    for mutex in &world.mutexes {
        let guard = mutex.try_lock().expect("a mutex was left locked");
        assert_eq!(guard.0, guard.1);
    }
    drop(Arc::into_inner(world).expect("somebody still holds the world"));
    outsider.join().unwrap();
}

/// What a stress runs on.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    OneRuntime,
    SmallSlots,
    /// A new runtime each round.
    Mortal,
    /// Threads are taken off by force all the time.
    Hurried,
    /// Never by force, and as few workers as can be.
    OneWorker,
}

fn build(stage: Stage) -> Runtime {
    let slot_size = if stage == Stage::OneRuntime { 16 << 20 } else { 128 << 10 };
    let slots = MmapSlots::default().slot_size(slot_size);
    let config = SchedulerConfig::default().num_workers(16);
    let config = match stage {
        Stage::Hurried => {
            let blink = Duration::from_micros(100);
            config.time_slice(blink).timer_interval(blink).grace_period(blink).wake_wait(blink).min_run(blink)
        }
        Stage::OneWorker => config.num_workers(1).enable_forced_preempt(false),
        _ => config,
    };
    Runtime::builder().config(config).slots(slots).build().unwrap()
}

fn stress(name: &'static str, stage: Stage) {
    let ended = Child::of(name).run(|| {
        let seconds = std::env::var("GVT_STRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        let time = Duration::from_millis(seconds.map_or(2_000, |seconds: u64| seconds * 1_000));
        let mut random = Random::from_environment(name);
        let threads_before = os_threads();
        let mut runtime = build(stage);
        let mut warm: Option<(u64, usize)> = None;
        let begin = Instant::now();
        for count in 0.. {
            if count > 0 && begin.elapsed() > time {
                break;
            }
            let seed = if count == 0 { random.clone() } else { Random::with_seed(random.next()) };
            println!("round {count}: GVT_SEED={}", seed.seed());
            let _watchdog = Watchdog::noting(format!("GVT_SEED={}", seed.seed()));
            round(&runtime, &seed);
            if stage != Stage::Mortal {
                let settled = becomes(|| runtime.memory_use().slots_in_use == 0);
                assert!(settled, "slots in use: {:?}", runtime.memory_use());
            } else {
                drop(runtime);
                runtime = build(stage);
            }
            // Flat from a third of the time on.
            let now = (status("VmRSS"), descriptors());
            match warm {
                None if begin.elapsed() > time / 3 => warm = Some(now),
                None => {}
                Some((rss, files)) => {
                    assert!(
                        now.0 < rss + rss / 4 + (24 << 10),
                        "memory grows: {rss} KiB, then {} KiB",
                        now.0
                    );
                    // The monitor opens one for a moment now and then, also when `files` was counted.
                    assert!(becomes(|| descriptors() <= files), "descriptors: {files}, then {}", now.1);
                }
            }
        }
        drop(runtime);
        assert!(becomes(|| os_threads() == threads_before), "OS threads are left: {}", os_threads());
    });
    ended.succeeded();
}

#[rstest]
#[case::one_runtime("nothing_is_lost::case_1_one_runtime", Stage::OneRuntime)]
#[case::small_slots("nothing_is_lost::case_2_small_slots", Stage::SmallSlots)]
#[case::a_runtime_a_round("nothing_is_lost::case_3_a_runtime_a_round", Stage::Mortal)]
#[case::hurried("nothing_is_lost::case_4_hurried", Stage::Hurried)]
#[case::one_worker("nothing_is_lost::case_5_one_worker", Stage::OneWorker)]
fn nothing_is_lost(#[case] name: &'static str, #[case] stage: Stage) {
    stress(name, stage);
}
