//! Waits and wake-ups of every primitive, at random, under forced preemption at a slice of 1 ms: none is
//! lost.
//!
//! Actors draw one scene after the other. Each scene ends by itself if every wake-up arrives, whoever else
//! does what; meanwhile all share a mutex, a semaphore and a set of channels in which a few coins go round.
//! Holders are taken off by force at any instruction, since scenes compute for longer than a slice now and
//! then. If nothing moves for half a minute, the seed and what every thread waits for are printed, and the
//! process ends.
//!
//! `GVT_SEED=…` repeats the decisions (not the kernel's). `GVT_STRESS_SECONDS=600` goes on for ten minutes a
//! case; the default is one second.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use gvt::channel::{self, Receiver, Select, Sender, broadcast, oneshot, watch};
use gvt::future::block_on;
use gvt::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, Semaphore, WaitGroup};
use gvt::{CancellationToken, GoQueue, Runtime, SchedMutex, TaskSet, go};
use gvt_conformance::process::Random;
use gvt_queue_priority::PriorityQueue;
use gvt_traits::{Factory, ReadyQueue};
use rstest::rstest;

/// Far longer than any scene takes.
const LONG: Duration = Duration::from_secs(3600);
/// Without any scene's end: a wake-up was lost.
const STUCK: Duration = Duration::from_secs(30);
const COINS: usize = 5;

struct World {
    ended: AtomicU64,
    stop: AtomicBool,
    total: Mutex<(u64, u64)>,
    sched: SchedMutex<u64>,
    table: RwLock<(u64, u64)>,
    permits: Semaphore,
    purses: Vec<(Sender<u32>, Receiver<u32>)>,
}

/// Computes, seldom for longer than a slice.
fn compute(random: &mut Random) {
    let rounds = match random.below(256) {
        0 => {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(2) {
                black_box(0);
            }
            return;
        }
        1..8 => 5_000,
        8..64 => return gvt::yield_now(),
        _ => 50,
    };
    for i in 0..random.below(rounds) {
        black_box(i);
    }
}

/// Messages from one thread to another, by channels of any capacity, sent and received in any way.
fn messages(random: &mut Random) {
    let capacity = random.below(4) as usize;
    let (sender, receiver) = if capacity == 3 { channel::unbounded() } else { channel::bounded(capacity) };
    let count = random.below(20);
    let mut other = random.part(1);
    let sending = go!({
        for i in 0..count {
            match other.below(5) {
                0 => block_on(sender.send_async(i)).unwrap(),
                1 => sender.send_timeout(i, LONG).unwrap(),
                2 => gvt::select! {
                    send(sender, i) -> sent => sent.unwrap(),
                    recv(channel::never::<()>()) -> _ => unreachable!(),
                },
                _ => sender.send(i).unwrap(),
            }
            compute(&mut other);
        }
    });
    for i in 0..count {
        let got = match random.below(5) {
            0 => block_on(receiver.recv_async()),
            1 => receiver.recv_timeout(LONG).map_err(|_| channel::RecvError),
            2 => gvt::select! {
                recv(channel::never()) -> message => message,
                recv(receiver) -> message => message,
                default(LONG) => unreachable!(),
            },
            _ => receiver.recv(),
        };
        assert_eq!(got, Ok(i));
        compute(random);
    }
    assert_eq!(receiver.recv(), Err(channel::RecvError), "the sender has gone");
    sending.join().unwrap();
}

/// A coin from any purse to any other. There is always one to be had, sooner or later.
fn coins(world: &World, random: &mut Random) {
    let mut select = Select::new();
    for (_, receiver) in &world.purses {
        select.recv(receiver);
    }
    let operation = select.select();
    let from = operation.index();
    let coin = operation.recv(&world.purses[from].1).unwrap();
    compute(random);
    let to = random.below(world.purses.len() as u64) as usize;
    world.purses[to].0.send(coin).unwrap();
}

/// Two take turns by a condition variable.
fn turns(random: &mut Random) {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let rounds = random.below(10);
    let play = |me: u64, mut random: Random, shared: Arc<(Mutex<u64>, Condvar)>| {
        move || {
            let (turn, changed) = &*shared;
            for _ in 0..rounds {
                let mut guard = turn.lock().unwrap();
                while *guard % 2 != me {
                    guard = match random.below(3) {
                        0 => changed.wait_timeout(guard, LONG).unwrap().0,
                        _ => changed.wait(guard).unwrap(),
                    };
                }
                *guard += 1;
                if random.below(2) == 0 {
                    drop(guard);
                    changed.notify_all();
                } else {
                    changed.notify_one();
                }
                compute(&mut random);
            }
        }
    };
    let mut other = play(1, random.part(1), shared.clone());
    let other = go!(other());
    play(0, random.part(2), shared)();
    other.join().unwrap();
}

/// What all share: locks that nobody holds for ever.
fn locks(world: &World, random: &mut Random) {
    match random.below(6) {
        0 => {
            let mut total = world.total.lock().unwrap();
            total.0 += 1;
            compute(random);
            total.1 += 1;
            assert_eq!(total.0, total.1);
        }
        1 => block_on(async {
            let mut total = world.total.lock_async().await.unwrap();
            total.0 += 1;
            total.1 += 1;
        }),
        2 => {
            let mut guard = world.sched.lock();
            compute(random);
            *guard += 1;
        }
        3 => {
            let mut table = world.table.write().unwrap();
            table.0 += 1;
            compute(random);
            table.1 += 1;
        }
        4 => {
            let table = world.table.read().unwrap();
            compute(random);
            assert_eq!(table.0, table.1);
        }
        _ => {
            let permits = 1 + random.below(2) as usize;
            let held = match random.below(2) {
                0 => world.permits.acquire_many(permits),
                _ => block_on(world.permits.acquire_async(permits)),
            };
            compute(random);
            drop(held);
        }
    }
}

/// Several meet, or wait for the last.
fn meetings(random: &mut Random) {
    let count = 1 + random.below(5) as usize;
    let (barrier, group) = (Arc::new(Barrier::new(count + 1)), WaitGroup::new());
    let cell = Arc::new(OnceLock::new());
    for i in 0..count {
        let (barrier, group, cell, mut random) =
            (barrier.clone(), group.clone(), cell.clone(), random.part(i as u64));
        go!({
            compute(&mut random);
            barrier.wait();
            cell.get_or_init(|| {
                compute(&mut random);
                i
            });
            drop(group);
        });
    }
    barrier.wait();
    group.wait();
    assert!(cell.get().is_some());
}

/// Cancellations, and those that wait for them.
fn cancellations(random: &mut Random) {
    let token = CancellationToken::new();
    let child = token.child();
    let mut other = random.part(1);
    let waits = go!({
        compute(&mut other);
        match other.below(4) {
            0 => child.cancelled().wait(),
            1 => block_on(child.cancelled()),
            2 => assert!(child.cancelled().wait_timeout(LONG)),
            _ => gvt::select! { recv(child.cancelled()) -> _ => {} },
        }
    });
    compute(random);
    token.cancel();
    waits.join().unwrap();
    if random.below(4) == 0 {
        token.with_timeout(Duration::from_micros(random.below(300))).cancelled().wait();
        CancellationToken::new().with_timeout(Duration::from_micros(random.below(300))).cancelled().wait();
    }
}

/// Ends of threads, and those that wait for them.
fn ends(random: &mut Random) {
    let mut other = random.part(1);
    match random.below(5) {
        0 => gvt::scope(|s| {
            for i in 0..random.below(5) {
                let mut random = random.part(i);
                s.spawn(move |_| compute(&mut random));
            }
        }),
        1 => {
            let mut set = TaskSet::<(), ()>::new();
            for i in 0..random.below(5) {
                let mut random = random.part(i);
                set.spawn(move |token| {
                    compute(&mut random);
                    if random.below(4) == 0 {
                        return Err(());
                    }
                    token.cancelled().wait_timeout(Duration::from_micros(200));
                    Ok(())
                });
            }
            let _ = set.join_all();
        }
        2 => block_on(go!(compute(&mut other))).unwrap(),
        3 => go!(compute(&mut other)).join_timeout(LONG).unwrap().unwrap(),
        _ => go!(compute(&mut other)).join().unwrap(),
    }
}

/// The other channels.
fn others(random: &mut Random) {
    let mut other = random.part(1);
    match random.below(3) {
        0 => {
            let (sender, receiver) = oneshot::channel();
            let thread = go!({
                compute(&mut other);
                sender.send(1).unwrap();
            });
            let got = if random.below(2) == 0 { receiver.recv() } else { block_on(receiver) };
            assert_eq!(got, Ok(1));
            thread.join().unwrap();
        }
        1 => {
            let (sender, mut receiver) = watch::channel(0);
            let thread = go!({
                for i in 1..=5 {
                    compute(&mut other);
                    sender.send(i).unwrap();
                }
            });
            assert_eq!(*receiver.wait_for(|value| *value == 5).unwrap(), 5);
            // Its receiver goes after its sender's last.
            thread.join().unwrap();
        }
        _ => {
            let (sender, mut receiver) = broadcast::channel(8);
            let mut second = sender.subscribe();
            let thread = go!({
                for i in 0..5 {
                    compute(&mut other);
                    sender.send(i).unwrap();
                }
            });
            for i in 0..5 {
                assert_eq!((receiver.recv(), block_on(second.recv_async())), (Ok(i), Ok(i)));
            }
            assert_eq!(receiver.recv(), Err(broadcast::RecvError::Closed));
            thread.join().unwrap();
        }
    }
}

/// Timers: waits that end by themselves.
fn timers(random: &mut Random) {
    let soon = Duration::from_micros(random.below(500));
    match random.below(4) {
        0 => gvt::sleep(soon),
        1 => drop(channel::after(soon).recv()),
        2 => drop(channel::never::<()>().recv_timeout(soon)),
        _ => drop(Mutex::new(()).lock().map(|guard| Condvar::new().wait_timeout(guard, soon).is_ok())),
    }
}

/// Half of a scene on an OS thread.
fn across(world: &Arc<World>, random: &mut Random) {
    let (to, from) = (channel::bounded(0), channel::bounded::<u64>(1));
    let mut other = random.part(1);
    let (receiver, sender, world) = (to.1, from.0, world.clone());
    let thread = std::thread::spawn(move || {
        locks(&world, &mut other);
        for message in receiver {
            sender.send(message).unwrap();
        }
    });
    for i in 0..5 {
        to.0.send(i).unwrap();
        assert_eq!(from.1.recv(), Ok(i));
    }
    drop(to.0);
    assert!(from.1.recv().is_err());
    gvt::blocking(|| thread.join().unwrap());
}

fn act(world: &Arc<World>, random: &mut Random) {
    while !world.stop.load(Relaxed) {
        match random.below(100) {
            0..20 => messages(random),
            20..35 => coins(world, random),
            35..45 => turns(random),
            45..65 => locks(world, random),
            65..72 => meetings(random),
            72..80 => cancellations(random),
            80..88 => ends(random),
            88..94 => others(random),
            94..97 => timers(random),
            97..99 => loads(random),
            _ => across(world, random),
        }
        world.ended.fetch_add(1, Relaxed);
    }
}

/// Others' locks: the loader's, and what the start of an OS thread needs.
fn loads(random: &mut Random) {
    // SAFETY: a library without initialisers of its own.
    let library = unsafe { libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW) };
    compute(random);
    if !library.is_null() {
        // SAFETY: just opened.
        unsafe { libc::dlclose(library) };
    }
    if random.below(4) == 0 {
        gvt::blocking(|| std::thread::spawn(|| ()).join().unwrap());
    }
}

#[rstest]
fn no_wake_up_is_lost(#[values(1, 2, 8)] workers: usize) {
    mix(GoQueue, workers);
}

#[rstest]
fn no_wake_up_is_lost_with_priorities(#[values(1, 2, 8)] workers: usize) {
    mix(PriorityQueue::default(), workers);
}

fn mix(queue: impl Factory<Output: ReadyQueue>, workers: usize) {
    let seconds = std::env::var("GVT_STRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let random = Random::from_environment("mixes");
    let slice = Duration::from_millis(1);
    let builder = Runtime::builder().workers(workers).queue(queue);
    let runtime = builder.time_slice(slice).grace_period(slice / 4).build().unwrap();
    let world = Arc::new(World {
        ended: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        total: Mutex::new((0, 0)),
        sched: SchedMutex::new(0),
        table: RwLock::new((0, 0)),
        permits: Semaphore::new(3),
        purses: (0..4).map(|_| channel::bounded(COINS)).collect(),
    });
    for coin in 0..COINS {
        world.purses[coin % 4].0.send(coin as u32).unwrap();
    }
    let actors: Vec<_> = (0..8 + 2 * workers as u64)
        .map(|actor| {
            let (world, mut random) = (world.clone(), random.part(actor));
            runtime.handle().spawn(move |_| act(&world, &mut random))
        })
        .collect();
    let (mut seen, mut since) = (0, Instant::now());
    let mut all_ended = false;
    while !all_ended {
        std::thread::sleep(Duration::from_millis(20));
        let now = world.ended.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > STUCK {
            eprintln!("nothing has moved for {STUCK:?}; GVT_SEED={}\n{}", random.seed(), runtime.dump());
            std::process::abort();
        }
        // On a loaded machine it takes longer until somebody is taken off by force.
        let is_preempted = runtime.counters().forced_preemptions > 0 || Instant::now() >= end + STUCK;
        if Instant::now() >= end && is_preempted {
            world.stop.store(true, Relaxed);
            all_ended = actors.iter().all(gvt::JoinHandle::is_finished);
        }
    }
    actors.into_iter().for_each(|actor| actor.join().unwrap());
    let coins: usize = world.purses.iter().map(|(sender, _)| sender.len()).sum();
    assert_eq!(coins, COINS, "no coin is lost");
    println!("{workers} workers: {seen} scenes; {}", runtime.counters());
    assert!(runtime.counters().forced_preemptions > 0);
}
