//! Code whose waits end with a token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::channel::{bounded, broadcast, never, oneshot, select, tick, unbounded, watch};
use gvt::sync::{Arc, Barrier, Condvar, Mutex, RwLock, SchedMutex, Semaphore, WaitGroup};
use gvt::{
    CancelReason, CancellationToken, HeapTimer, NoPreempt, Runtime, cancellable, future, settle, spawn,
};
use gvt_conformance::process::Watchdog;
use gvt_decorators::VirtualTime;
use rstest::rstest;

const HOUR: Duration = Duration::from_secs(3600);

type Wait = Box<dyn FnOnce() + Send>;

/// Everything that waits, each in a place where nobody comes.
fn waits() -> Vec<(&'static str, Wait)> {
    let (sender, receiver) = bounded::<u32>(1);
    sender.send(0).unwrap();
    let (meeting, _meeting) = bounded::<u32>(0);
    let (held, locked, shared) =
        (Arc::new(Mutex::new(())), Arc::new(SchedMutex::new(())), Arc::new(RwLock::new(())));
    std::mem::forget((held.lock(), locked.lock(), shared.write()));
    let (_one, mut once) = oneshot::channel::<u32>();
    let (_watched, mut watching) = watch::channel(1);
    let (_cast, mut listener) = broadcast::channel::<u32>(1);
    let (group, other) = (WaitGroup::new(), WaitGroup::new());
    std::mem::forget((group.clone(), _one, _watched, _cast, _meeting, receiver.clone(), other));
    let (empty, from_empty) = unbounded::<u32>();
    std::mem::forget(empty);
    let (shared_too, selecting, polling) = (shared.clone(), from_empty.clone(), from_empty.clone());
    vec![
        ("recv", Box::new(move || ignore(from_empty.recv()))),
        ("never", Box::new(|| ignore(never::<u32>().recv_timeout(HOUR)))),
        ("send", Box::new(move || sender.send(1).unwrap())),
        ("send to nobody", Box::new(move || meeting.send(1).unwrap())),
        ("sleep", Box::new(|| gvt::sleep(HOUR))),
        ("tick", Box::new(|| ignore(tick(HOUR).recv()))),
        ("interval", Box::new(|| ignore(gvt::interval_at(gvt::now() + HOUR, HOUR).tick()))),
        ("lock", Box::new(move || ignore(held.lock()))),
        ("SchedMutex", Box::new(move || ignore(locked.lock()))),
        ("read", Box::new(move || ignore(shared.read()))),
        ("write", Box::new(move || ignore(shared_too.write()))),
        ("condvar", Box::new(|| ignore(Condvar::new().wait(Mutex::new(()).lock().unwrap())))),
        ("semaphore", Box::new(|| ignore(Semaphore::new(0).acquire()))),
        ("acquire_timeout", Box::new(|| ignore(Semaphore::new(0).acquire_timeout(1, HOUR)))),
        ("barrier", Box::new(|| ignore(Barrier::new(2).wait()))),
        ("wait group", Box::new(move || group.wait())),
        ("oneshot", Box::new(move || ignore(once.recv_timeout(HOUR)))),
        ("watch", Box::new(move || ignore(watching.changed()))),
        ("broadcast", Box::new(move || ignore(listener.recv()))),
        ("join", Box::new(|| ignore(endless().join()))),
        ("join_timeout", Box::new(|| ignore(endless().join_timeout(HOUR)))),
        (
            "select!",
            Box::new(move || {
                select! {
                    recv(selecting) -> _ => {},
                    default(HOUR) => {},
                }
            }),
        ),
        ("a future", Box::new(move || ignore(future::block_on(polling.recv_async())))),
        ("a sleeping future", Box::new(|| future::block_on(future::sleep(HOUR)))),
        ("another token", Box::new(|| CancellationToken::new().cancelled().wait())),
    ]
}

/// A thread that ends with its runtime, and not with its spawner's token.
fn endless() -> gvt::JoinHandle<()> {
    let builder = gvt::Builder::new().token(&CancellationToken::new());
    builder.spawn(|_| ignore(never::<()>().recv())).unwrap()
}

/// Whatever it is.
fn ignore<T>(_: T) {}

/// Whether its destructor ran.
struct Tell(Arc<AtomicBool>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[rstest]
fn every_wait_ends_with_its_token(
    #[values(1, 3)] workers: usize,
    #[values(false, true)] waits_already: bool,
) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(|| {
        for (what, wait) in waits() {
            let dropped = Arc::new(AtomicBool::new(false));
            let tell = Tell(dropped.clone());
            let thread = spawn(move |_| {
                cancellable(|| {
                    let _tell = tell;
                    gvt::yield_now();
                    wait();
                })
            });
            if waits_already {
                settle();
            }
            thread.token().cancel_because("of a test");
            let outcome = thread.join().unwrap();
            assert_eq!(outcome, Err(CancelReason::Because("of a test".into())), "{what}");
            assert!(dropped.load(SeqCst), "{what}");
        }
    });
    // Threads that were joined in vain still wait for their tokens.
    runtime.shutdown();
}

#[test]
fn every_wait_ends_with_its_tokens_deadline() {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(1).timer(VirtualTime(HeapTimer)).preemptor(NoPreempt);
    let runtime = builder.build().unwrap();
    runtime.block_on(|| {
        for (what, wait) in waits() {
            let begin = gvt::now();
            let token = CancellationToken::new().with_timeout(HOUR / 2);
            let outcome = spawn(move |_| token.run_until_cancelled(wait)).join().unwrap();
            assert_eq!(outcome, Err(CancelReason::DeadlinePassed), "{what}");
            assert_eq!(gvt::now() - begin, HOUR / 2, "{what}");
        }
    });
    runtime.shutdown();
}

#[test]
fn what_returns_is_returned() {
    let _watchdog = Watchdog::new();
    Runtime::builder().workers(1).build().unwrap().block_on(|| {
        let token = CancellationToken::new();
        assert_eq!(token.run_until_cancelled(|| 1), Ok(1));
        let late = token.child();
        assert_eq!(
            late.run_until_cancelled(|| {
                late.cancel();
                2
            }),
            Ok(2),
            "it did not wait"
        );
        assert_eq!(late.run_until_cancelled(|| 3), Err(CancelReason::Requested), "it did not begin");
        let panicked = catch_unwind(AssertUnwindSafe(|| token.run_until_cancelled(|| panic!("through"))));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "through");
        // It waits for something else afterwards.
        token.cancel();
        let (sender, receiver) = bounded(0);
        let thread = spawn(move |_| sender.send(4));
        assert_eq!(receiver.recv(), Ok(4));
        thread.join().unwrap().unwrap();
    });
    // Where waits are not unwound.
    let token = CancellationToken::new();
    assert_eq!(token.run_until_cancelled(|| 5), Ok(5));
    token.cancel();
    assert_eq!(token.run_until_cancelled(|| 6), Err(CancelReason::Requested));
    assert_eq!(cancellable(|| 7), Ok(7));
}

#[test]
fn the_inner_call_or_the_outer() {
    let _watchdog = Watchdog::new();
    let builder = Runtime::builder().workers(1).timer(VirtualTime(HeapTimer)).preemptor(NoPreempt);
    builder.build().unwrap().block_on(|| {
        let within = |limit: Duration| CancellationToken::new().with_timeout(limit);
        let inner_first = within(2 * HOUR).run_until_cancelled(|| {
            let inner = within(HOUR).run_until_cancelled(|| gvt::sleep(10 * HOUR));
            assert_eq!(inner, Err(CancelReason::DeadlinePassed));
            gvt::sleep(HOUR / 2);
            1
        });
        assert_eq!(inner_first, Ok(1));
        let outer_first = within(HOUR).run_until_cancelled(|| {
            drop(within(2 * HOUR).run_until_cancelled(|| gvt::sleep(10 * HOUR)));
            unreachable!("the outer token is not the inner call's reason");
        });
        assert_eq!(outer_first, Err::<(), _>(CancelReason::DeadlinePassed));
        // Whoever catches it is unwound again, and destructors wait on.
        let begin = gvt::now();
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                gvt::sleep(HOUR);
            }
        }
        let caught = within(HOUR).run_until_cancelled(|| {
            let _waits = Waits;
            let caught = catch_unwind(|| gvt::sleep(10 * HOUR));
            assert!(caught.is_err());
            gvt::sleep(10 * HOUR);
        });
        assert_eq!(caught, Err(CancelReason::DeadlinePassed));
        assert_eq!(gvt::now() - begin, 2 * HOUR, "one until the deadline, one in the destructor");
    });
}

/// Messages, permits and locks: those whose receivers are cancelled just when they come go to others, or are
/// returned.
#[rstest]
fn nothing_is_lost(#[values(1, 3)] workers: usize, #[values(0, 1, 4)] capacity: usize) {
    const MESSAGES: usize = 3000;
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(|| {
        let (sender, receiver) = bounded::<usize>(capacity);
        let received = Arc::new(AtomicUsize::new(0));
        let (permits, counted) = (Arc::new(Semaphore::new(2)), Arc::new(Mutex::new(0usize)));
        let senders: Vec<_> = (0..3)
            .map(|n| {
                let sender = sender.clone();
                spawn(move |_| {
                    (0..MESSAGES).for_each(|k| {
                        sender.send(n * MESSAGES + k).unwrap();
                        if k % 7 == 0 {
                            gvt::yield_now();
                        }
                    });
                })
            })
            .collect();
        drop(sender);
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (receiver, received, permits, counted) =
                    (receiver.clone(), received.clone(), permits.clone(), counted.clone());
                spawn(move |_| {
                    loop {
                        let token = CancellationToken::new();
                        let canceller = {
                            let token = token.clone();
                            spawn(move |_| {
                                gvt::yield_now();
                                token.cancel();
                            })
                        };
                        let mut ended = false;
                        let _ = token.run_until_cancelled(|| {
                            loop {
                                let Ok(_message) = receiver.recv() else {
                                    ended = true;
                                    return;
                                };
                                received.fetch_add(1, SeqCst);
                                let _permit = permits.acquire();
                                *counted.lock().unwrap_or_else(gvt::sync::PoisonError::into_inner) += 1;
                            }
                        });
                        canceller.join().unwrap();
                        if ended {
                            return;
                        }
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        receivers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(received.load(SeqCst), 3 * MESSAGES);
        assert_eq!(permits.available_permits(), 2);
        assert!(counted.try_lock().is_ok());
    });
}

/// A cancellation that comes late ends no later wait.
#[rstest]
fn a_late_cancellation_ends_nothing_else(#[values(1, 3)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(|| {
        for round in 0..3000 {
            let token = CancellationToken::new();
            let (go, wait) = bounded(0);
            let canceller = {
                let token = token.clone();
                spawn(move |_| {
                    token.cancel();
                    go.send(round).unwrap();
                })
            };
            let _ = token.run_until_cancelled(gvt::yield_now);
            assert_eq!(wait.recv(), Ok(round));
            canceller.join().unwrap();
            // A joined thread's late wake-up neither.
            let token = CancellationToken::new();
            let joined = spawn(|_| gvt::yield_now());
            let canceller = {
                let token = token.clone();
                spawn(move |_| token.cancel())
            };
            let _ = token.run_until_cancelled(|| joined.join());
            let (go, wait) = bounded(0);
            let sender = spawn(move |_| go.send(round));
            assert_eq!(wait.recv(), Ok(round));
            sender.join().unwrap().unwrap();
            canceller.join().unwrap();
        }
    });
}

#[test]
fn a_shutdown_is_a_cancellation() {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let thread = runtime.handle().spawn(|_| cancellable(|| ignore(never::<u32>().recv())));
    runtime.block_on(settle);
    runtime.shutdown();
    assert_eq!(thread.join().unwrap(), Err(CancelReason::ShutDown));
}
