//! Forced preemption goes on whatever a preempted thread holds, and comes back by itself whatever was refused
//! for a while.
//!
//! The allocator has one lock if a test wants that, as musl's has, and is slow for one size, so that the
//! preemption comes inside.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::{black_box, spin_loop};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Runtime, SchedulerConfig, spawn};
use gvt_conformance::process::{Child, stock_up_on_heap};
use rstest::rstest;

/// How the allocator's lock is waited for.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(u32)]
enum Lock {
    /// There is none but the system's own.
    None,
    Spins,
    Sleeps,
}

/// A [`Lock`]; set before there are threads.
static KIND: AtomicU32 = AtomicU32::new(Lock::None as u32);
static HELD: AtomicU32 = AtomicU32::new(0);
/// Allocations of so many bytes take long.
const SLOW: usize = 77_777;

fn with_lock<T>(f: impl FnOnce() -> T) -> T {
    let kind = KIND.load(Relaxed);
    if kind == Lock::None as u32 {
        return f();
    }
    while HELD.swap(1, Acquire) != 0 {
        if kind == Lock::Sleeps as u32 {
            let limit = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            // SAFETY: a valid word and a valid time.
            unsafe { libc::syscall(libc::SYS_futex, HELD.as_ptr(), libc::FUTEX_WAIT, 1, &raw const limit) };
        } else {
            spin_loop();
        }
    }
    let result = f();
    HELD.store(0, Release);
    if kind == Lock::Sleeps as u32 {
        // SAFETY: a valid word.
        unsafe { libc::syscall(libc::SYS_futex, HELD.as_ptr(), libc::FUTEX_WAKE, 1) };
    }
    result
}

struct OneLock;

// SAFETY: the system's, one call at a time.
unsafe impl GlobalAlloc for OneLock {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        with_lock(|| {
            if layout.size() == SLOW {
                compute(Duration::from_millis(60));
            }
            // SAFETY: the caller's promise, handed on.
            unsafe { System.alloc(layout) }
        })
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        with_lock(|| unsafe { System.dealloc(place, layout) });
    }
}

#[global_allocator]
static ALLOCATOR: OneLock = OneLock;

/// For so much CPU time.
fn compute(time: Duration) {
    let now = || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a valid place.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let begin = now();
    while now() - begin < time {
        (0..1_000).for_each(|i| _ = black_box(i));
    }
}

/// A worker waits inside the runtime for the allocator's lock, which a preempted thread holds.
#[rstest]
#[case::spins("a_lock_of_the_allocator::case_1_spins", Lock::Spins)]
#[case::sleeps("a_lock_of_the_allocator::case_2_sleeps", Lock::Sleeps)]
fn a_lock_of_the_allocator(#[case] name: &'static str, #[case] kind: Lock) {
    let ended = Child::of(name).run(|| {
        static DONE: AtomicBool = AtomicBool::new(false);
        KIND.store(kind as u32, Relaxed);
        let runtime = Runtime::builder().workers(1).max_gvthreads(1_000).build().unwrap();
        let handle = runtime.handle();
        // Some spare OS threads, so that the starter has nothing to do: it would be found to starve.
        let blocked: Vec<_> = (0..4)
            .map(|_| handle.spawn(|_| gvt::blocking(|| std::thread::sleep(Duration::from_millis(100)))))
            .collect();
        blocked.into_iter().for_each(|thread| thread.join().unwrap());
        while runtime.counters().spare_os_threads < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        handle.spawn(|_| {
            drop(black_box(Vec::<u8>::with_capacity(SLOW)));
            DONE.store(true, Release);
        });
        handle.spawn(|_| {
            // More than fits into the record: allocated in a section.
            let large = black_box([0_u8; 256]);
            spawn(move |_| black_box(large).len()).join().unwrap();
        });
        while !DONE.load(Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    ended.succeeded();
}

/// Threads that block beside threads that load a library: a worker is handed to an OS thread whose start
/// waits for the loader's lock, which a preempted thread holds.
#[rstest]
#[case::one("beside_the_loader::case_1_one", 1)]
#[case::two("beside_the_loader::case_2_two", 2)]
fn beside_the_loader(#[case] name: &'static str, #[case] workers: usize) {
    let ended = Child::of(name).run(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        let slice = Duration::from_millis(10 / workers.pow(3) as u64);
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(workers).time_slice(slice));
        let handle = runtime.handle();
        let mut threads = Vec::new();
        for _ in 0..20 {
            threads.push(handle.spawn(|_| {
                while !STOP.load(Relaxed) {
                    gvt::blocking(|| std::thread::sleep(Duration::from_millis(2)));
                }
            }));
        }
        for _ in 0..2 {
            threads.push(handle.spawn(|_| {
                while !STOP.load(Relaxed) {
                    load();
                }
            }));
        }
        let enough = |runtime: &Runtime| {
            let counters = runtime.counters();
            counters.forced_preemptions > 150 && counters.blocking_calls > 150
        };
        while !enough(&runtime) {
            std::thread::sleep(Duration::from_millis(5));
        }
        STOP.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    ended.succeeded();
}

/// Takes the loader's lock, for long, and gives it back.
fn load() {
    // SAFETY: a library without initialisers of its own.
    unsafe {
        let library = libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW);
        if !library.is_null() {
            libc::dlclose(library);
        }
    }
}

/// The kernel refuses new OS threads for a while: slices come back when it does not any more.
#[rstest]
#[case::one("no_os_threads_for_a_while::case_1_one", 1)]
#[case::two("no_os_threads_for_a_while::case_2_two", 2)]
fn no_os_threads_for_a_while(#[case] name: &'static str, #[case] workers: usize) {
    fn limit_address_space(bytes: Option<u64>) {
        // SAFETY: a valid structure.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_AS, &mut limit);
            limit.rlim_cur = bytes.unwrap_or(limit.rlim_max);
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        }
    }
    let ended = Child::of(name).run(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        stock_up_on_heap();
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(workers));
        let handle = runtime.handle();
        let turns: &'static [AtomicU64] =
            (0..workers * 3).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        // What they need of memory is there before it is refused.
        handle.spawn(|_| ()).join().unwrap();
        // Nor is an OS thread about to start, in which std would give up for want of memory.
        while runtime.counters().spare_os_threads == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        limit_address_space(Some(1));
        let threads: Vec<_> = turns
            .iter()
            .map(|turns| {
                handle.spawn(move |_| {
                    while !STOP.load(Relaxed) {
                        turns.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        // Somebody was not taken off for want of an OS thread.
        while runtime.counters().spares_exhausted < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        limit_address_space(None);
        let before = runtime.counters().forced_preemptions;
        while runtime.counters().forced_preemptions < before + 20
            || turns.iter().any(|turns| turns.load(Relaxed) == 0)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        STOP.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    ended.succeeded();
}

/// Threads that ask for figures take locks that the monitor and each OS thread want. What is inside the
/// runtime for long computes besides, so that it is taken off now and then.
#[rstest]
#[case::counters("figures::case_1_counters", |runtime: &Runtime| _ = runtime.counters())]
#[case::memory_use("figures::case_2_memory_use", |runtime: &Runtime| _ = runtime.memory_use())]
#[case::memory("figures::case_3_memory", |runtime: &Runtime| {
    _ = runtime.memory();
    compute(Duration::from_micros(200));
})]
#[case::trim("figures::case_4_trim", |runtime: &Runtime| {
    _ = runtime.trim();
    compute(Duration::from_micros(20));
})]
#[case::threads("figures::case_5_threads", |runtime: &Runtime| _ = runtime.threads())]
#[case::hook("figures::case_6_hook", |runtime: &Runtime| runtime.on_deadlock(|_| ()))]
fn figures(#[case] name: &'static str, #[case] ask: fn(&Runtime)) {
    let ended = Child::of(name).run(|| {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        static STOP: AtomicBool = AtomicBool::new(false);
        let runtime = RUNTIME.get_or_init(|| {
            let builder = Runtime::builder().workers(2).time_slice(Duration::from_millis(1));
            builder.grace_period(Duration::from_micros(100)).build().unwrap()
        });
        let threads: Vec<_> = (0..12)
            .map(|index| {
                runtime.handle().spawn(move |_| {
                    while !STOP.load(Relaxed) {
                        if index % 2 == 0 {
                            ask(RUNTIME.get().unwrap());
                        }
                    }
                })
            })
            .collect();
        // Each preemption may be in the middle of an answer.
        let begin = Instant::now();
        while runtime.counters().forced_preemptions < 500 || begin.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
        STOP.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    ended.succeeded();
}

/// From here on the kernel answers the calling process's `call` with `errno`.
fn deny(call: libc::c_long, errno: i32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let every_thread = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: the program is valid and copied by the kernel.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, every_thread, &raw const program)
    };
    assert_eq!(answer, 0, "the kernel takes filters");
}

/// Without `membarrier` a worker is taken all the same from a thread that blocks in the kernel.
#[rstest]
#[case::enosys("without_membarrier::case_1_enosys", libc::ENOSYS)]
#[case::eperm("without_membarrier::case_2_eperm", libc::EPERM)]
fn without_membarrier(#[case] name: &'static str, #[case] errno: i32) {
    let ended = Child::of(name).run(|| {
        deny(libc::SYS_membarrier, errno);
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(1));
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let [from, to] = ends;
        runtime.block_on(move || {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    spawn(move |_| {
                        let mut byte = 0_u8;
                        // SAFETY: a valid byte.
                        assert_eq!(unsafe { libc::read(from, (&raw mut byte).cast(), 1) }, 1);
                        // Inside the runtime again, and on a worker.
                        gvt::yield_now();
                        byte
                    })
                })
                .collect();
            gvt::sleep(Duration::from_millis(1));
            // Each has the worker's OS thread asleep in the kernel before this thread goes on.
            for byte in 1..=3_u8 {
                // SAFETY: a valid byte.
                assert_eq!(unsafe { libc::write(to, (&raw const byte).cast(), 1) }, 1);
            }
            let sum: u32 = readers.into_iter().map(|reader| u32::from(reader.join().unwrap())).sum();
            assert_eq!(sum, 6);
        });
        assert!(runtime.counters().workers_taken_from_blocked >= 1, "{}", runtime.counters());
    });
    ended.succeeded();
}

fn mask(how: i32) {
    // SAFETY: a set made here.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGURG);
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}

fn is_masked() -> bool {
    // SAFETY: a valid place; changes nothing.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
        libc::sigismember(&set, libc::SIGURG) == 1
    }
}

/// A thread that leaves the preemption signal blocked does not end preemption on its OS thread.
#[test]
fn a_blocked_signal_is_mended() {
    let ended = Child::of("a_blocked_signal_is_mended").run(|| {
        static GO: AtomicBool = AtomicBool::new(false);
        static SEEN: AtomicBool = AtomicBool::new(false);
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(1));
        runtime.block_on(|| {
            spawn(|_| mask(libc::SIG_BLOCK)).join().unwrap();
            // Computes on the OS thread that is deaf, and makes no decision until somebody else has had a
            // turn.
            let spinner = spawn(|_| {
                SEEN.store(is_masked(), Relaxed);
                while !GO.load(Relaxed) {
                    spin_loop();
                }
                gvt::yield_now();
                gvt::yield_now();
                is_masked()
            });
            gvt::yield_now();
            spawn(|_| GO.store(true, Relaxed)).join().unwrap();
            let still = spinner.join().unwrap();
            assert!(SEEN.load(Relaxed), "it began on the deaf OS thread");
            assert!(!still, "its OS thread hears again");
        });
    });
    ended.succeeded();
}
