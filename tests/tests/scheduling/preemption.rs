//! Forced preemption, blocking calls and locks, end to end: nobody hangs, nobody starves, nobody is disturbed
//! for nothing.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gvt::{Cooperative, NoPreempt, Runtime, SchedulerConfig, Sigurg, safepoint, spawn, yield_now};
use gvt_conformance::process::{Child, Watchdog};

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

fn compute(turns: u64) -> u64 {
    (0..turns).fold(black_box(1), |sum, i| black_box(sum.wrapping_mul(31).wrapping_add(i)))
}

/// Runs of the tests that look for hangs: 3, or 100 with `GVT_STRESS_SECONDS`.
fn runs() -> usize {
    if std::env::var_os("GVT_STRESS_SECONDS").is_some() { 100 } else { 3 }
}

/// 8 threads take one `std::sync::Mutex`, a million times in all, on 2 workers.
#[test]
fn a_std_mutex_among_many() {
    const TIMES: u64 = 125_000;
    for run in 0..runs() {
        let _watchdog = Watchdog::noting(format!("run {run}"));
        let count = Arc::new(Mutex::new(0u64));
        runtime(2).block_on(|| {
            let each = || {
                let count = count.clone();
                spawn(move |_| (0..TIMES).for_each(|_| *count.lock().unwrap() += 1))
            };
            let handles: Vec<_> = (0..8).map(|_| each()).collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        });
        assert_eq!(*count.lock().unwrap(), 8 * TIMES, "run {run}");
    }
}

/// A spinner that holds a `std::sync::Mutex` most of the time, and a sleeper that takes it, on 1 worker.
#[test]
fn a_std_mutex_between_spinner_and_sleeper() {
    for run in 0..runs() {
        let _watchdog = Watchdog::noting(format!("run {run}"));
        let (shared, stop) = (Arc::new(Mutex::new(0u64)), Arc::new(AtomicBool::new(false)));
        runtime(1).block_on(|| {
            let (theirs, stopped) = (shared.clone(), stop.clone());
            let spinner = spawn(move |_| {
                while !stopped.load(Relaxed) {
                    let mut guard = theirs.lock().unwrap();
                    *guard += compute(20_000) & 1;
                }
            });
            for _ in 0..20 {
                gvt::sleep_ms(1);
                *shared.lock().unwrap() += 1;
            }
            stop.store(true, Relaxed);
            spinner.join().unwrap();
        });
        assert!(*shared.lock().unwrap() >= 20, "run {run}");
    }
}

/// A thread is taken off while it holds a lock that each of hundreds of others wants, all of them queued
/// before it: it is let go on when the first of them waits for it, and not only when each has taken a worker
/// for a slice and an OS thread for good.
#[test]
fn a_preempted_lock_holder_is_not_waited_for_in_the_queue() {
    const OTHERS: usize = 600;
    for run in 0..runs() {
        let _watchdog = Watchdog::noting(format!("run {run}"));
        let slice = Duration::from_millis(1);
        let runtime = Arc::new(Runtime::builder().workers(1).time_slice(slice).build().unwrap());
        let count = Arc::new(Mutex::new(0));
        runtime.block_on(|| {
            let (theirs, runtime) = (count.clone(), runtime.clone());
            let holder = spawn(move |_| {
                let mut count = theirs.lock().unwrap();
                while runtime.counters().forced_preemptions == 0 {
                    compute(1_000);
                }
                *count += 1;
            });
            let other = |_| {
                let count = count.clone();
                spawn(move |_| *count.lock().unwrap() += 1)
            };
            let others: Vec<_> = (0..OTHERS).map(other).collect();
            holder.join().unwrap();
            others.into_iter().for_each(|other| other.join().unwrap());
        });
        assert_eq!(*count.lock().unwrap(), OTHERS + 1, "run {run}");
        let counters = runtime.counters();
        assert!(counters.workers_taken_from_blocked < OTHERS as u64 / 10, "run {run}: {counters}");
    }
}

/// 100 threads in `std::thread::sleep` on 2 workers: a ticker goes on beside them, and all come back.
#[test]
fn sleepers_in_the_kernel_hold_up_nobody() {
    let nap = Duration::from_millis(if runs() > 3 { 1000 } else { 300 });
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let begin = Instant::now();
    let ticks = runtime.block_on(|| {
        let left = Arc::new(AtomicUsize::new(100));
        let each = || {
            let left = left.clone();
            spawn(move |_| {
                std::thread::sleep(nap);
                left.fetch_sub(1, SeqCst);
            })
        };
        let sleepers: Vec<_> = (0..100).map(|_| each()).collect();
        let mut ticks = 0;
        while left.load(SeqCst) > 0 {
            gvt::sleep_ms(1);
            ticks += 1;
        }
        sleepers.into_iter().for_each(|handle| handle.join().unwrap());
        ticks
    });
    let counters = runtime.counters();
    println!("{:?} for 100 sleeps of {nap:?}, {ticks} ticks; {counters}", begin.elapsed());
    // In turns of two it would take 50 naps, and the ticker would tick between.
    assert!(begin.elapsed() < 25 * nap, "{counters}");
    assert!(ticks >= 10, "{ticks} ticks; {counters}");
    assert!(counters.workers_taken_from_blocked > 50 && counters.os_threads <= 2 + 4096, "{counters}");
}

/// CPU-bound threads share 2 workers, and none gets more than the others.
#[test]
fn computing_threads_share_fairly() {
    let (threads, span, tolerance) = if runs() > 3 {
        (1000, Duration::from_secs(10), 0.1)
    } else {
        // Too short for the tolerance of the long form; nobody may starve.
        (40, Duration::from_millis(1500), 0.0)
    };
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(2)
        .time_slice(Duration::from_micros(if threads == 1000 { 1000 } else { 500 }))
        .preemptor(Sigurg)
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let turns: Arc<Vec<AtomicU64>> = Arc::new((0..threads).map(|_| AtomicU64::new(0)).collect());
    runtime.block_on(|| {
        let each = |number: usize| {
            let (stop, turns) = (stop.clone(), turns.clone());
            spawn(move |_| {
                while !stop.load(Relaxed) {
                    black_box(compute(1000));
                    turns[number].fetch_add(1, Relaxed);
                }
            })
        };
        let handles: Vec<_> = (0..threads).map(each).collect();
        // By another clock: this thread would wait for its turn behind all of them.
        let clock = stop.clone();
        let clock = std::thread::spawn(move || {
            std::thread::sleep(span);
            clock.store(true, SeqCst);
        });
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        clock.join().unwrap();
    });
    let turns: Vec<u64> = turns.iter().map(|turns| turns.load(Relaxed)).collect();
    let mean = turns.iter().sum::<u64>() as f64 / turns.len() as f64;
    let (least, most) =
        (*turns.iter().min().unwrap() as f64 / mean, *turns.iter().max().unwrap() as f64 / mean);
    let counters = runtime.counters();
    println!("{threads} threads: {least:.3} to {most:.3} of the mean of {mean:.0} turns; {counters}");
    assert!(counters.os_threads <= 2 + 4096, "{counters}");
    assert!(least > 0.0, "a thread starved; {counters}");
    if threads == 1000 {
        // When every processor computes, the kernel lets one slice in a hundred last until its tick, four
        // times as long. That is made up for in the slices after it, which those that have it at the very end
        // do not get.
        let near = turns.iter().filter(|&&turns| (turns as f64 / mean - 1.0).abs() <= tolerance).count();
        println!("{near} of {threads} within {:.0} % of the mean", tolerance * 100.0);
        assert!(near * 100 >= threads * 90, "{near} of {threads} within {tolerance} of the mean; {counters}");
        assert!(least > 0.5 && most < 1.5, "{least:.3} to {most:.3} of the mean; {counters}");
    }
}

/// Threads that are passed from one OS thread to the next may run where the process may, whenever they look.
#[test]
fn preempted_threads_are_confined_to_no_processor() {
    fn allowed() -> Vec<u8> {
        let mut set = [0u8; 128];
        // SAFETY: a place of the size that is said.
        let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, set.len(), set.as_mut_ptr()) };
        assert!(got > 0, "{}", std::io::Error::last_os_error());
        set[..got as usize].to_vec()
    }
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(2)
        .time_slice(Duration::from_micros(300))
        .grace_period(Duration::from_micros(100))
        .build()
        .unwrap();
    let everywhere = allowed();
    runtime.block_on(|| {
        let each = || {
            let everywhere = everywhere.clone();
            spawn(move |_| {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(200) {
                    black_box(compute(1000));
                    assert_eq!(allowed(), everywhere);
                }
            })
        };
        let handles: Vec<_> = (0..8).map(|_| each()).collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    assert!(runtime.counters().forced_preemptions > 20, "{}", runtime.counters());
}

/// A thread that computes alone is not interrupted.
#[test]
fn nobody_waits_nobody_is_interrupted() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    runtime.block_on(|| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            black_box(compute(10_000));
        }
    });
    let counters = runtime.counters();
    assert_eq!((counters.forced_preemptions, counters.fast_preemptions), (0, 0), "{counters}");
}

/// At the bound on OS threads nobody is forced, blocking calls block, and all come to their end.
#[test]
fn at_the_bound_on_os_threads() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(2)
        .max_os_threads(2)
        .time_slice(Duration::from_micros(200))
        .preemptor(Sigurg)
        .build()
        .unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    runtime.block_on(|| {
        let mut handles = Vec::new();
        for number in 0..12u64 {
            let ended = ended.clone();
            let job = move || {
                for _ in 0..20 {
                    match number % 4 {
                        0 => gvt::blocking(|| std::thread::sleep(Duration::from_micros(100))),
                        1 => std::thread::sleep(Duration::from_micros(500)),
                        2 => drop(black_box(compute(300_000))),
                        _ => {
                            for _ in 0..300 {
                                black_box(compute(1000));
                                safepoint!();
                            }
                        }
                    }
                    gvt::sleep_us(50);
                }
                ended.fetch_add(1, SeqCst);
            };
            let builder = gvt::Builder::new();
            let builder = if number > 8 { builder.migration(gvt::Migration::Pinned) } else { builder };
            handles.push(builder.spawn(move |_| job()).unwrap());
        }
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    assert_eq!(ended.load(SeqCst), 12);
    let counters = runtime.counters();
    assert_eq!(counters.os_threads, 2, "{counters}");
    assert_eq!((counters.forced_preemptions, counters.workers_taken_from_blocked), (0, 0), "{counters}");
    let refused =
        Runtime::try_new(SchedulerConfig::default().num_workers(4).max_os_threads(3)).err().unwrap();
    assert!(
        refused.to_string().contains("max_os_threads") || format!("{refused:?}").contains("max_os_threads")
    );
}

/// A runtime that is built where SIGURG is blocked interrupts its threads all the same.
#[test]
fn a_blocked_signal_is_not_inherited() {
    let _watchdog = Watchdog::new();
    let built = std::thread::spawn(|| {
        // SAFETY: a set made here; this OS thread's own mask.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
        runtime(1)
    });
    let runtime = built.join().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(|| {
        let stopped = stop.clone();
        let spinner = spawn(move |_| while !stopped.load(Relaxed) {});
        gvt::sleep_ms(5);
        stop.store(true, Relaxed);
        spinner.join().unwrap();
    });
    assert!(runtime.counters().forced_preemptions > 0);
}

/// Handlers that were there before get signals that are not ours, while threads are preempted; and errno is
/// kept.
#[test]
fn errno_and_foreign_signals() {
    static FOREIGN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn foreign(_: i32) {
        FOREIGN.fetch_add(1, SeqCst);
    }
    Child::of("errno_and_foreign_signals")
        .run(|| {
            // SAFETY: a signal-safe handler.
            unsafe { libc::signal(libc::SIGURG, foreign as *const () as usize) };
            let runtime = runtime(1);
            let stop = Arc::new(AtomicBool::new(false));
            runtime.block_on(|| {
                let stopped = stop.clone();
                let spinner = spawn(move |_| {
                    // SAFETY: this OS thread's own; the thread neither yields nor waits, so it stays.
                    unsafe {
                        let errno = libc::__errno_location();
                        errno.write_volatile(77);
                        while !stopped.load(Relaxed) {
                            assert_eq!(errno.read_volatile(), 77);
                        }
                    }
                });
                for _ in 0..20 {
                    gvt::sleep_ms(1);
                    // SAFETY: no preconditions.
                    unsafe { libc::kill(libc::getpid(), libc::SIGURG) };
                }
                stop.store(true, Relaxed);
                spinner.join().unwrap();
            });
            assert!(runtime.counters().forced_preemptions > 0);
            drop(runtime);
            assert!(FOREIGN.load(SeqCst) > 0, "foreign signals were swallowed");
        })
        .succeeded();
}

/// The monitor tells by a counter, modulo 64, whether a worker has gone on. Here each round is 64 decisions,
/// so it looks as if the spinner had never left: it must be asked all the same, each time.
#[test]
fn a_spinner_is_asked_whatever_the_counter_says() {
    const ROUND: u64 = 64;
    let _watchdog = Watchdog::new();
    let blink = Duration::from_micros(100);
    let builder =
        Runtime::builder().workers(1).preemptor(Cooperative).time_slice(blink).timer_interval(blink);
    let runtime = builder.build().unwrap();
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    runtime.block_on(|| {
        gvt::scope(|scope| {
            scope.spawn(|_| {
                while !stop.load(Relaxed) {
                    safepoint!();
                }
            });
            for _ in 1..ROUND {
                scope.spawn(|_| {
                    while !stop.load(Relaxed) {
                        if turns.fetch_add(1, Relaxed) == 100 * ROUND {
                            stop.store(true, Relaxed);
                        }
                        yield_now();
                    }
                });
            }
        });
    });
    assert!(runtime.counters().asked_to_yield >= 50, "{}", runtime.counters());
}

/// The weaker preemptors force nobody.
#[test]
fn weaker_preemptors() {
    fn run<P: gvt_traits::Factory<Output: gvt_traits::Preemptor>>(preemptor: P) -> gvt::RuntimeCounters {
        let runtime = Runtime::builder()
            .workers(1)
            .time_slice(Duration::from_micros(200))
            .preemptor(preemptor)
            .build()
            .unwrap();
        runtime.block_on(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            let citizen = spawn(move |_| {
                let begin = Instant::now();
                while !stopped.load(Relaxed) && begin.elapsed() < Duration::from_millis(200) {
                    safepoint!();
                }
            });
            gvt::sleep_ms(2);
            stop.store(true, Relaxed);
            citizen.join().unwrap();
        });
        runtime.counters()
    }
    let _watchdog = Watchdog::new();
    let (cooperative, none) = (run(Cooperative), run(NoPreempt));
    assert_eq!((cooperative.forced_preemptions, none.forced_preemptions), (0, 0));
    assert!(cooperative.asked_to_yield > 0, "{cooperative}");
    assert_eq!(none.asked_to_yield, 0, "{none}");
}

/// OS threads that were needed once end when they have been idle for long; the runtime goes on.
#[test]
#[ignore = "takes more than ten seconds"]
fn idle_spares_are_reaped() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(1);
    let many = runtime.block_on(|| {
        let blocked = || spawn(|_| gvt::blocking(|| std::thread::sleep(Duration::from_millis(200))));
        let handles: Vec<_> = (0..20).map(|_| blocked()).collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        runtime.os_threads()
    });
    assert!(many >= 20);
    std::thread::sleep(Duration::from_secs(12));
    assert!(runtime.os_threads() <= 4, "{} of {many} are left", runtime.os_threads());
    assert_eq!(runtime.block_on(|| spawn(|_| 7).join().unwrap()), 7);
}

/// On a processor that others keep busy, threads that compute for a moment between two yields are not taken
/// off by force: slices are CPU time.
#[test]
fn a_busy_processor_is_not_held_against_threads() {
    let ended = Child::of("a_busy_processor_is_not_held_against_threads").run(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        // SAFETY: a valid set, of one processor that this process may use.
        unsafe {
            let mut processors: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut processors);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&processors), &processors), 0);
        }
        let runtime = runtime(1);
        let busy = || {
            while !STOP.load(Relaxed) {
                compute(1_000);
            }
        };
        let others: Vec<_> = (0..8).map(|_| std::thread::spawn(busy)).collect();
        static TURNS: AtomicU64 = AtomicU64::new(0);
        runtime.block_on(|| {
            let each = |_: &gvt::CancellationToken| {
                while TURNS.fetch_add(1, Relaxed) < 20_000 {
                    compute(1_000);
                    yield_now();
                }
            };
            let threads: Vec<_> = (0..500).map(|_| spawn(each)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        STOP.store(true, Relaxed);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        let counters = runtime.counters();
        // One for a look that finds the OS thread asleep for a page.
        assert!(counters.forced_preemptions <= 1, "{counters}");
    });
    ended.succeeded();
}

/// The monitor looks as often as slices need, however long the interval for timers.
#[test]
fn a_long_interval_for_timers_does_not_lengthen_slices() {
    let ended = Child::of("a_long_interval_for_timers_does_not_lengthen_slices").run(|| {
        let config = SchedulerConfig::default().num_workers(1).timer_interval(Duration::from_secs(3_600));
        let runtime = Runtime::new(config.time_slice(Duration::from_millis(5)));
        let turns: Arc<[AtomicU64; 3]> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let each = |i: usize| {
            let (turns, stop) = (turns.clone(), stop.clone());
            runtime.handle().spawn(move |_| {
                while !stop.load(Relaxed) {
                    turns[i].fetch_add(1, Relaxed);
                }
            })
        };
        let threads: Vec<_> = (0..3).map(each).collect();
        while turns.iter().any(|turns| turns.load(Relaxed) == 0) {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    ended.succeeded();
}

/// Whichever call a thread loops over without ever having to wait: under `Cooperative` it gives way to one
/// whose sleep is over.
#[test]
fn every_call_gives_way() {
    use gvt::channel::{Receiver, bounded, broadcast, never, oneshot, unbounded, watch};
    use gvt::sync::{Condvar, Mutex, RwLock, SchedMutex, Semaphore};
    fn check(name: &str, mut call: impl FnMut() + Send) {
        let _watchdog = Watchdog::noting(name.to_owned());
        let runtime = Runtime::builder().workers(1).preemptor(Cooperative).build().unwrap();
        runtime.block_on(|| {
            let flag = Arc::new(AtomicBool::new(false));
            let set = flag.clone();
            spawn(move |_| {
                gvt::sleep_ms(1);
                set.store(true, SeqCst);
            });
            yield_now();
            while !flag.load(SeqCst) {
                call();
            }
        });
    }
    let (sender, receiver) = bounded::<u32>(4);
    let (unbounded_sender, unbounded_receiver) = unbounded::<u32>();
    let nothing: Receiver<u32> = never();
    check("send and recv", || {
        sender.send(1).unwrap();
        receiver.recv().unwrap();
    });
    check("try_send", || _ = unbounded_sender.try_send(1));
    check("try_recv", || _ = receiver.try_recv());
    check("is_empty", || _ = unbounded_receiver.is_empty());
    check("recv_timeout", || _ = receiver.recv_timeout(Duration::ZERO));
    check("select with default", || gvt::select! { recv(nothing) -> _ => {}, default => {} });
    check("select of what is ready", || {
        gvt::select! { send(unbounded_sender, 1) -> _ => _ = unbounded_receiver.recv(), recv(nothing) -> _ => {} }
    });
    let (mutex, rwlock, sched) = (Mutex::new(0), RwLock::new(0), SchedMutex::new(0));
    check("Mutex::lock", || *mutex.lock().unwrap() += 1);
    check("Mutex::try_lock", || *mutex.try_lock().unwrap() += 1);
    check("RwLock::read", || _ = *rwlock.read().unwrap());
    check("RwLock::write", || *rwlock.write().unwrap() += 1);
    check("RwLock::try_write", || *rwlock.try_write().unwrap() += 1);
    check("SchedMutex", || *sched.lock() += 1);
    let (semaphore, condvar) = (Semaphore::new(1), Condvar::new());
    check("Semaphore::acquire", || drop(semaphore.acquire()));
    check("Semaphore::try_acquire", || drop(semaphore.try_acquire()));
    check("Condvar::notify_one", || condvar.notify_one());
    let (level, watched) = watch::channel(0);
    check("watch, sending", || level.send(1).unwrap());
    check("watch, borrowing", || _ = *watched.borrow());
    check("watch, looking", || _ = watched.has_changed());
    let (all, mut each) = broadcast::channel(1);
    check("broadcast, sending", || _ = all.send(1));
    check("broadcast, trying", || _ = each.try_recv());
    let (_once, mut once) = oneshot::channel::<()>();
    check("oneshot, trying", || _ = once.try_recv());
    check("spawn", || drop(spawn(|_| ())));
    check("spawn and join", || spawn(|_| ()).join().unwrap());
    let mut token = None;
    check("is_cancelled", || _ = token.get_or_insert_with(|| gvt::current_token().unwrap()).is_cancelled());
    let mut handle = None;
    check("is_finished", || _ = handle.get_or_insert_with(|| spawn(|_| ())).is_finished());
    check("now_ns", || _ = gvt::now_ns());
    check("blocking", || gvt::blocking(|| ()));
}
