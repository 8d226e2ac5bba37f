//! Threads that go on only on one OS thread: pinned ones, and reentrant ones that were taken off by a stack
//! switch; and the setting under which all others change OS threads at each turn.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Builder, JoinHandle, Migration, Runtime, Sigurg, spawn, yield_now};
use gvt_conformance::laws::preemptor::Width;
use gvt_conformance::process::{Child, Watchdog, becomes};
use rstest::rstest;

thread_local! {
    static LOCAL: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: Cell<u64> = const { Cell::new(0) };
}

/// The thread-local's place. Out of line, since the compiler takes the address for constant within a
/// function.
#[inline(never)]
fn scratch() -> *const Cell<u64> {
    SCRATCH.with(ptr::from_ref)
}

/// For threads that migrate: a use of the thread-local that is over before they do.
#[inline(never)]
fn nobody_is_in_the_borrow() {
    LOCAL.with(|local| assert!(local.borrow_mut().is_empty(), "a stranger at home"));
}

fn os_thread() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

fn hurried(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .time_slice(Duration::from_micros(200))
        .grace_period(Duration::from_micros(50))
        .timer_interval(Duration::from_micros(200))
        .preemptor(Sigurg)
        .build()
        .unwrap()
}

fn pinned<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().migration(Migration::Pinned).spawn(|_| f()).unwrap()
}

/// # Safety
///
/// That of `Builder::reentrant`.
unsafe fn reentrant<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: the caller's promise.
    unsafe { Builder::new().reentrant() }.spawn(|_| f()).unwrap()
}

fn spin(turns: u64) -> u64 {
    (0..turns).fold(black_box(1), |sum, i| black_box(sum.wrapping_mul(31).wrapping_add(i)))
}

/// A pinned thread has its OS thread for itself: it stays, and a borrow of a thread-local may last over any
/// wait.
#[rstest]
#[case(1)]
#[case(2)]
#[case(8)]
fn pinned_threads_own_their_os_thread(#[case] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = hurried(workers);
    runtime.block_on(|| {
        let mutex = Arc::new(gvt::SchedMutex::new(0u64));
        let each = |number: u64| {
            let mutex = mutex.clone();
            pinned(move || {
                let home = os_thread();
                // What the last one here has left.
                LOCAL.with(|local| local.borrow_mut().clear());
                for round in 0..30 {
                    LOCAL.with(|local| {
                        // A stranger on this OS thread would panic here, or find this.
                        let mut local = local.borrow_mut();
                        local.push(number);
                        match (number + round) % 6 {
                            0 => yield_now(),
                            1 => gvt::sleep_us(50),
                            2 => *mutex.lock() += 1,
                            3 => drop(black_box(spin(200_000))),
                            4 => spawn(move |_| spin(1000)).join().map(drop).unwrap(),
                            _ => gvt::blocking(|| std::thread::sleep(Duration::from_micros(50))),
                        }
                        assert_eq!(os_thread(), home, "a pinned thread was moved");
                        assert!(local.iter().all(|other| *other == number), "two threads used one OS thread");
                    });
                }
                LOCAL.with(|local| local.borrow_mut().clear());
            })
        };
        let handles: Vec<_> = (0..12).map(each).collect();
        let others: Vec<_> = (0..12)
            .map(|_| {
                spawn(|_| {
                    for _ in 0..100 {
                        nobody_is_in_the_borrow();
                        yield_now();
                        black_box(spin(2000));
                    }
                })
            })
            .collect();
        handles.into_iter().chain(others).for_each(|handle| handle.join().unwrap());
    });
}

/// The OS threads of pinned threads are used again, and the thread-locals of one are not the next one's
/// business.
#[test]
fn pinned_threads_end() {
    let _watchdog = Watchdog::new();
    let runtime = hurried(2);
    runtime.block_on(|| {
        for _ in 0..200 {
            pinned(|| gvt::sleep_us(1)).join().unwrap();
        }
    });
    assert!(runtime.os_threads() < 20, "{}", runtime.counters());
    // Unwound at the end, from a wait that nothing ends.
    let waited = Arc::new(AtomicBool::new(false));
    struct Notes(Arc<AtomicBool>, i32);
    impl Drop for Notes {
        fn drop(&mut self) {
            assert_eq!(os_thread(), self.1);
            self.0.store(true, SeqCst);
        }
    }
    let theirs = waited.clone();
    runtime.block_on(|| {
        pinned(move || {
            let _notes = Notes(theirs, os_thread());
            gvt::sleep(Duration::from_secs(3600));
        });
        gvt::sleep_ms(1);
    });
    runtime.shutdown();
    assert!(waited.load(SeqCst));
}

/// Panics of a pinned thread stay with it, also if a destructor waits.
#[test]
fn pinned_threads_panic() {
    struct Waits(i32);
    impl Drop for Waits {
        fn drop(&mut self) {
            gvt::sleep_us(200);
            assert!(std::thread::panicking());
            assert_eq!(os_thread(), self.0);
        }
    }
    let _watchdog = Watchdog::new();
    hurried(1).block_on(|| {
        for _ in 0..20 {
            let handle = pinned(|| {
                let home = os_thread();
                let caught = std::panic::catch_unwind(|| {
                    let _waits = Waits(home);
                    std::panic::resume_unwind(Box::new(1));
                });
                assert!(caught.is_err());
                gvt::sleep_us(10);
                assert_eq!(os_thread(), home, "it lost its home in the panic");
                std::panic::resume_unwind(Box::new(7i32));
            });
            yield_now();
            assert_eq!(handle.join().unwrap_err().downcast_ref::<i32>(), Some(&7));
            spawn(|_| assert!(!std::thread::panicking())).join().unwrap();
        }
    });
}

/// What a library with a thread-local scratch value gets wrong: it holds the value's place over a wait.
fn planted_bug() -> bool {
    let place = scratch();
    yield_now();
    // The place is the first OS thread's; whoever asks anew is told another one.
    ptr::eq(place, scratch())
}

/// The debug setting brings the bug out at the first yield, though nothing else runs; a pinned thread does
/// not have it.
#[rstest]
#[case(1)]
#[case(2)]
fn migrating_always_catches_a_planted_bug(#[case] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).migrate_always(true).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..20 {
            assert!(!planted_bug(), "the bug was not brought out");
            assert!(pinned(planted_bug).join().unwrap(), "a pinned thread was moved");
        }
        let before = os_thread();
        gvt::sleep_us(10);
        assert_ne!(os_thread(), before, "a wait did not move it");
        // Among others too.
        let handles: Vec<_> = (0..8)
            .map(|_| {
                spawn(|_| {
                    for _ in 0..20 {
                        let before = os_thread();
                        yield_now();
                        assert_ne!(os_thread(), before);
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// Reentrant spinners beside each other: taken off by switches only, and every register as it was.
#[rstest]
#[case(1)]
#[case(2)]
#[case(8)]
fn switches_keep_registers(#[case] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = hurried(workers);
    let release = Arc::new(AtomicU32::new(0));
    let clock = {
        let release = release.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            release.store(1, SeqCst);
        })
    };
    let width = Width::here();
    let changed: Vec<String> = runtime.block_on(|| {
        let spinners = (0..3 * workers).map(|_| {
            let release = release.clone();
            // SAFETY: `hold` uses its stack and registers only; what was captured is returned.
            unsafe { reentrant(move || (width.hold(&release), release)) }
        });
        let spinners: Vec<_> = spinners.collect();
        spinners.into_iter().flat_map(|handle| width.changed(&handle.join().unwrap().0)).collect()
    });
    clock.join().unwrap();
    let counters = runtime.counters();
    assert!(changed.is_empty(), "{changed:?}; {counters}");
    assert!(counters.fast_preemptions > 20, "{counters}");
    println!("{workers} workers: {counters}");
}

/// Reentrant threads compute right sums among threads that do everything else; nobody starves.
#[rstest]
#[case(1)]
#[case(2)]
#[case(8)]
fn switches_among_all_sorts(#[case] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = hurried(workers);
    let expected = spin(100_000);
    let stop = Arc::new(AtomicBool::new(false));
    let turns: Arc<[AtomicU64; 16]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    runtime.block_on(|| {
        let mut handles = Vec::new();
        for number in 0..16 {
            let (stop, turns) = (stop.clone(), turns.clone());
            let count = move || turns[number].fetch_add(1, Relaxed);
            let (stopped, again) = (stop.clone(), count.clone());
            let pure = move || {
                while !stopped.load(Relaxed) {
                    if spin(100_000) != expected {
                        std::process::abort();
                    }
                    again();
                }
            };
            handles.push(match number % 4 {
                // SAFETY: it computes, and counts in an atomic.
                0 | 1 => unsafe { reentrant(pure) },
                2 => spawn(move |_| {
                    while !stop.load(Relaxed) {
                        let strings: Vec<String> = (0..200).map(|i| format!("{i}")).collect();
                        assert_eq!(black_box(strings).len(), 200);
                        count();
                    }
                }),
                _ => spawn(move |_| {
                    while !stop.load(Relaxed) {
                        gvt::sleep_us(300);
                        count();
                    }
                }),
            });
        }
        gvt::sleep_ms(800);
        // Everybody has had a turn, or gets one.
        let begin = Instant::now();
        while turns.iter().any(|turns| turns.load(Relaxed) == 0) && begin.elapsed() < Duration::from_secs(60)
        {
            gvt::sleep_ms(1);
        }
        stop.store(true, SeqCst);
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    let counters = runtime.counters();
    for (number, turns) in turns.iter().enumerate() {
        assert!(turns.load(Relaxed) > 0, "thread {number} starved: {turns:?}; {counters}");
    }
    assert!(counters.fast_preemptions + counters.forced_preemptions > 20, "{counters}");
    println!("{workers} workers: {counters}");
}

/// Reentrant threads wait, yield and join between their computations.
#[test]
fn reentrant_threads_use_the_runtime() {
    let _watchdog = Watchdog::new();
    let runtime = hurried(2);
    let ended = Arc::new(AtomicUsize::new(0));
    runtime.block_on(|| {
        let mutex = Arc::new(gvt::SchedMutex::new(0u64));
        let handles: Vec<_> = (0..16u64)
            .map(|number| {
                let (mutex, ended) = (mutex.clone(), ended.clone());
                // SAFETY: it computes, and calls this crate; what it captured is returned.
                unsafe {
                    reentrant(move || {
                        for round in 0..40 {
                            black_box(spin(20_000));
                            match (number + round) % 3 {
                                0 => yield_now(),
                                1 => gvt::sleep_us(20),
                                _ => *mutex.lock() += 1,
                            }
                        }
                        ended.fetch_add(1, SeqCst);
                        (mutex, ended)
                    })
                }
            })
            .collect();
        handles.into_iter().for_each(|handle| drop(handle.join().unwrap()));
    });
    assert_eq!(ended.load(SeqCst), 16);
}

/// errno is a thread-local that every call leaves something in: a switch in between keeps it.
#[test]
fn switches_keep_errno() {
    let _watchdog = Watchdog::new();
    let runtime = hurried(1);
    let stop = Arc::new(AtomicBool::new(false));
    let changed = Arc::new(AtomicUsize::new(0));
    runtime.block_on(|| {
        let spinners: Vec<_> = (1..4)
            .map(|number| {
                let (stop, changed) = (stop.clone(), changed.clone());
                // SAFETY: it reads one word of its OS thread, to which it comes back.
                unsafe {
                    reentrant(move || {
                        let errno = libc::__errno_location();
                        errno.write_volatile(number);
                        while !stop.load(Relaxed) {
                            if errno.read_volatile() != number {
                                changed.fetch_add(1, Relaxed);
                                break;
                            }
                        }
                        (stop, changed)
                    })
                }
            })
            .collect();
        gvt::sleep_ms(100);
        stop.store(true, SeqCst);
        spinners.into_iter().for_each(|handle| drop(handle.join().unwrap()));
    });
    assert!(runtime.counters().fast_preemptions > 0);
    assert_eq!(changed.load(SeqCst), 0, "errno was changed");
}

/// What a thread may set of its OS thread: signal mask, name, where it may run.
#[derive(Clone, Copy, PartialEq, Debug)]
struct State {
    mask: u64,
    name: [u8; 16],
    processors: [u64; 16],
}

fn state() -> State {
    let mut state = State { mask: 0, name: [0; 16], processors: [0; 16] };
    // SAFETY: places as large as is said; nothing is changed.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
        state.mask = (&raw const set).cast::<u64>().read();
        libc::prctl(libc::PR_GET_NAME, state.name.as_mut_ptr());
        libc::sched_getaffinity(0, 128, state.processors.as_mut_ptr().cast());
    }
    state
}

/// All of it, for the worse: no signals, one processor.
fn taint() {
    // SAFETY: valid sets and a valid name.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"tainted".as_ptr());
        let mut processors: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut processors);
        libc::sched_setaffinity(0, size_of_val(&processors), &processors);
    }
}

/// What a pinned thread leaves behind on its OS thread, its thread-locals included, ends with it: other
/// threads find a clean state, whoever started their OS thread.
#[rstest]
#[case::one("what_a_pinned_thread_leaves_behind::case_1_one", 1)]
#[case::two("what_a_pinned_thread_leaves_behind::case_2_two", 2)]
fn what_a_pinned_thread_leaves_behind(#[case] name: &'static str, #[case] workers: usize) {
    struct Local;
    impl Drop for Local {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static TAINTED: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static BEHIND: Local = const { Local });
    const PINNED: usize = 24;
    let ended = Child::of(name).run(|| {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let clean = state();
        let look = move || {
            let here = state();
            // The preemption signal is never blocked.
            let mask = clean.mask & !(1 << (libc::SIGURG - 1));
            let is_clean = here.mask == mask && here.name.starts_with(b"gvt-");
            // Who has just been handed a worker is confined for a moment, and then not before it runs.
            TAINTED.fetch_add(usize::from(!is_clean || here.processors != clean.processors), SeqCst);
        };
        runtime.block_on(move || {
            for _ in 0..PINNED / 3 {
                let pinned = || Builder::new().migration(Migration::Pinned);
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        let tainted = pinned().spawn(|_| {
                            BEHIND.with(|_| taint());
                            gvt::sleep(Duration::from_millis(1));
                        });
                        tainted.unwrap()
                    })
                    .collect();
                let others: Vec<_> = (0..4)
                    .map(|i| {
                        spawn(move |_| {
                            look();
                            match i % 2 {
                                0 => gvt::blocking(|| std::thread::sleep(Duration::from_millis(1))),
                                _ => gvt::sleep(Duration::from_millis(1)),
                            }
                            look();
                        })
                    })
                    .collect();
                threads.into_iter().chain(others).for_each(|thread| thread.join().unwrap());
                spawn(move |_| look()).join().unwrap();
            }
        });
        assert_eq!(TAINTED.load(SeqCst), 0, "threads that were not pinned found what others had left");
        assert!(becomes(|| DROPPED.load(SeqCst) == PINNED), "their OS threads have ended: {DROPPED:?}");
    });
    ended.succeeded();
}
