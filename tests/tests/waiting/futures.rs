//! The primitives as futures: on green threads, on OS threads, polled by hand, and dropped half-way.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use gvt::channel::{
    RecvError, SendError, TryRecvError, TrySendError, after, bounded, never, tick, unbounded,
};
use gvt::future::block_on;
use gvt::sync::{Arc, Mutex, Semaphore};
use gvt::{Runtime, SchedMutex, SchedulerConfig};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[rstest]
fn messages_pass_between_worlds(#[values(Some(0), Some(1), Some(5), None)] capacity: Option<usize>) {
    const EACH: usize = 300;
    let runtime = runtime(2);
    let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
    let (sum, send) = (Arc::new(AtomicUsize::new(0)), Arc::new(sender));
    let mut threads = Vec::new();
    let mut os = Vec::new();
    for world in 0..4 {
        let (send, receiver, sum) = (send.clone(), receiver.clone(), sum.clone());
        let sending = {
            let send = Arc::unwrap_or_clone(send);
            move || {
                if world < 2 {
                    block_on(async { for_each(EACH, async |i| send.send_async(i).await.unwrap()).await })
                } else {
                    (0..EACH).for_each(|i| send.send(i).unwrap())
                }
            }
        };
        let receiving = move || {
            if world % 2 == 0 {
                block_on(async {
                    while let Ok(i) = receiver.recv_async().await {
                        sum.fetch_add(i, Relaxed);
                    }
                })
            } else {
                for i in receiver {
                    sum.fetch_add(i, Relaxed);
                }
            }
        };
        if world == 1 || world == 2 {
            os.push(std::thread::spawn(sending));
            threads.push(runtime.handle().spawn(move |_| receiving()));
        } else {
            os.push(std::thread::spawn(receiving));
            threads.push(runtime.handle().spawn(move |_| sending()));
        }
    }
    drop((send, receiver));
    os.into_iter().for_each(|thread| thread.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(sum.load(Relaxed), 4 * EACH * (EACH - 1) / 2);
}

async fn for_each(n: usize, f: impl AsyncFn(usize)) {
    for i in 0..n {
        f(i).await;
    }
}

#[test]
fn a_dropped_receive_passes_its_message_on() {
    for capacity in [0, 1] {
        let (sender, receiver) = bounded(capacity);
        let mut kept = pin!(receiver.recv_async());
        {
            let mut dropped = pin!(receiver.recv_async());
            assert!(poll(dropped.as_mut()).is_pending());
            assert!(poll(kept.as_mut()).is_pending());
            sender.try_send(1).unwrap();
        }
        assert_eq!(poll(kept.as_mut()), Poll::Ready(Ok(1)));
        {
            let mut dropped = pin!(receiver.recv_async());
            assert!(poll(dropped.as_mut()).is_pending());
            sender.try_send(2).unwrap();
        }
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn a_dropped_send_was_never_there() {
    let (sender, receiver) = bounded(1);
    sender.send(1).unwrap();
    {
        let mut dropped = pin!(sender.send_async(2));
        assert!(poll(dropped.as_mut()).is_pending());
    }
    let mut waiting = pin!(sender.send_async(3));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(3)));
    assert_eq!(poll(waiting), Poll::Ready(Ok(())));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn the_last_waker_is_called_once() {
    let (sender, receiver) = bounded(0);
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut future = pin!(receiver.recv_async());
    for waker in [&first, &second] {
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker.clone().into())).is_pending());
    }
    sender.try_send(()).unwrap();
    assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (0, 1));
    assert_eq!(poll(future), Poll::Ready(Ok(())));
    assert_eq!(Arc::strong_count(&second), 1);
}

#[test]
fn disconnection_ends_futures() {
    let (sender, receiver) = bounded::<u8>(0);
    let mut receive = pin!(receiver.recv_async());
    assert!(poll(receive.as_mut()).is_pending());
    drop(sender);
    assert_eq!(poll(receive), Poll::Ready(Err(RecvError)));
    let (sender, receiver) = bounded::<u8>(0);
    let mut send = pin!(sender.send_async(1));
    assert!(poll(send.as_mut()).is_pending());
    drop(receiver);
    assert_eq!(poll(send), Poll::Ready(Err(SendError(1))));
    assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
}

#[test]
fn clocks_wake_futures() {
    let begin = Instant::now();
    let when = block_on(after(ms(3)).recv_async()).unwrap();
    assert!(begin.elapsed() >= ms(3) && when > begin);
    let ticks = tick(ms(2));
    block_on(async {
        ticks.recv_async().await.unwrap();
        ticks.recv_async().await.unwrap();
    });
    assert!(begin.elapsed() >= ms(7));
    let nothing = never::<()>();
    assert!(poll(pin!(nothing.recv_async())).is_pending());
}

#[rstest]
fn futures_and_threads_share_a_mutex(#[values(1, 2)] workers: usize) {
    const EACH: usize = 200;
    let runtime = runtime(workers);
    let mutex = Arc::new(Mutex::new(0));
    let plain = Arc::new(SchedMutex::new(0));
    let work = {
        let (mutex, plain) = (mutex.clone(), plain.clone());
        move |asynchronous: bool| {
            for _ in 0..EACH {
                if asynchronous {
                    block_on(async {
                        let mut guard = mutex.lock_async().await.unwrap();
                        let before = *guard;
                        gvt::yield_now();
                        *guard = before + 1;
                        *plain.lock_async().await += 1;
                    });
                } else {
                    *mutex.lock().unwrap() += 1;
                    *plain.lock() += 1;
                }
            }
        }
    };
    let os: Vec<_> = [false, true]
        .map(|how| {
            let work = work.clone();
            std::thread::spawn(move || work(how))
        })
        .into();
    let green: Vec<_> = [false, true, false, true]
        .map(|how| {
            let work = work.clone();
            runtime.handle().spawn(move |_| work(how))
        })
        .into();
    os.into_iter().for_each(|thread| thread.join().unwrap());
    green.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((*mutex.lock().unwrap(), *plain.lock()), (6 * EACH, 6 * EACH));
}

#[test]
fn a_dropped_lock_passes_its_turn_on() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    let mut kept = pin!(mutex.lock_async());
    {
        let mut dropped = pin!(mutex.lock_async());
        assert!(poll(dropped.as_mut()).is_pending());
        assert!(poll(kept.as_mut()).is_pending());
        drop(guard);
    }
    assert!(poll(kept.as_mut()).is_ready());
    assert!(mutex.try_lock().is_ok());
}

#[test]
fn a_dropped_acquire_lets_others_by() {
    let semaphore = Semaphore::new(1);
    let mut small = pin!(semaphore.acquire_async(1));
    {
        let mut large = pin!(semaphore.acquire_async(5));
        assert!(poll(large.as_mut()).is_pending());
        assert!(poll(small.as_mut()).is_pending());
        assert!(semaphore.try_acquire().is_none());
    }
    let Poll::Ready(permit) = poll(small.as_mut()) else { panic!("it is its turn") };
    assert_eq!(permit.permits(), 1);
    drop(permit);
    {
        let mut served = pin!(semaphore.acquire_async(2));
        assert!(poll(served.as_mut()).is_pending());
        semaphore.add_permits(1);
    }
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn a_join_handle_is_awaited() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let sum = block_on(async {
        let mut sum = 0;
        for i in 0..50 {
            sum += handle.spawn(move |_| i).await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 49 * 50 / 2);
    let panicked = block_on(handle.spawn(|_| panic!("on purpose")));
    assert!(panicked.is_err());

    let (sender, receiver) = bounded::<()>(0);
    let mut future = pin!(handle.spawn(move |_| receiver.recv()).into_future());
    let count = Arc::new(Count::default());
    assert!(poll(future.as_mut()).is_pending());
    assert!(future.as_mut().poll(&mut Context::from_waker(&count.clone().into())).is_pending());
    sender.send(()).unwrap();
    while count.0.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(block_on(poll_fn(|context| future.as_mut().poll(context))).unwrap(), Ok(()));
    assert_eq!(Arc::strong_count(&count), 1);

    let (sender, receiver) = bounded::<()>(0);
    let thread = handle.spawn(move |_| receiver.recv());
    let thread = thread.join_timeout(ms(3)).expect_err("it waits");
    assert!(poll(pin!(thread.into_future())).is_pending());
    drop(sender);
    assert!(handle.spawn(|_| ()).join_timeout(Duration::MAX).unwrap().is_ok());
}

#[test]
fn a_shutdown_drops_a_future_that_is_blocked_on() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let count = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(1);
    let dropped = Dropped(count.clone());
    let thread = runtime.handle().spawn(move |_| {
        block_on(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await
        })
    });
    runtime.shutdown();
    assert!(thread.join().is_err());
    assert_eq!(count.load(SeqCst), 1);
}

/// Receives that give up at random, beside ones that do not: each message arrives once.
#[rstest]
fn futures_that_give_up_lose_nothing(#[values(0, 1)] capacity: usize) {
    const MESSAGES: usize = 2000;
    let runtime = runtime(2);
    let (sender, receiver) = bounded(capacity);
    let received = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let (receiver, received) = (receiver.clone(), received.clone());
            runtime.handle().spawn(move |_| {
                loop {
                    let message = if n == 0 {
                        Some(receiver.recv())
                    } else {
                        let mut future = pin!(receiver.recv_async());
                        let first = poll(future.as_mut());
                        gvt::yield_now();
                        match first {
                            Poll::Ready(message) => Some(message),
                            Poll::Pending if n == 1 => match poll(future) {
                                Poll::Ready(message) => Some(message),
                                Poll::Pending => None,
                            },
                            Poll::Pending => None,
                        }
                    };
                    match message {
                        Some(Ok(())) => received.fetch_add(1, SeqCst),
                        Some(Err(_)) => return,
                        None => continue,
                    };
                }
            })
        })
        .collect();
    (0..MESSAGES).for_each(|_| sender.send(()).unwrap());
    drop(sender);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let left = receiver.try_iter().count();
    assert_eq!(received.load(SeqCst) + left, MESSAGES);
}
