//! Channels: from green threads and from OS threads, one by one and both on one channel.

use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use gvt::channel::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, bounded, unbounded,
};
use gvt::{Runtime, SchedulerConfig};
use gvt_conformance::counting::live_bytes;
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[test]
fn a_message_refused_comes_back() {
    let (sender, receiver) = bounded(1);
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    let begin = Instant::now();
    assert_eq!(sender.send_timeout(3, Duration::from_millis(5)), Err(SendTimeoutError::Timeout(3)));
    assert!(begin.elapsed() >= Duration::from_millis(5));
    drop(receiver);
    assert_eq!(sender.send(4), Err(SendError(4)));
    assert_eq!(sender.try_send(5), Err(TrySendError::Disconnected(5)));
    assert_eq!(sender.send_timeout(6, Duration::MAX), Err(SendTimeoutError::Disconnected(6)));
}

#[test]
fn what_was_sent_survives_its_sender() {
    let (sender, receiver) = bounded(2);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
    drop(sender);
    assert_eq!(receiver.recv(), Ok(2));
    assert_eq!(receiver.recv(), Err(RecvError));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn what_a_burst_took_of_memory_is_given_back() {
    let (sender, receiver) = unbounded();
    let mut received = 0_u64;
    let mut take = |count: u64| {
        for _ in 0..count {
            assert_eq!(receiver.try_recv(), Ok(received));
            received += 1;
        }
    };
    let idle = live_bytes();
    for n in 0..100_000_u64 {
        sender.send(n).unwrap();
    }
    assert!(live_bytes() - idle >= 800_000);
    take(60_000);
    // The rest and what comes now wrap round the end of the buffer.
    for n in 100_000..140_000_u64 {
        sender.send(n).unwrap();
    }
    take(79_990);
    assert!(live_bytes() - idle <= 1_024, "{} bytes for ten messages", live_bytes() - idle);
    take(10);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn the_room_of_a_bounded_channel_stays() {
    let before = live_bytes();
    let (sender, receiver) = bounded(1_000);
    let room = live_bytes() - before;
    assert!(room >= 8_000);
    for n in 0..1_000_u64 {
        sender.send(n).unwrap();
    }
    assert_eq!(receiver.try_iter().count(), 1_000);
    assert_eq!(live_bytes() - before, room);
}

#[test]
fn gauges() {
    let (sender, receiver) = bounded(2);
    assert!(sender.is_empty() && receiver.is_empty() && !sender.is_full());
    sender.send(1).unwrap();
    assert_eq!((sender.len(), receiver.len(), sender.is_full()), (1, 1, false));
    sender.send(1).unwrap();
    assert!(sender.is_full() && receiver.is_full());
    assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
    let (sender, receiver) = unbounded::<()>();
    assert_eq!((sender.capacity(), receiver.capacity()), (None, None));
    assert!(!sender.is_full());
    let (sender, receiver) = bounded::<()>(0);
    assert!(sender.is_full() && sender.is_empty() && receiver.is_full());
    assert!(sender.same_channel(&sender.clone()) && receiver.same_channel(&receiver.clone()));
    let other = bounded::<()>(0);
    assert!(!sender.same_channel(&other.0) && !receiver.same_channel(&other.1));
}

#[test]
fn messages_left_are_dropped_with_the_last_receiver() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    for capacity in [Some(8), None] {
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
        for _ in 0..5 {
            sender.send(Counted(count.clone())).unwrap();
        }
        drop(receiver.recv());
        assert_eq!(count.load(Relaxed), 1);
        drop(receiver);
        assert_eq!(count.load(Relaxed), 5);
        drop(sender);
        assert_eq!(count.load(Relaxed), 5);
    }
}

/// Senders and receivers, each an OS thread or a green thread; every message arrives once.
#[rstest]
fn every_message_arrives_once(
    #[values(Some(0), Some(1), Some(7), None)] capacity: Option<usize>,
    #[values(1, 2)] workers: usize,
    #[values((true, true), (true, false), (false, true), (false, false))] green: (bool, bool),
) {
    const ENDS: usize = 3;
    const EACH: usize = 400;
    let runtime = runtime(workers);
    let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
    let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..ENDS * EACH).map(|_| AtomicUsize::new(0)).collect());
    let mut os = Vec::new();
    let mut light = Vec::new();
    for end in 0..ENDS {
        let sender = sender.clone();
        let send = move || (0..EACH).for_each(|i| sender.send(end * EACH + i).unwrap());
        let (receiver, seen) = (receiver.clone(), seen.clone());
        let receive = move || {
            let mut last = [None; ENDS];
            for message in receiver {
                seen[message].fetch_add(1, Relaxed);
                let from = message / EACH;
                assert!(last[from] < Some(message), "messages of one sender keep their order");
                last[from] = Some(message);
            }
        };
        match green.0 {
            true => light.push(runtime.handle().spawn(move |_| send())),
            false => os.push(std::thread::spawn(send)),
        }
        match green.1 {
            true => light.push(runtime.handle().spawn(move |_| receive())),
            false => os.push(std::thread::spawn(receive)),
        }
    }
    drop((sender, receiver));
    os.into_iter().for_each(|thread| thread.join().unwrap());
    light.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(seen.iter().all(|count| count.load(Relaxed) == 1));
}

/// Each wait may end by its deadline just when it is served; nothing is lost or doubled.
#[rstest]
fn deadlines_race_with_messages(#[values(Some(0), Some(1), None)] capacity: Option<usize>) {
    let runtime = runtime(2);
    let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
    let total = runtime.block_on(move || {
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                gvt::spawn(move |_| {
                    let mut sent = 0;
                    for i in 0..300u64 {
                        let patience = Duration::from_micros(i % 50);
                        sent += usize::from(sender.send_timeout(i, patience).is_ok());
                    }
                    sent
                })
            })
            .collect();
        drop(sender);
        let receivers: Vec<_> = (0..2)
            .map(|i| {
                let receiver = receiver.clone();
                gvt::spawn(move |_| {
                    let mut received = 0;
                    loop {
                        match receiver.recv_timeout(Duration::from_micros(7 * i)) {
                            Ok(_) => received += 1,
                            Err(RecvTimeoutError::Timeout) => gvt::yield_now(),
                            Err(RecvTimeoutError::Disconnected) => return received,
                        }
                    }
                })
            })
            .collect();
        let sent: usize = senders.into_iter().map(|thread| thread.join().unwrap()).sum();
        let received: usize = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
        (sent, received)
    });
    assert_eq!(total.0, total.1);
}

/// A receiver that a shutdown unwinds just when it is handed a message passes that on.
#[rstest]
fn a_shutdown_loses_no_message(#[values(Some(0), Some(1), None)] capacity: Option<usize>) {
    for round in 0..20 {
        let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
        let runtime = runtime(2);
        let seen = Arc::new(AtomicUsize::new(0));
        for _ in 0..4 {
            let (receiver, seen) = (receiver.clone(), seen.clone());
            runtime.handle().spawn(move |_| {
                while receiver.recv().is_ok() {
                    seen.fetch_add(1, Relaxed);
                }
            });
        }
        let begin = Arc::new(Barrier::new(2));
        let outside = {
            let begin = begin.clone();
            std::thread::spawn(move || {
                begin.wait();
                let mut sent = 0;
                for i in 0..200 {
                    sent += usize::from(sender.send_timeout(i, Duration::from_millis(2)).is_ok());
                }
                sent
            })
        };
        begin.wait();
        std::thread::sleep(Duration::from_micros(20 * round));
        runtime.shutdown();
        let mut left = 0;
        while receiver.recv().is_ok() {
            left += 1;
        }
        assert_eq!(outside.join().unwrap(), seen.load(Relaxed) + left);
    }
}

#[test]
fn a_shutdown_unwinds_waiting_senders() {
    let (sender, receiver) = bounded(1);
    sender.send(Box::new(1)).unwrap();
    let runtime = runtime(1);
    let handle = runtime.handle().spawn(move |_| sender.send(Box::new(2)));
    runtime.shutdown();
    assert!(handle.join().unwrap_err().is::<gvt::SchedError>());
    assert_eq!(receiver.recv(), Ok(Box::new(1)));
    assert_eq!(receiver.recv(), Err(RecvError));
}
