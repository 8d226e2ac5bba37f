//! Reports of deadlocks, and listings of threads.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gvt::{Builder, DeadlockReport, GvtState, Priority, Runtime, SchedulerConfig, WaitReason, sync};
use gvt_conformance::process::{Child, becomes};
use rstest::rstest;

/// Against a hang only.
const LONG: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(30);

fn watched(workers: usize) -> (Runtime, Receiver<DeadlockReport>) {
    let config = SchedulerConfig::default().num_workers(workers).deadlock_report(QUIET);
    let runtime = Runtime::new(config);
    let (sender, reports) = channel();
    runtime.on_deadlock(move |report| sender.send(report.clone()).unwrap());
    (runtime, reports)
}

/// Two threads, each with the mutex that the other wants, while a third waits for both.
fn lock_crosswise(runtime: &Runtime) {
    let mutexes = Arc::new([sync::Mutex::new(()), sync::Mutex::new(())]);
    let barrier = Arc::new(sync::Barrier::new(2));
    let threads: Vec<_> = (0..2)
        .map(|i| {
            let (mutexes, barrier) = (mutexes.clone(), barrier.clone());
            let run = move |_: &gvt::CancellationToken| {
                let _one = mutexes[i].lock();
                barrier.wait();
                let _other = mutexes[1 - i].lock();
            };
            runtime.handle().spawn_builder(Builder::new().name(format!("locker {i}")), run).unwrap()
        })
        .collect();
    runtime.handle().spawn(move |_| threads.into_iter().for_each(|thread| drop(thread.join())));
}

#[rstest]
fn a_deadlock_is_reported_once(#[values(1, 2, 8)] workers: usize) {
    let (runtime, reports) = watched(workers);
    lock_crosswise(&runtime);
    let report = reports.recv_timeout(LONG).unwrap();
    assert_eq!(report.quiet_for, QUIET);
    let reasons: Vec<_> = report.threads.iter().map(|thread| thread.reason.unwrap()).collect();
    assert_eq!(reasons, [WaitReason::Mutex, WaitReason::Mutex, WaitReason::Join]);
    let text = report.to_string();
    for words in ["all 3 green threads wait", "'locker 0': blocked on mutex for about 0.", "'locker 1'"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(reports.recv_timeout(QUIET * 4).is_err(), "once");
    // Something else goes on, and ends: they are still the same.
    runtime.block_on(|| gvt::sleep(QUIET));
    assert!(reports.recv_timeout(QUIET * 4).is_err());
    runtime.shutdown();
}

/// Who has moved meanwhile is reported anew.
#[test]
fn another_deadlock_is_another_report() {
    let (runtime, reports) = watched(2);
    let (sender, receiver) = gvt::channel::<()>(0);
    runtime.handle().spawn(move |_| while receiver.recv().is_ok() {});
    for _ in 0..3 {
        let report = reports.recv_timeout(LONG).unwrap();
        assert_eq!(report.threads.len(), 1);
        assert!(report.to_string().contains("the one green thread waits"), "{report}");
        sender.send(()).unwrap();
    }
    drop(sender);
}

/// Who moves while a report is made, and waits again before that is done, is reported anew.
#[test]
fn a_deadlock_during_a_report_is_another_report() {
    let (runtime, _) = watched(2);
    let (report, reports) = channel();
    let (sender, receiver) = gvt::channel::<()>(0);
    let again = Mutex::new(Some(sender.clone()));
    runtime.on_deadlock(move |_| {
        report.send(()).unwrap();
        if let Some(sender) = again.lock().unwrap().take() {
            sender.send(()).unwrap();
            // It waits again before this is over.
            std::thread::sleep(QUIET);
        }
    });
    runtime.handle().spawn(move |_| while receiver.recv().is_ok() {});
    for _ in 0..2 {
        reports.recv_timeout(LONG).unwrap();
    }
    drop(sender);
}

/// What is no deadlock: nobody there, a sleeper, a system call, an OS thread's `block_on`.
#[test]
fn what_will_go_on_is_not_reported() {
    let (runtime, reports) = watched(2);
    assert!(reports.recv_timeout(QUIET * 4).is_err(), "nobody is there");
    let (sender, receiver) = gvt::channel::<()>(0);
    runtime.handle().spawn(move |_| receiver.recv());
    let sleeper = runtime.handle().spawn(|_| gvt::sleep(QUIET * 6));
    assert!(reports.recv_timeout(QUIET * 4).is_err(), "a sleeper may wake the other");
    sleeper.join().unwrap();
    assert_eq!(reports.recv_timeout(LONG).unwrap().threads.len(), 1);
    runtime.block_on(|| gvt::blocking(|| std::thread::sleep(QUIET * 6)));
    assert!(reports.try_recv().is_err(), "a blocking call may wake the other");
    let limited = runtime.handle().spawn(|_| gvt::channel::never::<()>().recv_timeout(QUIET * 6));
    assert!(reports.recv_timeout(QUIET * 4).is_err(), "a deadline will end the wait");
    drop(limited.join());
    drop(sender);
}

#[test]
fn a_report_goes_to_stderr() {
    let child = Child::of("a_report_goes_to_stderr");
    let ended = child.run(|| {
        let runtime = Runtime::new(SchedulerConfig::default().num_workers(1).deadlock_report(QUIET));
        let stuck = gvt::channel::bounded::<()>(0).1;
        let ends = gvt::channel::bounded::<()>(0);
        runtime.handle().spawn_builder(Builder::new().name("waits"), move |_| ends.1.recv()).unwrap();
        drop(stuck);
        std::thread::sleep(Duration::from_millis(500));
        drop(ends.0);
    });
    ended.complained("Unless an OS thread or another runtime wakes").succeeded();
}

#[test]
fn threads_are_listed() {
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(2));
    let (sender, receiver) = gvt::channel::<()>(0);
    let handle = runtime.handle();
    let builder = Builder::new().name("receiver").priority(Priority::High);
    let thread = handle.spawn_builder(builder, move |_| receiver.recv()).unwrap();
    handle.spawn_builder(Builder::new().name("sleeper"), |_| gvt::sleep(LONG * 60)).unwrap();
    assert!(becomes(|| runtime.threads().iter().all(|thread| thread.state == GvtState::Blocked)));
    let threads = runtime.threads();
    assert_eq!(threads.len(), 2);
    let one = threads.iter().find(|info| info.id == thread.id()).unwrap();
    assert_eq!((one.name.as_deref(), one.priority), (Some("receiver"), Priority::High));
    assert_eq!((one.reason, one.wakes_in), (Some(WaitReason::ChannelRecv), None));
    let other = threads.iter().find(|info| info.id != thread.id()).unwrap();
    assert_eq!(other.reason, Some(WaitReason::Sleep));
    assert!(other.wakes_in.unwrap() > LONG);
    let dump = runtime.dump();
    assert!(dump.starts_with("gvt: 2 green threads\n  green thread"), "{dump}");
    assert!(dump.contains("'sleeper': blocked on sleep for about"), "{dump}");
    let counts = |ways: [&str; 2]| ways.iter().any(|way| dump.ends_with(&format!("\n  in all: {way}")));
    let (sleep, receive) = ("1 blocked on sleep", format!("1 blocked on {}", WaitReason::ChannelRecv.name()));
    assert!(counts([&format!("{sleep}, {receive}"), &format!("{receive}, {sleep}")]), "{dump}");
    drop(sender);
    drop(thread.join());
    runtime.shutdown();
}

/// A hook may set another, which gets the next report.
#[test]
fn a_hook_sets_another() {
    let (runtime, reports) = watched(1);
    let runtime = Arc::new(runtime);
    let (sender, second) = channel();
    let (first, weak) = (std::sync::Mutex::new(Some(sender)), Arc::downgrade(&runtime));
    runtime.on_deadlock(move |_| {
        let sender = first.lock().unwrap().take().expect("the first hook is called once");
        let runtime = weak.upgrade().expect("the test holds it");
        runtime.on_deadlock(move |report| sender.send(report.clone()).unwrap());
    });
    assert!(reports.recv().is_err(), "the hook before has been dropped");
    let (stop, stopped) = gvt::channel::<()>(0);
    for round in 0..2 {
        let stopped = stopped.clone();
        runtime.handle().spawn(move |_| stopped.recv());
        if round == 1 {
            second.recv_timeout(LONG).expect("the monitor goes on");
        } else {
            // The first report is the first hook's.
            assert!(becomes(|| Arc::strong_count(&runtime) == 1 && runtime.live_threads() == 1));
            std::thread::sleep(4 * QUIET);
        }
    }
    drop(stop);
    let runtime = Arc::into_inner(runtime).expect("the hook holds it for a moment only");
    runtime.shutdown();
}
