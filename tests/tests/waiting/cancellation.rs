//! Waiting for a cancellation, deadlines, reasons, timeouts.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gvt::future::block_on;
use gvt::{Builder, CancelReason, CancellationToken, Runtime, SchedulerConfig, TimedOut};
use rstest::rstest;

/// Against a hang only.
const LONG: Duration = Duration::from_secs(60);

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits in one of five ways; whether the cancellation came.
fn wait(token: &CancellationToken, way: usize) -> bool {
    let cancelled = token.cancelled();
    match way {
        0 => cancelled.wait(),
        1 => assert!(cancelled.wait_timeout(LONG)),
        2 => block_on(cancelled),
        3 => {
            let (_sender, receiver) = gvt::channel::bounded::<()>(0);
            gvt::select! {
                recv(receiver) -> _ => unreachable!("nobody sends"),
                recv(token.cancelled()) -> message => assert!(message.is_err()),
            }
        }
        _ => assert!(cancelled.recv().is_err()),
    }
    token.is_cancelled()
}

/// Waiters of a leaf, on green and OS threads, in all ways; an ancestor is cancelled.
#[rstest]
fn every_way_of_waiting_ends(#[values(1, 2, 8)] workers: usize, #[values(0, 1, 2)] ancestor: usize) {
    let runtime = runtime(workers);
    let root = CancellationToken::new();
    let line = [root.clone(), root.child(), root.child().child()];
    let leaf = match ancestor {
        2 => line[2].child(),
        // Under both of the first two.
        _ => line[1].child().child(),
    };
    let waiting = Arc::new(AtomicUsize::new(0));
    let ended = gvt::channel::unbounded();
    for way in 0..5 {
        let (token, begun, sender) = (leaf.clone(), waiting.clone(), ended.0.clone());
        runtime.handle().spawn(move |_| {
            begun.fetch_add(1, Relaxed);
            sender.send(wait(&token, way))
        });
        let (token, begun, sender) = (leaf.clone(), waiting.clone(), ended.0.clone());
        std::thread::spawn(move || {
            begun.fetch_add(1, Relaxed);
            sender.send(wait(&token, way))
        });
    }
    while waiting.load(Relaxed) < 10 {
        std::thread::yield_now();
    }
    std::thread::sleep(ms(2));
    assert!(ended.1.is_empty(), "not cancelled yet");
    let cancelled = match ancestor {
        0 => &line[0],
        1 => &line[1],
        _ => &line[2],
    };
    cancelled.cancel();
    for _ in 0..10 {
        assert_eq!(ended.1.recv_timeout(LONG), Ok(true));
    }
}

/// Waiters that begin while the token is being cancelled.
#[rstest]
fn no_cancellation_is_missed(#[values(1, 2, 8)] workers: usize) {
    let runtime = runtime(workers);
    for round in 0..200 {
        let token = CancellationToken::new();
        let waiters: Vec<_> = (0..4)
            .map(|way| {
                let token = token.child();
                runtime.handle().spawn(move |_| assert!(wait(&token, way)))
            })
            .collect();
        for _ in 0..round % 7 {
            std::thread::yield_now();
        }
        token.cancel();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }
}

/// A thread's descendants wait for its token, and for the runtime's.
#[test]
fn threads_wait_for_their_ancestors() {
    let runtime = runtime(2);
    let (sender, deepest) = gvt::channel::bounded(1);
    let top = runtime.handle().spawn(move |_| {
        let child = gvt::spawn(move |_| {
            let grandchild = gvt::spawn(|token| {
                token.cancelled().wait();
                token.reason()
            });
            sender.send(()).unwrap();
            grandchild.join().unwrap()
        });
        child.join().unwrap()
    });
    deepest.recv().unwrap();
    top.token().cancel_because("enough");
    assert_eq!(top.join().unwrap(), Some(CancelReason::Because("enough".into())));
    let waits = runtime.handle().spawn(|token| {
        token.cancelled().wait();
        token.reason()
    });
    std::thread::sleep(ms(2));
    runtime.shutdown();
    // Told, or unwound from the wait.
    if let Ok(reason) = waits.join() {
        assert_eq!(reason, Some(CancelReason::ShutDown));
    }
}

#[test]
fn deadlines_cancel() {
    let parent = CancellationToken::new();
    let soon = parent.with_timeout(ms(3));
    let child = soon.child();
    let later = soon.with_timeout(LONG);
    assert_eq!(later.deadline(), soon.deadline(), "the earliest counts");
    assert_eq!((parent.deadline(), parent.with_timeout(Duration::MAX).deadline()), (None, None));
    let begin = Instant::now();
    child.cancelled().wait();
    assert!(begin.elapsed() + ms(1) >= ms(3), "not before its time");
    for token in [&soon, &child, &later] {
        assert_eq!(token.reason(), Some(CancelReason::DeadlinePassed));
        assert_eq!(token.check(), Err(CancelReason::DeadlinePassed));
    }
    assert!(!parent.is_cancelled());
    // One that nobody waits for.
    let quiet = parent.with_deadline(Instant::now() - ms(1));
    assert!(quiet.is_cancelled());
    block_on(quiet.cancelled());
    // Explicitly, before.
    let token = parent.with_timeout(LONG);
    token.cancel();
    assert_eq!(token.reason(), Some(CancelReason::Requested));
}

#[test]
fn the_nearest_reason_counts() {
    let root = CancellationToken::new();
    let child = root.child();
    child.cancel_because("one");
    child.cancel_because("two");
    root.cancel_because("three");
    assert_eq!(child.reason(), Some(CancelReason::Because("one".into())));
    assert_eq!(root.reason().unwrap().to_string(), "cancelled: three");
    assert_eq!(root.child().reason(), root.reason());
}

/// Children of a cancelled thread that has ended keep its reason though its record is passed over.
#[test]
fn a_reason_outlives_its_thread() {
    runtime(2).block_on(|| {
        let (sender, receiver) = gvt::channel(1);
        let (go, wait) = gvt::channel::<()>(0);
        let parent = gvt::spawn(move |_| {
            gvt::spawn(move |_| {
                let _ = wait.recv();
                let chain = gvt::spawn(|token| token.reason());
                sender.send(chain.join().unwrap()).unwrap();
            });
        });
        parent.token().cancel_because("its words");
        parent.join().unwrap();
        drop(go);
        assert_eq!(receiver.recv(), Ok(Some(CancelReason::Because("its words".into()))));
    });
}

/// A thread spawned under a token is its child, and hands it down.
#[test]
fn a_thread_may_have_another_parent() {
    runtime(2).block_on(|| {
        for from in 0..3 {
            let own = gvt::spawn(move |token| {
                // A child of the spawner's too, but for the last.
                let group = if from < 2 { token.child() } else { CancellationToken::new() };
                let thread = Builder::new().name("child").token(&group).spawn(|_| {
                    let grandchild = gvt::spawn(|token| {
                        token.cancelled().wait();
                        token.is_cancelled() && gvt::current_token().unwrap().is_cancelled()
                    });
                    grandchild.join().unwrap()
                });
                let thread = thread.unwrap();
                gvt::sleep_ms(1);
                match from {
                    0 => group.cancel(),
                    1 => token.cancel(),
                    _ => {
                        token.cancel();
                        assert!(!thread.token().is_cancelled());
                        thread.token().cancel();
                    }
                }
                thread.join().unwrap()
            });
            assert!(own.join().unwrap());
        }
    });
    // The runtime's shutdown reaches it.
    let runtime = runtime(2);
    let group = CancellationToken::new();
    let thread = runtime.handle().spawn_builder(Builder::new().token(&group), |token| {
        while !token.is_cancelled() {
            gvt::yield_now();
        }
        token.reason()
    });
    runtime.shutdown();
    assert_eq!(thread.unwrap().join().unwrap(), Some(CancelReason::ShutDown));
    assert!(!group.is_cancelled());
}

/// Deep families, cancelled from the top.
#[test]
fn a_deep_family_is_told() {
    fn nest(depth: usize, group: &CancellationToken) -> usize {
        if depth == 0 {
            gvt::current_token().unwrap().cancelled().wait();
            return 0;
        }
        let group = group.clone();
        Builder::new().token(&group.child()).spawn(move |_| nest(depth - 1, &group)).unwrap().join().unwrap()
            + 1
    }
    runtime(2).block_on(|| {
        let group = CancellationToken::new();
        let other = group.clone();
        let thread = gvt::spawn(move |_| nest(300, &other));
        gvt::sleep_ms(5);
        group.cancel();
        assert_eq!(thread.join().unwrap(), 300);
    });
}

#[test]
fn a_wait_for_it_may_be_dropped() {
    let token = CancellationToken::new();
    for _ in 0..3 {
        let mut cancelled = pin!(token.cancelled());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(cancelled.as_mut().poll(&mut context), Poll::Pending);
        assert!(!cancelled.wait_timeout(ms(1)));
    }
    token.cancel();
    assert!(token.cancelled().wait_timeout(LONG));
    // The last to refer to its node is the wait itself.
    let cancelled = CancellationToken::new().with_timeout(ms(1)).cancelled();
    cancelled.wait();
}

#[test]
fn what_takes_too_long_times_out() {
    runtime(2).block_on(|| {
        assert_eq!(gvt::timeout(LONG, |_| 1), Ok(1));
        assert_eq!(gvt::timeout(Duration::MAX, |_| 2), Ok(2));
        let (told, telling) = gvt::channel(1);
        let late = gvt::timeout(ms(2), move |token| {
            token.cancelled().wait();
            told.send(token.reason()).unwrap();
        });
        assert_eq!(late, Err(TimedOut));
        assert_eq!(telling.recv_timeout(LONG), Ok(Some(CancelReason::DeadlinePassed)));
        // Nested: the outer limit reaches the inner.
        let inner = gvt::timeout(ms(2), |_| gvt::timeout(LONG, |token| token.cancelled().wait()));
        assert!(matches!(inner, Err(TimedOut)));
        // One that does not listen is left alone.
        let (go, wait) = gvt::channel::<()>(0);
        assert_eq!(gvt::timeout(ms(2), move |_| wait.recv().is_err()), Err(TimedOut));
        drop(go);
        let panicked = std::panic::catch_unwind(|| gvt::timeout(LONG, |_| panic!("meant")));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "meant");
    });
}

#[test]
fn futures_time_out() {
    let (sender, receiver) = gvt::channel(1);
    assert_eq!(block_on(gvt::future::timeout(ms(2), receiver.recv_async())), Err(TimedOut));
    sender.send(1).unwrap();
    assert_eq!(block_on(gvt::future::timeout(LONG, receiver.recv_async())), Ok(Ok(1)));
    let begin = Instant::now();
    block_on(gvt::future::sleep(ms(2)));
    assert!(begin.elapsed() >= ms(2));
}

/// A future that is polled by one task after another wakes the last.
#[test]
fn an_alarm_follows_its_future() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (first, last) = (Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0))));
    let receiver = gvt::channel::after(ms(20));
    let mut future = pin!(receiver.recv_async());
    for count in [&first, &last] {
        let waker = Waker::from(count.clone());
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let begin = Instant::now();
    while last.0.load(SeqCst) == 0 {
        assert!(begin.elapsed() < LONG, "nobody was woken");
        std::thread::sleep(ms(1));
    }
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(first.0.load(SeqCst), 0);
}
