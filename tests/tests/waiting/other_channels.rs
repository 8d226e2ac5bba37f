//! `oneshot`, `broadcast`, `watch`: on green threads, on OS threads, and as futures.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gvt::channel::{RecvError, RecvTimeoutError, TryRecvError, broadcast, oneshot, watch};
use gvt::future::block_on;
use gvt::{Runtime, SchedulerConfig};
use rstest::rstest;

fn runtime() -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(2))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_oneshot_carries_one_message() {
    let (sender, mut receiver) = oneshot::channel();
    assert!(!sender.is_closed());
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(ms(2)), Err(RecvTimeoutError::Timeout));
    assert_eq!(sender.send(1), Ok(()));
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send("back"), Err("back"));
    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    assert_eq!(block_on(receiver), Err(RecvError));
}

#[rstest]
fn a_oneshot_meets_across_worlds(#[values(0, 1, 2)] receiving: usize, #[values(true, false)] green: bool) {
    let runtime = runtime();
    for i in 0..200 {
        let (sender, receiver) = oneshot::channel();
        let send = move || {
            if i % 3 == 0 {
                gvt::yield_now();
            }
            sender.send(i).unwrap();
        };
        let thread = match green {
            true => Err(runtime.handle().spawn(move |_| send())),
            false => Ok(std::thread::spawn(send)),
        };
        let received = match receiving {
            0 => receiver.recv(),
            1 => block_on(receiver),
            _ => runtime.block_on(|| receiver.recv()),
        };
        assert_eq!(received, Ok(i));
        match thread {
            Ok(thread) => thread.join().unwrap(),
            Err(thread) => thread.join().unwrap(),
        }
    }
}

#[test]
fn a_oneshot_future_may_be_dropped() {
    let (sender, receiver) = oneshot::channel();
    {
        let mut future = pin!(receiver.into_future());
        assert!(poll(future.as_mut()).is_pending());
    }
    assert_eq!(sender.send(()), Err(()));
    let dropped = Arc::new(());
    let (sender, receiver) = oneshot::channel();
    {
        let mut future = pin!(receiver.into_future());
        assert!(poll(future.as_mut()).is_pending());
        sender.send(dropped.clone()).unwrap();
    }
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn a_oneshot_sender_learns_that_nobody_listens() {
    let runtime = runtime();
    let (mut sender, mut receiver) = oneshot::channel::<u8>();
    receiver.close();
    sender.closed();
    assert_eq!(sender.send(1), Err(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    let (sender, mut receiver) = oneshot::channel();
    sender.send(2).unwrap();
    receiver.close();
    assert_eq!(receiver.recv(), Ok(2), "sent before");
    for future in [false, true] {
        let (mut sender, receiver) = oneshot::channel::<u8>();
        let waits = runtime.handle().spawn(move |_| match future {
            false => sender.closed(),
            true => block_on(sender.closed_async()),
        });
        std::thread::sleep(ms(2));
        drop(receiver);
        waits.join().unwrap();
    }
    let (mut sender, receiver) = oneshot::channel::<u8>();
    {
        let mut future = pin!(sender.closed_async());
        assert!(poll(future.as_mut()).is_pending());
    }
    drop(receiver);
    assert!(sender.is_closed());
}

/// Against a naive model: what each receiver sees, what is kept, and that each message is dropped once nobody
/// needs it.
#[test]
fn a_broadcast_keeps_what_somebody_needs() {
    use std::collections::VecDeque;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    for capacity in [1, 2, 5] {
        let (sender, first) = broadcast::channel::<Arc<u64>>(capacity);
        // Of each receiver: what it has yet to see, and how many it has lost.
        let mut receivers = vec![(first, VecDeque::new(), 0_u64)];
        let mut messages = Vec::new();
        for step in 0..4000 {
            let chosen = random(receivers.len().max(1) as u64) as usize;
            match random(10) {
                0 => receivers.push((sender.subscribe(), VecDeque::new(), 0)),
                1 if !receivers.is_empty() => {
                    let (receiver, expected, lost) = &receivers[chosen];
                    let clone = (receiver.clone(), expected.clone(), *lost);
                    receivers.push(clone);
                }
                2 if !receivers.is_empty() => drop(receivers.swap_remove(chosen)),
                3..6 => {
                    let message = Arc::new(step);
                    messages.push(Arc::downgrade(&message));
                    assert_eq!(sender.send(message).is_ok(), !receivers.is_empty());
                    for (_, expected, lost) in &mut receivers {
                        expected.push_back(step);
                        if expected.len() > capacity {
                            expected.pop_front();
                            *lost += 1;
                        }
                    }
                }
                _ if !receivers.is_empty() => {
                    let (receiver, expected, lost) = &mut receivers[chosen];
                    let seen = receiver.try_recv().map(|message| *message);
                    let right = match std::mem::take(lost) {
                        0 => expected.pop_front().ok_or(broadcast::TryRecvError::Empty),
                        lost => Err(broadcast::TryRecvError::Lagged(lost)),
                    };
                    assert_eq!(seen, right);
                    assert_eq!(receiver.len(), expected.len());
                }
                _ => {}
            }
            let needed = receivers.iter().map(|(_, expected, _)| expected.len()).max().unwrap_or(0);
            assert_eq!(sender.len(), needed);
            messages.retain(|message| message.strong_count() > 0);
            assert_eq!(messages.len(), needed, "a message lives as long as somebody needs it");
        }
    }
}

#[rstest]
fn every_receiver_gets_every_message(#[values(1, 3, 64)] capacity: usize) {
    const MESSAGES: u64 = 500;
    let runtime = runtime();
    let (sender, receiver) = broadcast::channel(capacity);
    let lost = Arc::new(AtomicUsize::new(0));
    let receivers: Vec<_> = (0..4)
        .map(|n| {
            let (mut receiver, lost) = (receiver.clone(), lost.clone());
            let mut receive = move || {
                let mut next = 0;
                loop {
                    let message = match n % 2 {
                        0 => receiver.recv(),
                        _ => block_on(receiver.recv_async()),
                    };
                    match message {
                        Ok(message) => {
                            assert_eq!(message, next, "in order");
                            next += 1;
                        }
                        Err(broadcast::RecvError::Lagged(n)) => {
                            lost.fetch_add(n as usize, Relaxed);
                            next += n;
                        }
                        Err(broadcast::RecvError::Closed) => return next,
                    }
                }
            };
            match n < 2 {
                true => Err(runtime.handle().spawn(move |_| receive())),
                false => Ok(std::thread::spawn(receive)),
            }
        })
        .collect();
    drop(receiver);
    for i in 0..MESSAGES {
        assert_eq!(sender.send(i), Ok(4));
        if i % 64 == 0 {
            std::thread::yield_now();
        }
    }
    drop(sender);
    for receiver in receivers {
        let seen = match receiver {
            Ok(thread) => thread.join().unwrap(),
            Err(thread) => thread.join().unwrap(),
        };
        assert_eq!(seen, MESSAGES);
    }
}

#[test]
fn a_broadcast_has_ends() {
    let (sender, mut receiver) = broadcast::channel(2);
    assert_eq!(receiver.try_recv(), Err(broadcast::TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(ms(2)), Err(broadcast::TryRecvError::Empty));
    let other = sender.clone();
    assert_eq!(other.send(1), Ok(1));
    let mut late = sender.subscribe();
    assert_eq!(sender.receiver_count(), 2);
    assert_eq!(sender.send(2), Ok(2));
    assert_eq!((receiver.recv(), receiver.recv(), late.recv()), (Ok(1), Ok(2), Ok(2)));
    drop(sender);
    assert_eq!(late.try_recv(), Err(broadcast::TryRecvError::Empty));
    drop((receiver, late));
    assert_eq!(other.send(3), Err(broadcast::SendError(3)));
    let mut again = other.subscribe();
    drop(other);
    assert_eq!(again.recv(), Err(broadcast::RecvError::Closed));
}

#[test]
fn a_watch_shows_the_latest() {
    let (sender, mut receiver) = watch::channel(0);
    assert_eq!((receiver.has_changed(), *receiver.borrow()), (Ok(false), 0));
    assert_eq!(receiver.changed_timeout(ms(2)), Ok(false));
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!((receiver.has_changed(), *receiver.borrow()), (Ok(true), 2));
    assert_eq!(*receiver.borrow_and_update(), 2);
    assert_eq!(receiver.has_changed(), Ok(false));
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(sender.send_replace(3), 2);
    assert_eq!(receiver.changed(), Ok(()));
    let late = sender.subscribe();
    assert_eq!((late.has_changed(), sender.receiver_count(), *sender.borrow()), (Ok(false), 2, 3));
    sender.send_modify(|value| *value += 1);
    drop(sender);
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!((receiver.changed(), receiver.has_changed()), (Err(watch::RecvError), Err(watch::RecvError)));
    let (sender, mut receiver) = watch::channel(0);
    receiver.mark_changed();
    assert_eq!(receiver.has_changed(), Ok(true));
    receiver.mark_unchanged();
    assert_eq!(receiver.has_changed(), Ok(false));
    drop(receiver);
    assert!(sender.is_closed());
    sender.closed();
    assert_eq!(sender.send(1), Err(watch::SendError(1)));
    assert_eq!(*sender.borrow(), 0, "refused");
}

#[test]
fn a_watch_outlives_a_change_that_panics() {
    let (sender, receiver) = watch::channel(0);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        sender.send_modify(|value| {
            *value = 1;
            panic!("meant");
        });
    }));
    assert!(panicked.is_err());
    assert_eq!((receiver.has_changed(), *receiver.borrow()), (Ok(false), 1));
    sender.send(2).unwrap();
    assert_eq!(*receiver.borrow(), 2);
}

/// All that wait on these channels when their runtime shuts down are unwound, and what they had is let go of.
#[test]
fn a_shutdown_unwinds_their_waiters() {
    let runtime = runtime();
    let (one_sender, one) = oneshot::channel::<u8>();
    let (many_sender, mut many) = broadcast::channel::<u8>(1);
    let (watch_sender, mut watch) = watch::channel(0);
    let handle = runtime.handle();
    handle.spawn(move |_| one.recv());
    handle.spawn(move |_| many.recv());
    handle.spawn(move |_| watch.changed());
    std::thread::sleep(ms(5));
    runtime.shutdown();
    assert!(one_sender.is_closed());
    assert_eq!((many_sender.receiver_count(), watch_sender.receiver_count()), (0, 0));
}

#[rstest]
fn a_watch_wakes_all_that_wait(#[values(true, false)] green: bool) {
    let runtime = runtime();
    let (sender, receiver) = watch::channel(0);
    let wait = |n: i32| {
        let mut receiver = receiver.clone();
        move || match n % 2 {
            0 => *receiver.wait_for(|value| *value == 100).unwrap(),
            _ => {
                while *receiver.borrow_and_update() < 100 {
                    block_on(receiver.changed_async()).unwrap();
                }
                *receiver.borrow_and_update()
            }
        }
    };
    let green_threads: Vec<_> = (0..4)
        .map(|n| {
            let mut wait = wait(n);
            runtime.handle().spawn(move |_| wait())
        })
        .collect();
    let os_threads: Vec<_> = (0..4).map(|n| std::thread::spawn(wait(n))).collect();
    let send = move || {
        for i in 1..=100 {
            sender.send(i).unwrap();
            gvt::yield_now();
        }
        sender
    };
    let _sender = match green {
        true => runtime.block_on(send),
        false => send(),
    };
    for thread in green_threads {
        assert_eq!(thread.join().unwrap(), 100);
    }
    for thread in os_threads {
        assert_eq!(thread.join().unwrap(), 100);
    }
}

/// A second borrow on one thread, or one after the other on several, does not wait for a sender that waits
/// for the first; and the sender gets its turn.
#[test]
fn borrows_pass_senders_that_wait() {
    runtime().block_on(|| {
        let (sender, receiver) = watch::channel(1);
        let sender = Arc::new(sender);
        for round in 0..50 {
            let first = receiver.borrow();
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let sender = sender.clone();
                    gvt::spawn(move |_| sender.send_modify(|value| *value += 1))
                })
                .collect();
            // Whether one waits already is left to chance; the second half gives them time.
            if round >= 25 {
                gvt::sleep_us(200);
            }
            let second = receiver.borrow();
            let third = {
                let receiver = receiver.clone();
                gvt::spawn(move |_| *receiver.borrow()).join().unwrap()
            };
            assert_eq!((*first, *second, third), (1 + round * 3, 1 + round * 3, 1 + round * 3));
            drop((first, second));
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        }
        assert_eq!(*receiver.borrow(), 151);
    });
}
