//! One clock: what waits with a limit ends in virtual time, alike in every run; and waiting until everything
//! has settled.

use std::array;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gvt::channel::{Select, after, at, bounded, broadcast, never, oneshot, tick, unbounded, watch};
use gvt::sync::{Condvar, Mutex, Semaphore};
use gvt::{CancelReason, CancellationToken, HeapTimer, NoPreempt, Runtime, TimedOut, future, select, spawn};
use gvt_conformance::process::{Watchdog, becomes};
use gvt_decorators::VirtualTime;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, TimerBackend};
use rstest::rstest;

const HOUR: Duration = Duration::from_secs(3600);

/// Runs `f` on one worker in virtual time.
fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let timer = VirtualTime(HeapTimer);
    Runtime::builder().workers(1).timer(timer).preemptor(NoPreempt).build().unwrap().block_on(f)
}

/// Whether `f` takes exactly `time` of the runtime's clock.
#[track_caller]
fn takes<R>(time: Duration, what: &str, f: impl FnOnce() -> R) -> R {
    let (instant, ns) = (gvt::now(), gvt::now_ns());
    let result = f();
    assert_eq!(Duration::from_nanos(gvt::now_ns() - ns), time, "{what}, in nanoseconds");
    assert_eq!(gvt::now() - instant, time, "{what}, as instants");
    result
}

#[test]
fn channels_have_the_runtimes_clock() {
    let _watchdog = Watchdog::new();
    run(|| {
        let (sender, receiver) = bounded::<u8>(1);
        takes(HOUR, "recv_timeout", || assert!(receiver.recv_timeout(HOUR).is_err()));
        takes(HOUR, "recv_deadline", || assert!(receiver.recv_deadline(gvt::now() + HOUR).is_err()));
        takes(HOUR, "never", || assert!(never::<u8>().recv_timeout(HOUR).is_err()));
        sender.send(1).unwrap();
        takes(HOUR, "send_timeout", || assert!(sender.send_timeout(2, HOUR).is_err()));
        takes(HOUR, "send_deadline", || assert!(sender.send_deadline(2, gvt::now() + HOUR).is_err()));
        receiver.recv().unwrap();
        takes(HOUR, "select!", || {
            select! {
                recv(receiver) -> _ => panic!("nobody sends"),
                default(HOUR) => {}
            }
        });
        takes(HOUR, "after in select!", || {
            select! {
                recv(receiver) -> _ => panic!("nobody sends"),
                recv(after(HOUR)) -> when => assert_eq!(when, Ok(gvt::now())),
                recv(after(2 * HOUR)) -> _ => panic!("later"),
            }
        });
        takes(HOUR, "Select", || {
            let mut select = Select::new();
            select.recv(&receiver);
            assert!(select.select_timeout(HOUR).is_err());
        });
        takes(HOUR, "Select::ready", || {
            let mut select = Select::new();
            select.recv(&receiver);
            assert!(select.ready_deadline(gvt::now() + HOUR).is_err());
        });
        takes(HOUR, "after", || after(HOUR).recv().unwrap());
        takes(HOUR, "at", || {
            let when = gvt::now() + HOUR;
            assert_eq!(at(when).recv(), Ok(when));
        });
        takes(2 * HOUR, "after, as a future", || {
            future::block_on(after(2 * HOUR).recv_async()).unwrap();
        });
        takes(5 * HOUR, "tick", || {
            let (begin, ticks) = (gvt::now(), tick(HOUR));
            (1..=5).for_each(|k| assert_eq!(ticks.recv(), Ok(begin + k * HOUR)));
        });
        takes(HOUR, "oneshot", || {
            let (_sender, mut receiver) = oneshot::channel::<u8>();
            assert!(receiver.recv_timeout(HOUR).is_err());
        });
        takes(HOUR, "watch", || {
            let (_sender, mut receiver) = watch::channel(1);
            assert_eq!(receiver.changed_timeout(HOUR), Ok(false));
        });
        takes(HOUR, "broadcast", || {
            let (_sender, mut receiver) = broadcast::channel::<u8>(1);
            assert!(receiver.recv_timeout(HOUR).is_err());
        });
    });
}

#[test]
fn primitives_and_threads_have_the_runtimes_clock() {
    let _watchdog = Watchdog::new();
    run(|| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        takes(HOUR, "wait_timeout", || {
            assert!(condvar.wait_timeout(mutex.lock().unwrap(), HOUR).unwrap().1.timed_out());
        });
        takes(HOUR, "wait_timeout_while", || {
            let waited = condvar.wait_timeout_while(mutex.lock().unwrap(), HOUR, |()| true);
            assert!(waited.unwrap().1.timed_out());
        });
        takes(HOUR, "semaphore", || assert!(Semaphore::new(0).acquire_timeout(1, HOUR).is_none()));
        takes(HOUR, "join_timeout", || {
            let thread = spawn(|_| gvt::sleep(3 * HOUR));
            drop(thread.join_timeout(HOUR).unwrap_err());
        });
        takes(HOUR, "join_deadline", || {
            let thread = spawn(|_| gvt::sleep(3 * HOUR));
            drop(thread.join_deadline(gvt::now() + HOUR).unwrap_err());
        });
        takes(HOUR, "sleep_until", || gvt::sleep_until(gvt::now() + HOUR));
        takes(Duration::ZERO, "sleep_until the past", || gvt::sleep_until(gvt::now() - HOUR));
        takes(4 * HOUR, "interval", || {
            let mut interval = gvt::interval(HOUR);
            let begin = interval.tick();
            (1..=4).for_each(|k| assert_eq!(interval.tick(), begin + k * HOUR));
        });
        takes(4 * HOUR, "interval, as futures", || {
            let mut interval = gvt::interval(HOUR);
            future::block_on(async {
                for _ in 0..=4 {
                    interval.tick_async().await;
                }
            });
        });
        let told = Arc::new(AtomicBool::new(false));
        takes(HOUR, "timeout", || {
            let told = told.clone();
            let late = gvt::timeout(HOUR, move |token| {
                token.cancelled().wait();
                told.store(token.reason() == Some(CancelReason::DeadlinePassed), SeqCst);
            });
            assert_eq!(late, Err(TimedOut));
        });
        takes(HOUR, "timeout_at, of one that is not told", || {
            assert_eq!(gvt::timeout_at(gvt::now() + HOUR, |_| gvt::sleep(3 * HOUR)), Err(TimedOut));
        });
        assert!(told.load(SeqCst), "the one that took too long was told");
    });
}

/// Polls a future as some other executor would, on a green thread.
fn foreign_block_on<F: Future>(future: F) -> F::Output {
    struct Tell(gvt::Sender<()>);
    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(());
        }
    }
    let (tell, told) = bounded(1);
    let waker = Waker::from(Arc::new(Tell(tell)));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        told.recv().unwrap();
    }
}

#[test]
fn futures_on_green_threads_have_the_runtimes_clock() {
    let _watchdog = Watchdog::new();
    run(|| {
        takes(HOUR, "future::sleep", || future::block_on(future::sleep(HOUR)));
        takes(HOUR, "future::sleep_until", || {
            future::block_on(future::sleep_until(gvt::now() + HOUR));
        });
        takes(HOUR, "future::timeout", || {
            assert_eq!(future::block_on(future::timeout(HOUR, std::future::pending::<()>())), Err(TimedOut));
        });
        takes(HOUR, "a foreign executor", || foreign_block_on(future::sleep(HOUR)));
        takes(HOUR, "one that is dropped", || {
            let long = future::timeout(HOUR, future::sleep(1000 * HOUR));
            assert_eq!(foreign_block_on(long), Err(TimedOut));
        });
    });
}

#[test]
fn tokens_have_the_runtimes_clock() {
    let _watchdog = Watchdog::new();
    run(|| {
        let token = || CancellationToken::new().with_timeout(HOUR);
        takes(HOUR, "wait", || token().cancelled().wait());
        takes(HOUR, "a grandchild's wait", || token().child().child().cancelled().wait());
        takes(HOUR, "wait_timeout", || {
            let cancelled = token().child().cancelled();
            assert!(!cancelled.wait_timeout(HOUR / 2));
            assert!(cancelled.wait_timeout(HOUR));
        });
        takes(HOUR, "in select!", || {
            let cancelled = token().cancelled();
            let (_sender, receiver) = bounded::<u8>(1);
            select! {
                recv(receiver) -> _ => panic!("nobody sends"),
                recv(cancelled) -> _ => {}
                default(2 * HOUR) => panic!("too late"),
            }
        });
        takes(HOUR, "as a future", || future::block_on(token().cancelled()));
        takes(HOUR, "received as a future", || {
            let cancelled = token().cancelled();
            assert!(future::block_on(cancelled.recv_async()).is_err());
        });
        takes(HOUR, "a receiver that outlives it", || {
            let receiver = (*token().cancelled()).clone();
            assert!(receiver.recv().is_err());
        });
        let late = token();
        takes(HOUR, "looking", || {
            assert!(!late.is_cancelled());
            gvt::sleep(HOUR);
            assert_eq!(late.check(), Err(CancelReason::DeadlinePassed));
        });
        let looked_at = token();
        assert_eq!(looked_at.deadline(), Some(gvt::now() + HOUR));
    });
}

/// A tick counts from when the last was due, whether it is received, tried or selected; missed ones are left
/// out.
#[test]
fn ticks_keep_to_their_schedule() {
    let _watchdog = Watchdog::new();
    run(|| {
        let (begin, ticks) = (gvt::now(), tick(HOUR));
        let at = |quarters: u32| begin + quarters * (HOUR / 4);
        gvt::sleep_until(at(5));
        assert_eq!(ticks.try_recv(), Ok(at(4)), "a quarter late");
        gvt::sleep_until(at(9));
        let selected = select! { recv(ticks) -> when => when };
        assert_eq!((selected, gvt::now()), (Ok(at(8)), at(9)), "a quarter late");
        let selected = select! { recv(ticks) -> when => when };
        assert_eq!((selected, gvt::now()), (Ok(at(12)), at(12)), "in time");
        gvt::sleep_until(at(19));
        assert_eq!(ticks.recv(), Ok(at(16)), "three quarters late");
        assert_eq!((ticks.recv(), gvt::now()), (Ok(at(20)), at(20)), "in time");
        gvt::sleep_until(at(33));
        assert_eq!(ticks.recv(), Ok(at(24)), "the first of three");
        assert!(ticks.try_recv().is_err(), "the others are left out");
        assert_eq!((ticks.recv(), gvt::now()), (Ok(at(37)), at(37)), "one period after it was taken");
    });
}

/// What a token was cancelled for does not depend on who has looked meanwhile.
#[rstest]
fn a_deadline_that_has_passed_is_the_reason(#[values(false, true)] looks: bool, #[values(0, 1)] depth: u32) {
    let _watchdog = Watchdog::new();
    run(|| {
        let parent = CancellationToken::new();
        let parent = if depth == 0 { parent } else { parent.with_timeout(2 * HOUR) };
        let token = parent.with_timeout(HOUR);
        gvt::sleep(HOUR);
        assert!(!looks || token.is_cancelled());
        token.cancel_because("too late to be the reason");
        token.cancel();
        assert_eq!(token.reason(), Some(CancelReason::DeadlinePassed));
        let early = parent.with_timeout(HOUR);
        early.cancel();
        gvt::sleep(HOUR);
        assert_eq!(early.reason(), Some(CancelReason::Requested));
    });
}

/// What happens when, as a number.
#[derive(Default)]
struct Trace(StdMutex<(u64, u64)>);

impl Trace {
    fn note(&self, who: u64, what: u64) {
        let mut trace = self.0.lock().unwrap();
        for value in [gvt::now_ns(), who, what] {
            // FNV-1a.
            trace.0 = (trace.0 ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
        trace.1 += 1;
    }
}

/// `threads` threads sleep, tick, select, wait for tokens and take time-outs, for a day. How it went, and how
/// many events it had.
fn day(threads: u64, timer: impl Factory<Output: TimerBackend>) -> (u64, u64) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let trace = Arc::new(Trace::default());
    let builder = Runtime::builder().workers(1).timer(VirtualTime(timer)).preemptor(NoPreempt);
    let runtime = builder.build().unwrap();
    let shared = trace.clone();
    runtime.block_on(move || {
        let begin = gvt::now();
        let group = gvt::current_token().unwrap().with_timeout(DAY);
        let (sender, receiver) = bounded::<u64>(8);
        let handles: Vec<_> = (0..threads)
            .map(|me| {
                let (trace, sender, receiver) = (shared.clone(), sender.clone(), receiver.clone());
                let builder = gvt::Builder::new().token(&group).stack_size(64 << 10);
                let thread = builder.spawn(move |token| {
                    let cancelled = token.cancelled();
                    // From half an hour to some ten hours, all different.
                    let period =
                        Duration::from_nanos(1_800_000_000_000 + me * 3_456_789_123 % 36_000_000_000_000);
                    let mut interval = gvt::interval(period);
                    let ticks = tick(period);
                    for round in 0.. {
                        if token.is_cancelled() {
                            break;
                        }
                        let what = match (me + round) % 8 {
                            0 => select! {
                                recv(receiver) -> from => from.unwrap(),
                                recv(ticks) -> _ => 1_000_001,
                                recv(cancelled) -> _ => 1_000_002,
                            },
                            1 => select! {
                                send(sender, me) -> _ => 1_000_003,
                                recv(cancelled) -> _ => 1_000_004,
                                default(period) => 1_000_005,
                            },
                            2 => u64::from(cancelled.wait_timeout(period)),
                            3 => {
                                gvt::sleep(period);
                                2
                            }
                            4 => {
                                interval.tick();
                                3
                            }
                            5 => u64::from(receiver.recv_timeout(period).is_ok()),
                            6 => u64::from(gvt::timeout(period, |token| token.cancelled().wait()).is_ok()),
                            _ => u64::from(
                                future::block_on(future::timeout(period, receiver.recv_async())).is_ok(),
                            ),
                        };
                        trace.note(me, what);
                    }
                    trace.note(me, 1_000_006);
                });
                thread.unwrap()
            })
            .collect();
        handles.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(gvt::now() - begin >= DAY);
    });
    let trace = trace.0.lock().unwrap();
    *trace
}

/// What each run has done is what all have done, to the nanosecond.
#[rstest]
#[case::heap(HeapTimer)]
#[case::wheel(Wheel::default())]
fn a_day_goes_alike_in_every_run(#[case] timer: impl Factory<Output: TimerBackend> + Clone) {
    let _watchdog = Watchdog::new();
    let first = day(300, timer.clone());
    assert!(first.1 > 300 * 8, "{first:?}");
    for _ in 0..3 {
        assert_eq!(day(300, timer.clone()), first);
    }
}

/// The same with the figures that are promised. In release: `cargo test --release … -- --ignored
/// --nocapture`.
#[test]
#[ignore = "takes long without optimisation"]
fn a_day_of_ten_thousand_timers() {
    let runs: Vec<_> = (0..10)
        .map(|_| {
            let begin = std::time::Instant::now();
            let trace = day(10_000, HeapTimer);
            println!("{trace:?} in {:?}", begin.elapsed());
            trace
        })
        .collect();
    assert!(runs.iter().all(|run| *run == runs[0]));
}

/// Time moves on only when no worker has anything to do.
#[test]
fn time_stands_still_while_a_worker_runs() {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(3).timer(VirtualTime(HeapTimer)).preemptor(NoPreempt);
    let runtime = builder.build().unwrap();
    for _ in 0..20 {
        let begin = runtime.block_on(|| {
            let begin = gvt::now_ns();
            let sleeper = spawn(|_| gvt::sleep(HOUR));
            // The others look for work, find none, and have nothing to do but to let time pass.
            let real = std::time::Instant::now();
            while real.elapsed() < Duration::from_millis(1) {
                gvt::yield_now();
                assert_eq!(gvt::now_ns(), begin);
            }
            sleeper.join().unwrap();
            begin
        });
        assert_eq!(runtime.block_on(gvt::now_ns) - begin, HOUR.as_nanos() as u64);
    }
}

/// Threads wait in all sorts of places; nobody moves once a settler comes back.
#[rstest]
fn settling_waits_for_all_others(#[values(1, 3)] workers: usize, #[values(false, true)] is_virtual: bool) {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(workers);
    let test = || {
        let moves = Arc::new(AtomicU64::new(0));
        let (sender, receiver) = bounded::<()>(0);
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let begin = gvt::now_ns();
        let threads: Vec<_> = (0..60)
            .map(|n| {
                let (moves, receiver, mutex) = (moves.clone(), receiver.clone(), mutex.clone());
                spawn(move |_| {
                    for _ in 0..n {
                        moves.fetch_add(1, SeqCst);
                        gvt::yield_now();
                    }
                    match n % 4 {
                        0 => receiver.recv().unwrap_or_default(),
                        1 => drop(mutex.lock()),
                        2 => gvt::sleep(HOUR),
                        _ => spawn(move |_| receiver.recv().unwrap_or_default()).join().unwrap(),
                    }
                    moves.fetch_add(1, SeqCst);
                })
            })
            .collect();
        gvt::settle();
        assert_eq!(moves.load(SeqCst), (0..60).sum::<u64>());
        gvt::settle();
        if is_virtual {
            assert_eq!(gvt::now_ns(), begin, "time stands still meanwhile");
        }
        drop(guard);
        gvt::settle();
        assert_eq!(moves.load(SeqCst), (0..60).sum::<u64>() + 15, "those at the mutex");
        drop(sender);
        gvt::settle();
        assert_eq!(moves.load(SeqCst), (0..60).sum::<u64>() + 45, "those at the channel");
        if is_virtual {
            assert_eq!(gvt::now_ns(), begin, "time stands still meanwhile");
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    };
    if is_virtual {
        builder.timer(VirtualTime(HeapTimer)).build().unwrap().block_on(test);
    } else {
        let runtime = builder.build().unwrap();
        runtime.block_on(test);
        // The sleepers are unwound.
        runtime.shutdown();
    }
}

#[rstest]
fn settlers_settle_together(#[values(1, 3)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(|| {
        for _ in 0..100 {
            let settlers: Vec<_> = (0..4).map(|_| spawn(|_| gvt::settle())).collect();
            gvt::settle();
            settlers.into_iter().for_each(|settler| settler.join().unwrap());
        }
    });
}

/// Many threads are looked at for longer than another is in the kernel: it comes back meanwhile, wakes a
/// thread that was seen to wait, and waits itself when it is looked at.
#[test]
fn settling_sees_all_threads_at_one_moment() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.block_on(|| {
        let moved = Arc::new(AtomicU64::new(0));
        let receive = |incoming: gvt::Receiver<()>| {
            let moved = moved.clone();
            spawn(move |_| {
                for () in incoming {
                    // Some time, in which whoever settles could look.
                    (0..20_000).for_each(|_| std::hint::spin_loop());
                    moved.fetch_add(1, SeqCst);
                }
            })
        };
        let go_away = |orders: gvt::Receiver<Duration>, sender: gvt::Sender<()>| {
            spawn(move |_| {
                for pause in orders {
                    gvt::blocking(|| std::thread::sleep(pause));
                    sender.send(()).unwrap();
                }
            })
        };
        let (pauses, incoming): ([_; 2], [_; 2]) =
            (array::from_fn(|_| unbounded()), array::from_fn(|_| unbounded()));
        let (
            [(early, early_orders), (late, late_orders)],
            [(to_late, late_incoming), (to_early, early_incoming)],
        ) = (pauses, incoming);
        let mut threads = vec![go_away(early_orders, to_late), receive(early_incoming)];
        let (end, never) = bounded::<()>(0);
        threads.extend((0..20_000).map(|_| {
            let never = never.clone();
            spawn(move |_| never.recv().unwrap_or_default())
        }));
        threads.extend([go_away(late_orders, to_early), receive(late_incoming)]);
        for round in 0..1_000 {
            let sender = if round % 2 == 0 { &early } else { &late };
            sender.send(Duration::from_micros(round / 2 % 50 * 10)).unwrap();
            gvt::settle();
            assert_eq!(moved.load(SeqCst), round + 1, "another thread was to run");
        }
        drop((early, late, end));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A thread that is away from all workers runs; one that waits at a primitive for an OS thread does not.
#[rstest]
fn settling_waits_for_those_in_the_kernel(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    let (settled, is_back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (from_outside, incoming) = unbounded::<()>();
    std::thread::scope(|scope| {
        let (settled, is_back, runtime) = (&settled, &is_back, &runtime);
        scope.spawn(move || {
            runtime.block_on(|| {
                let back = is_back.clone();
                let away = spawn(move |_| {
                    gvt::blocking(|| wait.recv().unwrap());
                    back.store(true, SeqCst);
                    incoming.recv().unwrap();
                });
                gvt::settle();
                settled.store(true, SeqCst);
                assert!(is_back.load(SeqCst), "it was waited for");
                away.join().unwrap();
            });
        });
        // Both have come to where they wait.
        assert!(becomes(|| runtime.counters().blocking_calls == 1));
        assert!(becomes(|| runtime
            .threads()
            .iter()
            .any(|thread| thread.reason == Some(gvt::WaitReason::Park))));
        assert!(!settled.load(SeqCst));
        go.send(()).unwrap();
        assert!(becomes(|| settled.load(SeqCst)));
        from_outside.send(()).unwrap();
    });
}

#[test]
fn settling_is_unwound_by_a_shutdown() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (_go, wait) = std::sync::mpsc::channel::<()>();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let handle = runtime.handle();
    let away = handle.spawn(move |_| gvt::blocking(|| _ = wait.recv()));
    let settler = handle.spawn(move |_| {
        let _stop = stop;
        gvt::settle();
    });
    assert!(becomes(|| runtime.threads().iter().any(|thread| thread.reason == Some(gvt::WaitReason::Park))));
    std::thread::scope(|scope| {
        scope.spawn(|| runtime.shutdown());
        assert!(stopped.recv().is_err(), "the settler was unwound");
        drop(_go);
    });
    assert!(settler.join().is_err());
    away.join().unwrap();
}

#[test]
#[should_panic(expected = "settle")]
fn settling_outside_a_runtime_is_refused() {
    gvt::settle();
}
