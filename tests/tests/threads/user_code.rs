//! Users' code that the runtime calls: wakers, destructors, hooks, what panics leave behind. Whatever it
//! does, the runtime and other threads go on.

use std::future::{Future, IntoFuture};
use std::io::Write;
use std::panic::{panic_any, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gvt::{Builder, JoinFuture, Runtime, SchedulerConfig};
use gvt_conformance::process::{Child, Watchdog, becomes};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[track_caller]
fn until(what: &str, gauge: impl FnMut() -> bool) {
    assert!(becomes(gauge), "not in time: {what}");
}

/// Calls a function when it wakes.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync + 'static> Calls<F> {
    fn waker(f: F) -> Waker {
        Arc::new(Calls(f)).into()
    }
}

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// A payload whose destructor panics, with another such.
struct Bomb(usize);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            resume_unwind(Box::new(Bomb(self.0 - 1)));
        }
    }
}

/// The waker of a joined thread waits, after the result was taken and the next thread was spawned.
#[test]
fn a_waker_that_waits_has_a_record_of_its_own() {
    Child::of("a_waker_that_waits_has_a_record_of_its_own")
        .run(|| {
            // A small table: free records are used again last in, first out.
            let runtime = Runtime::builder().workers(2).max_gvthreads(8).build().unwrap();
            let (start, begin) = gvt::channel::<()>(0);
            let first = runtime.handle().spawn(move |_| begin.recv().unwrap());
            let id = first.id();
            let (running, is_running) = mpsc::channel();
            let (go_on, may_go_on) = mpsc::channel::<()>();
            let may_go_on = Mutex::new(may_go_on);
            let waker = Calls::waker(move || {
                running.send(gvt::current_id()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
                gvt::sleep_ms(1);
                running.send(gvt::current_id()).unwrap();
            });
            let mut first = pin!(first.into_future());
            assert!(poll(first.as_mut(), &waker).is_pending());
            drop(waker);
            start.send(()).unwrap();
            assert_eq!(is_running.recv().unwrap(), Some(id));
            assert!(matches!(poll(first.as_mut(), Waker::noop()), Poll::Ready(Ok(()))));
            let (send, receive) = gvt::channel::<u32>(0);
            let second = runtime.handle().spawn(move |_| receive.recv());
            until("the second thread waits", || {
                runtime.threads().iter().any(|thread| thread.id == second.id() && thread.reason.is_some())
            });
            go_on.send(()).unwrap();
            assert_eq!(is_running.recv().unwrap(), Some(id), "it goes on as somebody else");
            send.send(42).unwrap();
            assert_eq!(second.join().unwrap(), Ok(42));
        })
        .succeeded();
}

/// A thread that waits goes on on another OS thread: what a waker's wait leaves there is seen.
#[test]
fn a_waker_that_waits_is_in_no_section() {
    Child::of("a_waker_that_waits_is_in_no_section")
        .run(|| {
            let runtime = Runtime::builder().workers(1).migrate_always(true).build().unwrap();
            for _ in 0..20 {
                let (start, begin) = gvt::channel::<()>(0);
                let (woken, is_woken) = mpsc::channel();
                let thread = runtime.handle().spawn(move |_| begin.recv().unwrap());
                let waker = Calls::waker(move || {
                    gvt::sleep_us(100);
                    woken.send(()).unwrap();
                });
                let mut thread = pin!(thread.into_future());
                assert!(poll(thread.as_mut(), &waker).is_pending());
                start.send(()).unwrap();
                is_woken.recv().unwrap();
                for _ in 0..4 {
                    runtime.handle().spawn(|_| gvt::sleep_us(100)).join().unwrap();
                }
            }
        })
        .succeeded();
}

/// An executor as anybody would write it: its queue lies behind a mutex of this crate, for which the waker
/// has to wait.
#[rstest]
fn a_waker_may_lock(#[values(1, 2)] workers: usize) {
    let _watchdog = Watchdog::new();
    let runtime = runtime(workers);
    let queue = Arc::new(gvt::sync::Mutex::new(0));
    for round in 0..200 {
        let (start, begin) = gvt::channel::<()>(0);
        let thread = runtime.handle().spawn(move |_| begin.recv().unwrap());
        let (ready, called) = (queue.clone(), Arc::new(AtomicBool::new(false)));
        let told = called.clone();
        let waker = Calls::waker(move || {
            told.store(true, SeqCst);
            *ready.lock().unwrap() += 1;
        });
        let mut thread = pin!(thread.into_future());
        assert!(poll(thread.as_mut(), &waker).is_pending());
        let (held, is_called) = (queue.clone(), called.clone());
        let holder = runtime.handle().spawn(move |_| {
            let _held = held.lock().unwrap();
            start.send(()).unwrap();
            while !is_called.load(SeqCst) {
                gvt::yield_now();
            }
        });
        while !called.load(SeqCst) {
            std::thread::yield_now();
        }
        assert!(poll(thread.as_mut(), Waker::noop()).is_ready());
        let others: Vec<_> = (0..8).map(|_| runtime.handle().spawn(|_| gvt::sleep_us(10))).collect();
        others.into_iter().chain([holder]).for_each(|other| other.join().unwrap());
        until("all wakers have returned", || *queue.lock().unwrap() == round + 1);
    }
}

/// The waker takes the result itself, and then spawns, and has locals.
#[test]
fn a_waker_may_take_the_result() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Noisy;
    impl Drop for Noisy {
        fn drop(&mut self) {
            gvt::sleep_us(10);
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    gvt::gvt_local! {
        static NOISY: Noisy = Noisy;
    }
    let _watchdog = Watchdog::new();
    const CHILDREN: usize = 200;
    let runtime = Runtime::builder().workers(2).max_gvthreads(CHILDREN + 2).build().unwrap();
    for round in 1..=20 {
        let (start, begin) = gvt::channel::<()>(0);
        let thread = runtime.handle().spawn(move |_| begin.recv().map(|()| vec![7; 100]));
        let future = Arc::new(Mutex::new(Some(Box::pin(thread.into_future()))));
        let (results, result) = mpsc::channel();
        let shared = future.clone();
        let waker = Calls::waker(move || {
            let mut future: Pin<Box<JoinFuture<_>>> = shared.lock().unwrap().take().unwrap();
            let Poll::Ready(ended) = poll(future.as_mut(), Waker::noop()) else { panic!("woken too early") };
            drop(future);
            NOISY.with(|_| ());
            // More than the references that a thread is born with.
            let children: Vec<_> = (0..CHILDREN).map(|i| gvt::spawn(move |_| i)).collect();
            let sum = children.into_iter().map(|child| child.join().unwrap()).sum::<usize>();
            results.send((ended.unwrap().unwrap().len(), sum, gvt::current_token().is_some())).unwrap();
        });
        assert!(poll(future.lock().unwrap().as_mut().unwrap().as_mut(), &waker).is_pending());
        start.send(()).unwrap();
        assert_eq!(result.recv().unwrap(), (100, CHILDREN * (CHILDREN - 1) / 2, true));
        until("the waker's locals are dropped", || DROPPED.load(SeqCst) == round);
        until("its place is free", || runtime.live_threads() == 0);
    }
}

/// A waker that never returns keeps its thread, and nobody else.
#[test]
fn a_waker_that_never_returns_holds_up_nobody() {
    let _watchdog = Watchdog::new();
    let runtime = runtime(1);
    let (start, begin) = gvt::channel::<()>(0);
    let (_never, forever) = gvt::channel::<()>(0);
    let thread = runtime.handle().spawn(move |_| begin.recv().map(|()| 5));
    let waker = Calls::waker(move || {
        let _ = forever.recv();
    });
    let mut thread = pin!(thread.into_future());
    assert!(poll(thread.as_mut(), &waker).is_pending());
    start.send(()).unwrap();
    until("the thread has ended", || poll(thread.as_mut(), &waker).has(5));
    for _ in 0..100 {
        runtime.handle().spawn(|_| gvt::sleep_us(10)).join().unwrap();
    }
    // A join may return a moment before the thread is counted as ended.
    until("the others have ended", || runtime.live_threads() == 1);
    runtime.shutdown();
}

trait Ready<T> {
    fn has(self, value: T) -> bool;
}

impl<T: PartialEq> Ready<T> for Poll<std::thread::Result<Result<T, gvt::channel::RecvError>>> {
    fn has(self, value: T) -> bool {
        match self {
            Poll::Ready(result) => result.unwrap() == Ok(value),
            Poll::Pending => false,
        }
    }
}

/// Payloads whose destructors panic, from every kind of code that the runtime calls.
#[test]
fn payloads_that_panic_end_nothing() {
    let ended = Child::of("payloads_that_panic_end_nothing").run(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let runtime = runtime(2);
        let bomb = || Calls::waker(|| panic_any(Bomb(3)));
        // The end of a thread.
        let (start, begin) = gvt::channel::<()>(0);
        let thread = runtime.handle().spawn(move |_| begin.recv().unwrap());
        let mut thread = pin!(thread.into_future());
        assert!(poll(thread.as_mut(), &bomb()).is_pending());
        start.send(()).unwrap();
        until("the thread has ended", || poll(thread.as_mut(), &bomb()).is_ready());
        // A deadline of a future; others' come all the same.
        let mut sleep = pin!(gvt::future::sleep(Duration::from_millis(1)));
        assert!(poll(sleep.as_mut(), &bomb()).is_pending());
        gvt::future::block_on(gvt::future::sleep(Duration::from_millis(2)));
        runtime.block_on(|| {
            let token = gvt::current_token().unwrap().with_timeout(Duration::from_millis(1));
            token.cancelled().wait();
        });
        // A cancellation.
        let token = gvt::CancellationToken::new();
        let mut cancelled = pin!(token.cancelled());
        assert!(poll(cancelled.as_mut(), &bomb()).is_pending());
        token.cancel();
        // A result that nobody takes, a local, a closure's panic that nobody looks at.
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                panic_any(Bomb(3));
            }
        }
        gvt::gvt_local! {
            static LOCAL: Late = Late;
        }
        drop(runtime.handle().spawn(|_| Late));
        runtime.handle().spawn(|_| LOCAL.with(|_| ())).join().unwrap();
        drop(runtime.handle().spawn(|_| panic_any(Bomb(3))));
        runtime.block_on(|| {
            gvt::scope(|scope| {
                scope.spawn(|_| LOCAL.with(|_| ()));
            });
        });
        runtime.shutdown();
    });
    ended.succeeded();
}

/// One waker's panic is not the next waiter's loss, nor the waker's caller's.
#[test]
fn a_waker_that_panics_is_not_the_others_loss() {
    let ended = Child::of("a_waker_that_panics_is_not_the_others_loss").run(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let (sender, mut one) = gvt::channel::broadcast::channel(4);
        let mut two = sender.subscribe();
        let mut first = pin!(one.recv_async());
        assert!(poll(first.as_mut(), &Calls::waker(|| panic!("a waker"))).is_pending());
        let woken = Arc::new(AtomicUsize::new(0));
        let told = woken.clone();
        let mut second = pin!(two.recv_async());
        let waker = Calls::waker(move || {
            told.fetch_add(1, SeqCst);
        });
        assert!(poll(second.as_mut(), &waker).is_pending());
        assert_eq!(sender.send(1), Ok(2));
        assert_eq!(woken.load(SeqCst), 1);
        assert_eq!(poll(second.as_mut(), Waker::noop()), Poll::Ready(Ok(1)));
    });
    ended.succeeded();
}

/// What a hook has captured goes with its runtime, outside the runtime's sections, not with the last handle.
#[test]
fn what_a_hook_has_captured_goes_with_its_runtime() {
    struct Captured(Arc<AtomicUsize>);
    impl Captured {
        fn touch(&self) {}
    }
    impl Drop for Captured {
        fn drop(&mut self) {
            gvt::sleep_us(100);
            self.0.fetch_add(1, SeqCst);
        }
    }
    Child::of("what_a_hook_has_captured_goes_with_its_runtime")
        .run(|| {
            let dropped = Arc::new(AtomicUsize::new(0));
            let other = Runtime::builder().workers(1).migrate_always(true).build().unwrap();
            for round in 1..=20 {
                let runtime = runtime(1);
                let (first, second) = (Captured(dropped.clone()), Captured(dropped.clone()));
                runtime.on_deadlock(move |_| first.touch());
                runtime.on_deadlock(move |_| second.touch());
                assert_eq!(dropped.load(SeqCst), 2 * round - 1, "the one that was replaced");
                let last = runtime.handle().spawn(|_| ());
                drop(runtime);
                assert_eq!(dropped.load(SeqCst), 2 * round);
                other.handle().spawn(move |_| drop(last)).join().unwrap();
                for _ in 0..4 {
                    other.handle().spawn(|_| gvt::sleep_us(100)).join().unwrap();
                }
            }
        })
        .succeeded();
}

/// `block_on` where thread-locals are gone: it lends its closure the caller's stack, and must not unwind.
#[test]
fn block_on_lends_its_stack_after_thread_locals_are_gone() {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    extern "C" fn at_exit() {
        let runtime = RUNTIME.get().unwrap();
        let lent = vec![0x11_u8; 1 << 12];
        let seen = runtime.block_on(|| {
            gvt::sleep_ms(20);
            lent.iter().filter(|&&byte| byte == 0x11).count()
        });
        runtime.handle().spawn(|_| gvt::sleep_ms(1)).join().unwrap();
        let _ = writeln!(std::io::stderr(), "seen {seen} of {}", lent.len());
    }
    let ended = Child::of("block_on_lends_its_stack_after_thread_locals_are_gone").run(|| {
        RUNTIME.get_or_init(|| runtime(1));
        // Makes std's handle of this thread, which goes with its thread-locals at the exit.
        let _ = std::thread::current();
        // SAFETY: a function of this signature.
        assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
    });
    ended.succeeded().complained("seen 4096 of 4096");
}

/// Where std's own hook is in place, a panic names the green thread.
#[test]
fn a_panic_names_its_green_thread() {
    let ended = Child::of("a_panic_names_its_green_thread").run(|| {
        // Not the test harness's.
        drop(std::panic::take_hook());
        let runtime = runtime(1);
        let named = Builder::new().name("the miller");
        let thread = runtime.handle().spawn_builder(named, |_| panic!("no {}", "wind")).unwrap();
        assert!(thread.join().is_err());
        assert!(runtime.handle().spawn(|_| panic!("nameless")).join().is_err());
        let child = std::thread::Builder::new().name("the sailor".into()).spawn(|| panic!("no sea")).unwrap();
        assert!(child.join().is_err());
        // A hook that is set later is the program's.
        std::panic::set_hook(Box::new(|_| eprintln!("heard of {:?}", gvt::current_name())));
        let named = Builder::new().name("the smith");
        assert!(runtime.handle().spawn_builder(named, |_| panic!("no fire")).unwrap().join().is_err());
    });
    let ended = ended.succeeded().complained("thread 'the miller' panicked at ").complained("user_code.rs:");
    let ended = ended.complained("no wind\n").complained("nameless").complained("'the sailor'");
    let ended = ended.complained("heard of Some(\"the smith\")");
    assert!(!ended.stderr.contains("no fire"), "{ended}");
    assert_eq!(ended.stderr.matches("RUST_BACKTRACE").count(), 2, "ours and std's say it once each: {ended}");
}

/// A hook that is there before the first runtime is called as it is.
#[test]
fn a_program_keeps_its_own_panic_hook() {
    let ended = Child::of("a_program_keeps_its_own_panic_hook").run(|| {
        std::panic::set_hook(Box::new(|_| eprintln!("heard of {:?}", gvt::current_name())));
        let runtime = runtime(1);
        let named = Builder::new().name("the smith");
        assert!(runtime.handle().spawn_builder(named, |_| panic!("no fire")).unwrap().join().is_err());
    });
    let ended = ended.succeeded().complained("heard of Some(\"the smith\")");
    assert!(!ended.stderr.contains("no fire"), "{ended}");
}
