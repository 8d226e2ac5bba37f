//! Locks and the like: what std documents for its own, on green threads, on OS threads, and on both at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{LazyLock as StdLazy, mpsc};
use std::time::{Duration, Instant};

use gvt::sync::{
    Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, RwLockWriteGuard, Semaphore,
    TryLockError, WaitGroup,
};
use gvt::{Runtime, SchedulerConfig};
use rstest::rstest;
use rstest_reuse::{apply, template};

/// Whose threads use a primitive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum World {
    Green,
    Os,
    Both,
}

#[template]
#[rstest]
fn worlds(#[values(World::Green, World::Os, World::Both)] world: World) {}

static RUNTIME: StdLazy<Runtime> = StdLazy::new(|| runtime(2));

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

enum Thread<T> {
    Green(gvt::JoinHandle<T>),
    Os(std::thread::JoinHandle<T>),
}

impl<T> Thread<T> {
    fn join(self) -> T {
        match self {
            Thread::Green(thread) => thread.join(),
            Thread::Os(thread) => thread.join(),
        }
        .unwrap()
    }
}

impl World {
    fn spawn<T: Send + 'static>(self, n: usize, f: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
        match self {
            World::Os => Thread::Os(std::thread::spawn(f)),
            World::Both if n.is_multiple_of(2) => Thread::Os(std::thread::spawn(f)),
            _ => Thread::Green(RUNTIME.handle().spawn(|_| f())),
        }
    }

    fn run<T: Send + 'static>(
        self,
        threads: usize,
        f: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let f = Arc::new(f);
        let threads: Vec<_> = (0..threads)
            .map(|n| {
                let f = f.clone();
                self.spawn(n, move || f(n))
            })
            .collect();
        threads.into_iter().map(Thread::join).collect()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[apply(worlds)]
fn a_mutex_excludes(world: World) {
    let total = Arc::new(Mutex::new(0u64));
    let seen = total.clone();
    world.run(8, move |n| {
        for i in 0..500 {
            let mut total = total.lock().unwrap();
            let before = *total;
            if i % 50 == n as u64 {
                gvt::yield_now();
            }
            *total = before + 1;
        }
    });
    assert_eq!(*seen.lock().unwrap(), 8 * 500);
}

#[apply(worlds)]
fn a_guard_may_be_held_over_a_sleep(world: World) {
    let mutex = Arc::new(Mutex::new(()));
    let begin = Instant::now();
    world.run(4, move |_| {
        let _guard = mutex.lock().unwrap();
        gvt::sleep(ms(2));
    });
    assert!(begin.elapsed() >= ms(8));
}

#[apply(worlds)]
fn a_panic_poisons_a_mutex(world: World) {
    let mutex = Arc::new(Mutex::new(1));
    let poisoner = mutex.clone();
    world.run(2, move |n| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = poisoner.lock().unwrap_or_else(|error| error.into_inner());
            *guard = 2;
            panic!("of thread {n}, on purpose");
        }));
        assert!(result.is_err());
    });
    assert!(mutex.is_poisoned());
    assert_eq!(**mutex.lock().unwrap_err().get_ref(), 2);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    mutex.clear_poison();
    assert_eq!(*mutex.try_lock().unwrap(), 2);
    let mut mutex = Arc::into_inner(mutex).unwrap();
    *mutex.get_mut().unwrap() = 3;
    assert_eq!(mutex.into_inner().unwrap(), 3);
}

#[test]
fn try_lock_does_not_wait() {
    let mutex = Mutex::new(1);
    let guard = mutex.lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    assert!(format!("{mutex:?}").contains("<locked>"));
    drop(guard);
    assert_eq!(format!("{:?}", mutex.try_lock().unwrap()), "1");
    assert_eq!(*Mutex::from("x").lock().unwrap(), "x");
}

#[cfg(debug_assertions)]
#[test]
fn locking_twice_panics() {
    let lock_twice = || {
        let mutex = Mutex::new(());
        let _once = mutex.lock().unwrap();
        drop(mutex.lock());
    };
    assert!(catch_unwind(lock_twice).is_err());
    assert!(RUNTIME.handle().spawn(move |_| lock_twice()).join().is_err());
}

#[cfg(debug_assertions)]
#[test]
fn locking_a_rwlock_twice_panics() {
    fn twice(read: bool) {
        let lock = RwLock::new(());
        let _once = lock.write().unwrap();
        match read {
            true => drop(lock.read()),
            false => drop(lock.write()),
        }
    }
    for read in [false, true] {
        assert!(catch_unwind(|| twice(read)).is_err());
        let joined = RUNTIME.handle().spawn(move |_| twice(read)).join();
        let words = *joined.unwrap_err().downcast::<&str>().unwrap();
        assert!(words.contains("locking it once more would wait for ever"), "{words}");
    }
    // Another thread's turn, and this one's again: none of it is refused.
    let lock = Arc::new(RwLock::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            RUNTIME.handle().spawn(move |_| {
                for _ in 0..100 {
                    let mut guard = lock.write().unwrap();
                    *guard += 1;
                    gvt::yield_now();
                    let guard = gvt::sync::RwLockWriteGuard::downgrade(guard);
                    gvt::yield_now();
                    drop(guard);
                    assert!(*lock.read().unwrap() > 0);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*lock.read().unwrap(), 400);
}

/// A guard may be on its way to another thread, so this is no panic.
#[cfg(debug_assertions)]
#[test]
fn locking_a_sched_mutex_twice_is_said() {
    use gvt_conformance::process::Child;
    let child = Child::of("locking_a_sched_mutex_twice_is_said");
    let ended = child.run(|| {
        let mutex: &'static _ = Box::leak(Box::new(gvt::SchedMutex::new(0)));
        let guard = mutex.lock();
        let thread = std::thread::spawn(move || {
            let mut guard = guard;
            std::thread::sleep(Duration::from_millis(20));
            *guard += 1;
        });
        *mutex.lock() += 1;
        thread.join().unwrap();
        assert_eq!(*mutex.lock(), 2);
    });
    ended.complained("locks a `SchedMutex` that it has locked already").succeeded();
}

/// One thread takes the mutex again and again and waits in between only while it has it.
#[apply(worlds)]
fn nobody_is_passed_over_for_ever(world: World) {
    let mutex = Arc::new(Mutex::new(()));
    let stop = Arc::new(AtomicBool::new(false));
    let greedy = {
        let (mutex, stop) = (mutex.clone(), stop.clone());
        world.spawn(1, move || {
            while !stop.load(Relaxed) {
                let _guard = mutex.lock().unwrap();
                gvt::sleep(Duration::from_micros(200));
            }
        })
    };
    let modest = world.spawn(0, move || {
        for _ in 0..5 {
            drop(mutex.lock().unwrap());
        }
        stop.store(true, Relaxed);
    });
    modest.join();
    greedy.join();
}

#[apply(worlds)]
fn readers_share_and_writers_exclude(world: World) {
    let lock = Arc::new(RwLock::new((0u64, 0u64)));
    let seen = lock.clone();
    let together = Arc::new(AtomicUsize::new(0));
    let reading = together.clone();
    world.run(6, move |n| {
        for _ in 0..200 {
            if n < 2 {
                let mut pair = lock.write().unwrap();
                assert_eq!(reading.load(SeqCst), 0);
                pair.0 += 1;
                gvt::yield_now();
                pair.1 += 1;
            } else {
                let pair = lock.read().unwrap();
                reading.fetch_add(1, SeqCst);
                assert_eq!(pair.0, pair.1);
                reading.fetch_sub(1, SeqCst);
            }
        }
    });
    assert_eq!(*seen.read().unwrap(), (400, 400));
}

#[apply(worlds)]
fn readers_read_at_once(world: World) {
    let lock = Arc::new(RwLock::new(()));
    let barrier = Arc::new(Barrier::new(4));
    world.run(4, move |_| {
        let _guard = lock.read().unwrap();
        barrier.wait();
    });
}

#[apply(worlds)]
fn a_waiting_writer_comes_before_later_readers(world: World) {
    let lock = Arc::new(RwLock::new(0));
    let first = lock.read().unwrap();
    let (order, seen) = mpsc::channel();
    let writer = {
        let (lock, order) = (lock.clone(), order.clone());
        world.spawn(0, move || {
            let mut value = lock.write().unwrap();
            *value += 1;
            order.send("written").unwrap();
        })
    };
    // Until it waits, reading is possible.
    while lock.try_read().is_ok() {
        std::thread::sleep(ms(1));
    }
    let reader = {
        let lock = lock.clone();
        world.spawn(1, move || {
            let value = *lock.read().unwrap();
            order.send("read").unwrap();
            value
        })
    };
    std::thread::sleep(ms(5));
    assert!(seen.try_recv().is_err());
    drop(first);
    writer.join();
    assert_eq!(reader.join(), 1);
    assert_eq!(seen.recv().unwrap(), "written");
}

#[test]
fn a_panic_of_a_writer_poisons_and_of_a_reader_does_not() {
    let lock = RwLock::new(1);
    let read = catch_unwind(|| {
        let _guard = lock.read().unwrap();
        panic!("of a reader, on purpose");
    });
    assert!(read.is_err() && !lock.is_poisoned());
    let written = catch_unwind(|| {
        let _guard = lock.write().unwrap();
        panic!("of a writer, on purpose");
    });
    assert!(written.is_err() && lock.is_poisoned());
    assert!(lock.read().is_err() && lock.write().is_err());
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    lock.clear_poison();
    assert_eq!(*lock.read().unwrap(), 1);
    let writer = lock.write().unwrap();
    assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    let reader = RwLockWriteGuard::downgrade(writer);
    assert_eq!(*lock.try_read().unwrap(), *reader);
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
}

#[apply(worlds)]
fn a_condvar_passes_a_token_around(world: World) {
    const THREADS: usize = 4;
    let state = Arc::new((Mutex::new(0usize), Condvar::new()));
    world.run(THREADS, move |n| {
        for round in 0..100 {
            let turn = round * THREADS + n;
            let mut now = state.1.wait_while(state.0.lock().unwrap(), |now| *now != turn).unwrap();
            *now += 1;
            state.1.notify_all();
        }
    });
}

#[apply(worlds)]
fn notify_one_wakes_one(world: World) {
    let state = Arc::new((Mutex::new((0usize, 0usize)), Condvar::new()));
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let state = state.clone();
            world.spawn(n, move || {
                let mut counts = state.0.lock().unwrap();
                counts.0 += 1;
                let mut counts = state.1.wait(counts).unwrap();
                counts.1 += 1;
            })
        })
        .collect();
    while state.0.lock().unwrap().0 < 3 {
        std::thread::sleep(ms(1));
    }
    state.1.notify_one();
    while state.0.lock().unwrap().1 < 1 {
        std::thread::sleep(ms(1));
    }
    std::thread::sleep(ms(5));
    assert_eq!(state.0.lock().unwrap().1, 1);
    state.1.notify_all();
    threads.into_iter().for_each(Thread::join);
    assert_eq!(state.0.lock().unwrap().1, 3);
}

#[apply(worlds)]
fn a_condvar_times_out(world: World) {
    world.run(2, move |_| {
        let state = (Mutex::new(0), Condvar::new());
        let begin = Instant::now();
        let (guard, result) = state.1.wait_timeout(state.0.lock().unwrap(), ms(5)).unwrap();
        assert!(result.timed_out() && begin.elapsed() >= ms(5));
        drop(guard);
        let (mut guard, result) =
            state.1.wait_timeout_while(state.0.lock().unwrap(), ms(5), |n| *n == 0).unwrap();
        assert!(result.timed_out());
        *guard += 1;
        let (_guard, result) = state.1.wait_timeout_while(guard, ms(5), |n| *n == 0).unwrap();
        assert!(!result.timed_out());
        state.1.notify_all();
    });
}

#[test]
fn a_condvar_returns_poison() {
    let state = Arc::new((Mutex::new(()), Condvar::new()));
    let other = state.clone();
    let guard = state.0.lock().unwrap();
    let poisoner = std::thread::spawn(move || {
        let _guard = other.0.lock().unwrap();
        other.1.notify_one();
        panic!("on purpose");
    });
    assert!(state.1.wait(guard).is_err());
    assert!(poisoner.join().is_err());
}

#[apply(worlds)]
fn a_barrier_lets_all_go_together(world: World) {
    const THREADS: usize = 5;
    let barrier = Barrier::new(THREADS);
    let come = AtomicUsize::new(0);
    let leaders: usize = world
        .run(THREADS, move |_| {
            (1..=50)
                .filter(|round| {
                    come.fetch_add(1, SeqCst);
                    let leads = barrier.wait().is_leader();
                    assert!(come.load(SeqCst) >= round * THREADS);
                    barrier.wait();
                    leads
                })
                .count()
        })
        .into_iter()
        .sum();
    assert_eq!(leaders, 50);
    assert!(Barrier::new(0).wait().is_leader());
}

#[apply(worlds)]
fn once_runs_once_and_all_see_it(world: World) {
    let once = Arc::new((Once::new(), AtomicUsize::new(0)));
    world.run(6, move |_| {
        once.0.call_once(|| {
            gvt::sleep(ms(2));
            once.1.fetch_add(1, Relaxed);
        });
        assert!(once.0.is_completed());
        assert_eq!(once.1.load(Relaxed), 1);
        once.0.wait();
    });
}

#[test]
fn a_panic_poisons_once() {
    let once = Once::new();
    assert!(catch_unwind(|| once.call_once(|| panic!("on purpose"))).is_err());
    assert!(catch_unwind(|| once.call_once(|| {})).is_err());
    once.call_once_force(|state| assert!(state.is_poisoned()));
    once.call_once(|| unreachable!("it has run"));
}

#[apply(worlds)]
fn a_once_lock_is_initialised_once(world: World) {
    let place = Arc::new(OnceLock::new());
    let waited = {
        let place = place.clone();
        world.spawn(0, move || *place.wait())
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let values = world.run(6, move |n| {
        *place.get_or_init(|| {
            runs.fetch_add(1, Relaxed);
            gvt::sleep(ms(2));
            n
        })
    });
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(waited.join(), values[0]);
}

#[test]
fn a_once_lock_keeps_what_it_was_given() {
    let mut place = OnceLock::<Box<i32>>::new();
    assert!(catch_unwind(AssertUnwindSafe(|| place.get_or_init(|| panic!("on purpose")).clone())).is_err());
    assert_eq!(place.set(Box::new(1)), Ok(()));
    assert_eq!(place.set(Box::new(2)), Err(Box::new(2)));
    **place.get_mut().unwrap() += 1;
    assert_eq!(place.clone().into_inner(), Some(Box::new(2)));
    assert_eq!(place.take(), Some(Box::new(2)));
    assert_eq!(place.get(), None);
    assert_eq!(OnceLock::from(1), OnceLock::from(1));
}

#[test]
fn a_lazy_lock_is_made_once() {
    static MADE: LazyLock<usize> = LazyLock::new(|| {
        gvt::sleep(ms(2));
        7
    });
    assert!(World::Both.run(4, |_| *MADE).into_iter().all(|value| value == 7));
    let fails = LazyLock::<(), _>::new(|| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(|| *fails)).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| *fails)).is_err());
}

#[apply(worlds)]
fn a_semaphore_admits_so_many(world: World) {
    let semaphore = Arc::new(Semaphore::new(3));
    let left = semaphore.clone();
    let inside = AtomicUsize::new(0);
    world.run(6, move |n| {
        for _ in 0..100 {
            let needed = 1 + n % 3;
            let permit = semaphore.acquire_many(needed);
            assert!(inside.fetch_add(needed, SeqCst) + needed <= 3);
            gvt::yield_now();
            inside.fetch_sub(permit.permits(), SeqCst);
        }
    });
    assert_eq!(left.available_permits(), 3);
}

#[apply(worlds)]
fn a_semaphore_gives_up_in_time(world: World) {
    let semaphore = Arc::new(Semaphore::new(1));
    let held = semaphore.acquire();
    {
        let semaphore = semaphore.clone();
        world.run(2, move |_| {
            assert!(semaphore.acquire_timeout(1, ms(3)).is_none());
            assert!(semaphore.try_acquire().is_none());
        });
    }
    drop(held);
    semaphore.acquire().forget();
    assert_eq!(semaphore.available_permits(), 0);
    semaphore.add_permits(2);
    assert_eq!(semaphore.acquire_owned(2).permits(), 2);
    assert_eq!(semaphore.try_acquire_many(2).unwrap().permits(), 2);
}

#[apply(worlds)]
fn a_wait_group_waits_for_all(world: World) {
    let group = WaitGroup::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let (group, ended) = (group.clone(), ended.clone());
            world.spawn(n, move || {
                gvt::sleep(ms(n as u64));
                ended.fetch_add(1, Relaxed);
                drop(group);
            })
        })
        .collect();
    group.wait();
    assert_eq!(ended.load(Relaxed), 6);
    threads.into_iter().for_each(Thread::join);
    WaitGroup::new().wait();
}

/// Waiters that a shutdown unwinds leave each primitive as if they had never come.
#[test]
fn a_shutdown_leaves_the_primitives_whole() {
    let mutex = Arc::new(Mutex::new(()));
    let lock = Arc::new(RwLock::new(()));
    let semaphore = Arc::new(Semaphore::new(0));
    let barrier = Arc::new(Barrier::new(2));
    let condvar = Arc::new((Mutex::new(()), Condvar::new()));
    let place = Arc::new(OnceLock::<()>::new());
    let group = WaitGroup::new();
    for _ in 0..5 {
        let (held, read) = (mutex.lock().unwrap(), lock.read().unwrap());
        let runtime = runtime(2);
        let waiting = Arc::new(AtomicUsize::new(0));
        let handle = runtime.handle();
        macro_rules! wait {
            ($($name:ident)+ => $wait:expr) => {{
                $(let $name = $name.clone();)+
                let waiting = waiting.clone();
                handle.spawn(move |_| {
                    waiting.fetch_add(1, SeqCst);
                    $wait
                });
            }};
        }
        wait!(mutex => drop(mutex.lock()));
        wait!(lock => drop(lock.write()));
        wait!(lock => drop(lock.read()));
        wait!(semaphore => semaphore.acquire().forget());
        wait!(barrier => {
            barrier.wait();
        });
        wait!(condvar => drop(condvar.1.wait(condvar.0.lock().unwrap())));
        wait!(place => {
            place.wait();
        });
        wait!(group => group.wait());
        while waiting.load(SeqCst) < 8 {
            std::thread::sleep(ms(1));
        }
        // The reader behind the writer may have come before it.
        runtime.shutdown();
        drop((held, read));
        assert!(mutex.try_lock().is_ok() && lock.try_write().is_ok() && condvar.0.try_lock().is_ok());
        semaphore.add_permits(1);
        semaphore.try_acquire().expect("nobody has taken it").forget();
    }
    place.set(()).unwrap();
    let other = barrier.clone();
    let leader = std::thread::spawn(move || other.wait().is_leader());
    assert!(barrier.wait().is_leader() ^ leader.join().unwrap());
    group.wait();
}

/// What std says of a value whose initialiser panicked: whoever asks for it panics, for ever.
#[test]
fn a_panic_poisons_a_lazy_lock() {
    let lazy: gvt::sync::LazyLock<u8> = gvt::sync::LazyLock::new(|| panic!("meant"));
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
    }
}

/// Poisoned values can still be had, through the error.
#[test]
fn poison_gives_the_value_out() {
    let (mut mutex, mut lock) = (Mutex::new(1), RwLock::new(2));
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let (_one, _two) = (mutex.lock().unwrap(), lock.write().unwrap());
        panic!("meant");
    }));
    assert!(panics.is_err() && mutex.is_poisoned() && lock.is_poisoned());
    assert_eq!(**mutex.lock().unwrap_err().get_ref(), 1);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert_eq!(
        (*mutex.get_mut().unwrap_err().into_inner(), *lock.get_mut().unwrap_err().into_inner()),
        (1, 2)
    );
    assert!(lock.read().is_err() && lock.try_write().is_err());
    mutex.clear_poison();
    assert_eq!(mutex.into_inner().unwrap(), 1);
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 2);
}
