//! System calls that a sandbox denies: each leads to a fallback, or to an error of the build that says what
//! to do.
//!
//! Each call, with each answer that sandboxes give, in a process of its own, over each kind of timers. The
//! scenes need all that runtimes do: nothing may end the process, hang, or be lost.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use gvt::{Builder, GoQueue, HeapTimer, Runtime, channel, spawn, yield_now};
use gvt_conformance::process::{Call, Child, deny, deny_new_os_threads};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, TimerBackend};
use libc::*;

/// What becomes of a runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It works.
    Works,
    /// It works, but a stack that overflows ends the process without a name.
    WorksWithoutName,
    /// It is refused with these words.
    Refused(&'static str),
    /// Over a timerfd it is refused with these words, over others it works.
    RefusedOverTimerFd(&'static str),
}
use Fate::*;

const GUARD_INSTALL: i32 = 102;

/// A name; what is denied; and the fate with EPERM and with ENOSYS.
type Row = (&'static str, &'static [Call], [Fate; 2]);

const fn all(fate: Fate) -> [Fate; 2] {
    [fate, fate]
}

const SCHEDULING: &[Row] = &[
    ("membarrier", &[Call::any(SYS_membarrier)], all(Works)),
    ("sched_setscheduler", &[Call::any(SYS_sched_setscheduler)], all(Works)),
    ("sched_getscheduler", &[Call::any(SYS_sched_getscheduler)], all(Works)),
    ("sched_setattr", &[Call::any(SYS_sched_setattr)], all(Works)),
    ("sched_getattr", &[Call::any(SYS_sched_getattr)], all(Works)),
    ("sched_setaffinity", &[Call::any(SYS_sched_setaffinity)], all(Works)),
    ("sched_getaffinity", &[Call::any(SYS_sched_getaffinity)], all(Works)),
    ("sched_yield", &[Call::any(SYS_sched_yield)], all(Works)),
    ("getcpu", &[Call::any(SYS_getcpu)], all(Works)),
    ("prctl", &[Call::any(SYS_prctl)], all(Works)),
    ("openat", &[Call::any(SYS_openat), Call::any(SYS_open)], all(Works)),
];

const SIGNALS: &[Row] = &[
    ("rt_tgsigqueueinfo", &[Call::any(SYS_rt_tgsigqueueinfo)], all(Works)),
    // `abort` sends itself a signal by it.
    ("tgkill", &[Call::any(SYS_tgkill)], all(WorksWithoutName)),
    (
        "signals to threads",
        &[Call::any(SYS_rt_tgsigqueueinfo), Call::any(SYS_tgkill)],
        all(Refused("choose the preemptor `Cooperative`")),
    ),
    ("rt_sigaction", &[Call::any(SYS_rt_sigaction)], all(Refused("forbids `rt_sigaction`"))),
    ("sigaltstack", &[Call::any(SYS_sigaltstack)], all(WorksWithoutName)),
    ("timerfd_create", &[Call::any(SYS_timerfd_create)], all(RefusedOverTimerFd("`timerfd_create`"))),
    ("timerfd_settime", &[Call::any(SYS_timerfd_settime)], all(RefusedOverTimerFd("`timerfd_settime`"))),
    ("eventfd2", &[Call::any(SYS_eventfd2)], all(Refused("`eventfd2`"))),
    ("poll", &[Call::any(SYS_poll)], all(Works)),
    ("poll and ppoll", &[Call::any(SYS_poll), Call::any(SYS_ppoll)], all(Works)),
    ("futex_waitv", &[Call::any(SYS_futex_waitv)], all(Works)),
];

const MEMORY: &[Row] = &[
    ("clone3", &[Call::any(SYS_clone3)], [Refused("have `clone3` answer ENOSYS"), Works]),
    ("threads", &[Call::any(SYS_clone3), Call::any(SYS_clone)], all(Refused("cannot start an OS thread"))),
    ("process_madvise", &[Call::any(SYS_process_madvise)], all(Works)),
    (
        "guards by madvise",
        &[Call::with(SYS_madvise, 2, GUARD_INSTALL), Call::any(SYS_process_madvise)],
        all(Works),
    ),
    ("madvise", &[Call::any(SYS_madvise), Call::any(SYS_process_madvise)], all(Works)),
    (
        "guards",
        &[Call::any(SYS_madvise), Call::any(SYS_process_madvise), Call::any(SYS_mprotect)],
        all(Refused("a sandbox")),
    ),
    ("mprotect", &[Call::any(SYS_mprotect)], all(Refused("a sandbox"))),
    ("mincore", &[Call::any(SYS_mincore)], all(Works)),
    ("munmap", &[Call::any(SYS_munmap)], all(Works)),
    ("prlimit64", &[Call::any(SYS_prlimit64)], all(Works)),
];

/// What every runtime must do.
fn scenes<T: Factory<Output: TimerBackend>>(runtime: Runtime<GoQueue, T>) {
    let sum = runtime.block_on(|| {
        let handles: Vec<_> = (0..50).map(|n| spawn(move |_| n)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>()
    });
    assert_eq!(sum, 1225, "spawn and join");
    runtime.block_on(|| {
        let begin = Instant::now();
        gvt::sleep_ms(2);
        assert!(begin.elapsed() >= Duration::from_millis(2), "sleep");
        let (sender, receiver) = channel(0);
        let thread = spawn(move |_| (0..20).try_for_each(|n| sender.send(n)));
        assert_eq!(receiver.iter().count(), 20, "a channel");
        thread.join().unwrap().unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).ok(), None);
        assert_eq!(gvt::blocking(|| 7), 7, "blocking");
        gvt::future::block_on(gvt::future::sleep(Duration::from_millis(1)));
        assert!(
            gvt::timeout(Duration::from_millis(2), |token| token.cancelled().wait()).is_err(),
            "a deadline"
        );
    });
    // Forced preemption, on the only worker: the one that computes never lets go, the other makes it end.
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(|| {
        let seen = stop.clone();
        let computes = spawn(move |_| {
            while !seen.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        gvt::sleep_ms(1);
        stop.store(true, Relaxed);
        computes.join().unwrap();
    });
    // One blocks in the kernel until the other has run.
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    runtime.block_on(move || {
        let reads = spawn(move |_| reader.read(&mut [0]));
        yield_now();
        spawn(move |_| writer.write(&[1])).join().unwrap().unwrap();
        assert_eq!(reads.join().unwrap().unwrap(), 1, "a read");
    });
    let waits = runtime.handle().spawn(|_| {
        let (_sender, receiver) = channel::<()>(0);
        let _ = receiver.recv();
    });
    runtime.shutdown();
    assert!(waits.join().is_err(), "shutdown");
}

/// Says what becomes of a runtime over these timers.
fn tell<T: Factory<Output: TimerBackend>>(name: &str, timer: T) {
    match Runtime::builder().workers(1).timer(timer).build() {
        Ok(runtime) => {
            scenes(runtime);
            println!("{name} works");
        }
        Err(error) => println!("{name} refused {error}"),
    }
}

/// Runs each row of `table` with both answers in children of `test`.
fn each_row(test: &'static str, table: &[Row]) {
    const DENIED: &str = "GVT_DENIED";
    let child = |row: usize, answer: usize| {
        Child::of(test).env(DENIED, &format!("{row} {answer}")).run(|| {
            let given = std::env::var(DENIED).expect("the parent says which row");
            let (row, answer) = given.split_once(' ').expect("a row and an answer");
            let (row, answer): (usize, usize) = (row.parse().unwrap(), answer.parse().unwrap());
            // The harness has begun a line.
            println!();
            deny(table[row].1, [EPERM, ENOSYS][answer]);
            tell("heap", HeapTimer);
            tell("wheel", Wheel::default());
            tell("timerfd", TimerFd::over(HeapTimer));
            if let Ok(runtime) = Runtime::builder().workers(1).build() {
                runtime.block_on(|| drop(Builder::new().name("deep").spawn(|_| recurse(0)).unwrap().join()));
            }
        })
    };
    for (row, (name, _, fates)) in table.iter().enumerate() {
        for (answer, fate) in fates.iter().enumerate() {
            let ended = child(row, answer);
            let what = format!("{name}, answer {}: {ended}", ["EPERM", "ENOSYS"][answer]);
            for timers in ["heap", "wheel", "timerfd"] {
                let line = ended.stdout.lines().find_map(|line| line.strip_prefix(timers));
                let line = line.unwrap_or_else(|| panic!("no outcome over {timers}; {what}"));
                let refusal = match fate {
                    Refused(words) => Some(words),
                    RefusedOverTimerFd(words) if timers == "timerfd" => Some(words),
                    _ => None,
                };
                match refusal {
                    None => assert_eq!(line, " works", "{what}"),
                    Some(words) => {
                        assert!(line.starts_with(" refused ") && line.contains(words), "{what}");
                    }
                }
            }
            match fate {
                Works | RefusedOverTimerFd(_) => {
                    assert!(ended.stderr.contains("'deep' has overflowed its stack"), "{what}");
                    assert_eq!(ended.signal(), Some(SIGABRT), "{what}");
                }
                // Ended by the overflow all the same.
                WorksWithoutName => assert!(ended.signal().is_some(), "{what}"),
                Refused(_) => assert_eq!(ended.code(), Some(0), "{what}"),
            }
        }
    }
}

#[test]
fn calls_about_scheduling() {
    each_row("calls_about_scheduling", SCHEDULING);
}

#[test]
fn calls_about_signals_and_descriptors() {
    each_row("calls_about_signals_and_descriptors", SIGNALS);
}

#[test]
fn calls_about_memory_and_threads() {
    each_row("calls_about_memory_and_threads", MEMORY);
}

/// Deadlines of futures, which an OS thread of their own usually watches, when the OS gives no thread any
/// more.
#[test]
fn no_thread_for_the_deadlines_of_futures() {
    let ended = Child::of("no_thread_for_the_deadlines_of_futures").run(|| {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let full = Runtime::builder().workers(1).max_gvthreads(1).build().unwrap();
        runtime.block_on(|| gvt::sleep_ms(1));
        deny_new_os_threads();
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        let deadlines = || {
            const WAIT: Duration = Duration::from_millis(5);
            let begin = Instant::now();
            gvt::future::block_on(gvt::future::sleep(WAIT));
            assert!(begin.elapsed() >= WAIT, "sleep");
            let (_sender, receiver) = channel::<()>(0);
            let late = gvt::future::block_on(gvt::future::timeout(WAIT, receiver.recv_async()));
            assert_eq!(late, Err(gvt::TimedOut), "timeout");
            assert!(begin.elapsed() >= 2 * WAIT, "timeout");
            let after = gvt::channel::after(WAIT);
            assert!(gvt::future::block_on(after.recv_async()).is_ok_and(|instant| instant > begin), "after");
        };
        let tokens = || {
            const WAIT: Duration = Duration::from_millis(5);
            let token = gvt::current_token().unwrap();
            token.with_timeout(WAIT).cancelled().wait();
            gvt::future::block_on(token.with_timeout(WAIT).cancelled());
            gvt::select! { recv(token.with_timeout(WAIT).cancelled()) -> _ => {} }
        };
        // On an OS thread, on green threads, and on one beside which there is no room for another.
        deadlines();
        runtime.block_on(|| (deadlines(), tokens()));
        let late =
            runtime.block_on(|| gvt::timeout(Duration::from_millis(5), |token| token.cancelled().wait()));
        assert_eq!(late, Err(gvt::TimedOut));
        full.block_on(|| (deadlines(), tokens()));
        runtime.shutdown();
    });
    ended.succeeded();
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + std::hint::black_box(frame)[7]
}
