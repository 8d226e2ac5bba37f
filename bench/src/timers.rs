//! `timers`: what it costs to arm, cancel and expire timers, on the pattern of network timeouts, beside
//! tokio's timer, in one run.
//!
//! A million timers of 2 to 4 s are armed; nine in ten are cancelled in the order in which they were armed;
//! the rest expire. CPU time of the one thread at work, an operation; lateness of what expires. Backends of
//! ours are driven without a runtime: expire what is due, wait for the next deadline as an idle worker does.
//! Tokio's timers are `Sleep`s that lie in one slice, armed by their first poll, cancelled by being dropped,
//! and their runtime is a current-thread one.

use gvt::HeapTimer;
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{
    Factory, GvtId, IdleWait, Plan, TimerBackend, TimerEntry, TimerHandle, TimerType, WakeTicket, WorkerId,
};

const ARMED: usize = 1_000_000;
const LEFT: usize = ARMED / 10;
const SECOND: u64 = 1_000_000_000;
const ROUNDS: usize = 3;

/// ns an operation, and ns of lateness.
#[derive(Clone, Copy, Default)]
struct Figures {
    insert: f64,
    cancel: f64,
    expire: f64,
    late_p50: f64,
    late_p99: f64,
}

fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time of this OS thread for each of `operations`.
fn timed<T>(operations: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let begin = clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let value = work();
    ((clock(libc::CLOCK_THREAD_CPUTIME_ID) - begin) as f64 / operations as f64, value)
}

/// 2 to 4 s from now; the same sequence for everybody.
fn delays() -> impl Iterator<Item = u64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..ARMED).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        2 * SECOND + state % (2 * SECOND)
    })
}

fn with_lateness(mut figures: Figures, mut late: Vec<u64>) -> Figures {
    assert_eq!(late.len(), LEFT, "what was not cancelled expires, once");
    late.sort_unstable();
    figures.late_p50 = late[LEFT / 2] as f64;
    figures.late_p99 = late[LEFT * 99 / 100] as f64;
    figures
}

fn wait(timers: &impl TimerBackend) {
    match timers.idle_wait() {
        IdleWait::Until(deadline) => {
            let time = libc::timespec {
                tv_sec: (deadline / SECOND) as _,
                tv_nsec: (deadline % SECOND) as libc::c_long,
            };
            let clock = libc::CLOCK_MONOTONIC;
            // SAFETY: a valid time.
            unsafe { libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &time, std::ptr::null_mut()) };
        }
        IdleWait::Readable(fd) => {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid entry.
            unsafe { libc::poll(&mut poll, 1, 5_000) };
        }
        _ => {}
    }
}

fn ours<F: Factory<Output: TimerBackend>>(factory: F) -> Figures {
    let timers = factory.build(&Plan::new(1, ARMED)).expect("the plan can be built");
    let me = WorkerId::new(0);
    let begin = now();
    let delays: Vec<u64> = delays().collect();
    let arm = |(sequence, delay): (usize, &u64)| {
        timers.insert(TimerEntry {
            deadline_ns: begin + delay,
            ticket: WakeTicket { sequence: sequence as u64, id: GvtId::new(sequence as u32) },
            affinity: me,
            kind: TimerType::Deadline,
        })
    };
    let mut handles: Vec<TimerHandle> = Vec::with_capacity(ARMED);
    let (insert, ()) = timed(ARMED, || handles.extend(delays.iter().enumerate().map(arm)));
    let (cancel, cancelled) = timed(ARMED - LEFT, || {
        let chosen = handles.iter().enumerate().filter(|(n, _)| n % 10 != 0);
        chosen.filter(|&(_, &handle)| timers.cancel(handle).is_some()).count()
    });
    assert_eq!(cancelled, ARMED - LEFT, "nothing is due yet");
    let mut late = Vec::with_capacity(LEFT);
    let (expire, ()) = timed(LEFT, || {
        while !timers.is_empty() {
            wait(&timers);
            timers.expire(me, now(), &mut |entry| late.push(now() - entry.deadline_ns));
        }
    });
    with_lateness(Figures { insert, cancel, expire, ..Figures::default() }, late)
}

#[cfg(feature = "tokio")]
fn tokio() -> Figures {
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};
    use std::time::{Duration, Instant};

    use ::tokio::time::{Sleep, sleep_until};

    struct Note {
        deadline: Instant,
        late: Arc<Mutex<Vec<u64>>>,
    }
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.late.lock().expect("no panic").push(self.deadline.elapsed().as_nanos() as u64);
        }
    }
    fn poll(sleep: Pin<&mut Option<Sleep>>, waker: &Waker) {
        if let Some(sleep) = sleep.as_pin_mut() {
            assert!(sleep.poll(&mut Context::from_waker(waker)).is_pending(), "nothing is due yet");
        }
    }

    fn at(sleeps: &mut Pin<Box<[Option<Sleep>]>>, n: usize) -> Pin<&mut Option<Sleep>> {
        // SAFETY: the slice is pinned, and its elements are reached only so.
        unsafe { Pin::new_unchecked(&mut sleeps.as_mut().get_unchecked_mut()[n]) }
    }

    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _here = runtime.enter();
    let begin = Instant::now();
    let deadlines: Vec<Instant> = delays().map(|delay| begin + Duration::from_nanos(delay)).collect();
    let sleeps: Box<[Option<Sleep>]> =
        deadlines.iter().map(|&deadline| Some(sleep_until(deadline.into()))).collect();
    let mut sleeps = Box::into_pin(sleeps);
    let (insert, ()) = timed(ARMED, || (0..ARMED).for_each(|n| poll(at(&mut sleeps, n), Waker::noop())));
    let (cancel, ()) = timed(ARMED - LEFT, || {
        (0..ARMED).filter(|n| n % 10 != 0).for_each(|n| at(&mut sleeps, n).set(None));
    });
    let late = Arc::new(Mutex::new(Vec::with_capacity(LEFT)));
    for n in (0..ARMED).step_by(10) {
        let note = Note { deadline: deadlines[n], late: late.clone() };
        poll(at(&mut sleeps, n), &Waker::from(Arc::new(note)));
    }
    let end = begin + Duration::from_millis(4_100);
    let (expire, ()) = timed(LEFT, || runtime.block_on(sleep_until(end.into())));
    drop(sleeps);
    let late = std::mem::take(&mut *late.lock().expect("no panic"));
    with_lateness(Figures { insert, cancel, expire, ..Figures::default() }, late)
}

/// Runs all in turns and prints medians.
pub fn run() -> Result<(), String> {
    type Contender = (&'static str, fn() -> Figures);
    let contenders: &[Contender] = &[
        ("heap", || ours(HeapTimer)),
        ("wheel", || ours(Wheel::default())),
        ("timerfd over wheel", || ours(TimerFd::<Wheel>::default())),
        #[cfg(feature = "tokio")]
        ("tokio", tokio),
    ];
    let mut measured: Vec<Vec<Figures>> = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (of_one, (_, measure)) in measured.iter_mut().zip(contenders) {
            of_one.push(measure());
        }
    }
    println!("{ARMED} timers of 2 to 4 s, 90 % cancelled; medians of {ROUNDS} rounds in turns");
    println!(
        "{:20} {:>10} {:>10} {:>10} {:>14} {:>14}",
        "", "insert ns", "cancel ns", "expire ns", "late p50 µs", "late p99 µs"
    );
    for ((name, _), rounds) in contenders.iter().zip(&measured) {
        let median = |of: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        println!(
            "{name:20} {:>10.1} {:>10.1} {:>10.0} {:>14.1} {:>14.1}",
            median(|f| f.insert),
            median(|f| f.cancel),
            median(|f| f.expire),
            median(|f| f.late_p50) / 1e3,
            median(|f| f.late_p99) / 1e3,
        );
    }
    Ok(())
}
