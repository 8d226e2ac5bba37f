//! What a thread was given that a shutdown unwinds before it has come back with it.

use std::sync::mpsc;
use std::time::Duration;

use gvt::sync::{Arc, Condvar, Mutex};
use gvt::{Runtime, SchedulerConfig};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Until the runtime's only thread waits for `reason`.
fn wait_until_it_waits_for(runtime: &Runtime, reason: gvt::WaitReason) {
    while runtime.threads().first().and_then(|thread| thread.reason) != Some(reason) {
        std::thread::sleep(ms(1));
    }
}

/// A shutdown unwinds a thread that was notified and waits for the mutex: the notification goes to the next,
/// unless it was one for all who waited then.
#[rstest]
fn a_notification_outlives_who_is_unwound(#[values(false, true)] to_all: bool) {
    let runtime = runtime(1);
    let shared = Arc::new((Mutex::new(()), Condvar::new(), Mutex::new(())));
    let theirs = shared.clone();
    runtime.handle().spawn(move |_| {
        let guard = theirs.0.lock().unwrap();
        drop(theirs.1.wait(guard));
    });
    wait_until_it_waits_for(&runtime, gvt::WaitReason::Condvar);
    let limit = if to_all { ms(50) } else { Duration::from_secs(60) };
    // Waits on the same condvar, with a mutex of its own.
    let begin = || {
        let (next, (begins, begun)) = (shared.clone(), mpsc::channel());
        let next = std::thread::spawn(move || {
            let guard = next.2.lock().unwrap();
            begins.send(()).unwrap();
            !next.1.wait_timeout(guard, limit).unwrap().1.timed_out()
        });
        begun.recv().unwrap();
        drop(shared.2.lock().unwrap());
        next
    };
    let guard = shared.0.lock().unwrap();
    let next = if to_all {
        shared.1.notify_all();
        wait_until_it_waits_for(&runtime, gvt::WaitReason::Mutex);
        begin()
    } else {
        let next = begin();
        shared.1.notify_one();
        wait_until_it_waits_for(&runtime, gvt::WaitReason::Mutex);
        next
    };
    runtime.shutdown();
    drop(guard);
    assert_eq!(next.join().unwrap(), !to_all);
}
