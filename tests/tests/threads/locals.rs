//! Green-thread locals, and what a thread knows of itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{Builder, Priority, Runtime, SchedulerConfig, gvt_local};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

gvt_local! {
    static COUNT: Cell<u64> = Cell::new(7);
    static WORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static SHARED: Rc<Cell<u32>> = Rc::new(Cell::new(0));
}

/// Each thread has its own, through yields and sleeps and on whichever worker it goes on on.
#[rstest]
fn values_go_with_their_thread(#[values(1, 2, 8)] workers: usize) {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(|| {
        let threads = (0..64_u64).map(|i| {
            gvt::spawn(move |_| {
                assert_eq!(COUNT.get(), 7);
                COUNT.set(i);
                let rc = SHARED.with(Rc::clone);
                for round in 0..50 {
                    WORDS.with_borrow_mut(|words| words.push(format!("{i} {round}")));
                    match (i + round) % 5 {
                        0 => gvt::sleep_us(50),
                        1 => gvt::blocking(|| rc.set(rc.get() + 1)),
                        _ => gvt::yield_now(),
                    }
                    assert_eq!(COUNT.get(), i + round);
                    COUNT.with(|count| {
                        let seen = count.get();
                        gvt::yield_now();
                        count.set(seen + 1);
                    });
                }
                SHARED.with(|shared| assert_eq!(shared.get(), 10));
                let words = WORDS.take();
                assert!(words.iter().enumerate().all(|(round, word)| *word == format!("{i} {round}")));
            })
        });
        gvt::join_all(threads).into_iter().for_each(|thread| thread.unwrap());
    });
    assert_eq!(COUNT.get(), 7, "an OS thread has its own");
    COUNT.set(1);
    std::thread::spawn(|| assert_eq!(COUNT.get(), 7)).join().unwrap();
    assert_eq!(COUNT.get(), 1);
}

struct Noted(&'static AtomicUsize);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Dropped on their thread, before its join, however it ends.
#[test]
fn values_are_dropped_at_the_end() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    gvt_local! {
        static NOTED: Noted = Noted(&DROPPED);
    }
    let runtime = runtime(2);
    runtime.block_on(|| {
        for i in 1..=20 {
            let thread = gvt::spawn(move |_| {
                NOTED.with(|_| {});
                gvt::yield_now();
                assert!(i % 4 != 0, "meant");
            });
            assert_eq!(thread.join().is_err(), i % 4 == 0);
            assert_eq!(DROPPED.load(SeqCst), i);
        }
    });
    // Unwound by a shutdown.
    runtime.handle().spawn(|_| {
        NOTED.with(|_| {});
        gvt::channel::never::<()>().recv()
    });
    std::thread::sleep(std::time::Duration::from_millis(3));
    runtime.shutdown();
    assert_eq!(DROPPED.load(SeqCst), 21);
    std::thread::spawn(|| NOTED.with(|_| {})).join().unwrap();
    assert_eq!(DROPPED.load(SeqCst), 22);
}

thread_local! {
    static HERE: Cell<u8> = const { Cell::new(0) };
}

/// Destructors may wait, use other locals, make new ones, and panic.
#[test]
fn destructors_may_do_anything() {
    static ORDER: gvt::SchedMutex<Vec<&str>> = gvt::SchedMutex::new(Vec::new());
    struct First;
    impl Drop for First {
        fn drop(&mut self) {
            ORDER.lock().push("first");
        }
    }
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            ORDER.lock().push("late");
        }
    }
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            let id = gvt::current_id();
            gvt::sleep_us(200);
            assert_eq!(gvt::spawn(|_| 1).join().unwrap(), 1);
            assert_eq!(gvt::current_id(), id);
            FIRST.with(|_| ());
            LATE.with(|_| ());
            assert!(BUSY.try_with(|_| ()).is_err(), "on its way out");
            ORDER.lock().push("busy");
        }
    }
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            ORDER.lock().push("bad");
            panic!("meant");
        }
    }
    gvt_local! {
        static FIRST: First = First;
        static LATE: Late = Late;
        static BUSY: Busy = Busy;
        static BAD: Bad = Bad;
    }
    runtime(2).block_on(|| {
        let thread = gvt::spawn(|_| {
            FIRST.with(|_| ());
            BUSY.with(|_| ());
            BAD.with(|_| ());
            HERE.set(1);
            "result"
        });
        assert_eq!(thread.join().unwrap(), "result", "a destructor's panic changes nothing");
        assert_eq!(*ORDER.lock(), ["bad", "busy", "late", "first"]);
    });
}

#[test]
fn making_one_may_fail() {
    gvt_local! {
        static NEVER: u8 = panic!("meant");
        static ITSELF: u8 = ITSELF.with(|itself| *itself);
        static WAITS: u64 = {
            gvt::sleep_us(100);
            gvt::current_id().map_or(0, |id| id.as_u64())
        };
    }
    let try_all = || {
        for _ in 0..2 {
            assert!(std::panic::catch_unwind(|| NEVER.with(|_| ())).is_err());
        }
        assert!(std::panic::catch_unwind(|| ITSELF.with(|_| ())).is_err());
        assert_eq!(WAITS.with(|id| *id), gvt::current_id().map_or(0, |id| id.as_u64()));
    };
    try_all();
    runtime(2).block_on(try_all);
}

#[test]
fn a_thread_knows_itself() {
    assert!(gvt::current().is_none());
    runtime(2).block_on(|| {
        let builder = Builder::new().name("it").priority(Priority::High);
        let handle = builder.spawn(|_| (gvt::current().unwrap(), gvt::current_id().unwrap())).unwrap();
        let outside = handle.thread();
        let (thread, id) = handle.join().unwrap();
        assert_eq!((thread.id(), thread.name(), thread.priority()), (id, Some("it"), Priority::High));
        assert_eq!(thread, outside);
        thread.token().cancel();
        assert!(outside.token().is_cancelled());
        assert_eq!(format!("{thread:?}"), format!("Thread {{ id: {id:?}, name: Some(\"it\"), .. }}"));
        assert_ne!(gvt::current().unwrap(), thread);
    });
}

/// Values are let go of when a thread is forced off in the middle of using them, and comes back.
#[test]
fn values_survive_forced_preemption() {
    use std::time::{Duration, Instant};
    let config = SchedulerConfig::default().num_workers(1).time_slice(Duration::from_millis(1));
    let runtime = Runtime::new(config);
    let sum = Arc::new(AtomicUsize::new(0));
    runtime.block_on(|| {
        let threads = (0..6_u64).map(|i| {
            let sum = sum.clone();
            gvt::spawn(move |_| {
                let begin = Instant::now();
                COUNT.set(i);
                while begin.elapsed() < Duration::from_millis(25) {
                    COUNT.with(|count| {
                        let seen = count.get();
                        std::hint::black_box(&seen);
                        assert_eq!(seen % 6, i);
                        count.set(seen + 6);
                    });
                }
                sum.fetch_add(1, SeqCst);
            })
        });
        gvt::join_all(threads).into_iter().for_each(|thread| thread.unwrap());
    });
    assert_eq!(sum.load(SeqCst), 6);
    assert!(runtime.counters().forced_preemptions > 0);
}

/// A destructor uses locals that are alive, and new ones; on green threads and on OS threads.
#[rstest]
fn destructors_use_locals(#[values(true, false)] green: bool) {
    struct Probe(std::sync::mpsc::Sender<(Result<u8, gvt::AccessError>, Result<u8, gvt::AccessError>)>);
    impl Drop for Probe {
        fn drop(&mut self) {
            let _ = self.0.send((OLDER.try_with(Cell::get), UNUSED.try_with(Cell::get)));
        }
    }
    gvt_local! {
        static OLDER: Cell<u8> = Cell::new(1);
        static UNUSED: Cell<u8> = Cell::new(2);
        static PROBE: RefCell<Option<Probe>> = RefCell::new(None);
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let run = move || {
        OLDER.set(3);
        PROBE.set(Some(Probe(sender)));
    };
    match green {
        true => runtime(1).block_on(|| gvt::spawn(move |_| run()).join().unwrap()),
        false => std::thread::spawn(run).join().unwrap(),
    }
    assert_eq!(receiver.recv(), Ok((Ok(3), Ok(2))));
}

/// A scope's threads have dropped theirs when it returns, whether they were joined or not, and what their
/// results' destructors have made.
#[rstest]
fn values_are_dropped_before_a_scope_ends(
    #[values(1, 2)] workers: usize,
    #[values(false, true)] named: bool,
) {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            gvt::sleep_us(200);
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    /// Makes the local anew when it is dropped.
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            SLOW.with(|_| ());
        }
    }
    gvt_local! {
        static SLOW: Slow = Slow;
    }
    static ONE_CASE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE_CASE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    runtime(workers).block_on(|| {
        for _ in 0..20 {
            let before = DROPPED.load(SeqCst);
            gvt::scope(|s| {
                let run = |_: &gvt::CancellationToken| SLOW.with(|_| ());
                if named {
                    s.spawn_builder(Builder::new().name("scoped"), run).unwrap();
                } else {
                    s.spawn(run);
                }
            });
            assert_eq!(DROPPED.load(SeqCst), before + 1, "not joined");
            gvt::scope(|s| s.spawn(|_| SLOW.with(|_| ())).join().unwrap());
            assert_eq!(DROPPED.load(SeqCst), before + 2, "joined");
            gvt::scope(|s| drop(s.spawn(|_| SLOW.with(|_| Late))));
            assert!(DROPPED.load(SeqCst) >= before + 3, "a result that nobody takes");
            DROPPED.store(0, SeqCst);
        }
    });
}
