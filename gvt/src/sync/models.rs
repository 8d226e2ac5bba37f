//! loom models of the primitives, on their own code.

use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicUsize, Ordering::*};
use loom::thread;
use std::sync::Arc;

use super::raw_condvar::{Notified, RawCondvar};
use super::raw_mutex::RawMutex;
use super::semaphore::RawSemaphore;
use super::wait_group::WaitGroup;
use crate::protocol::atomics::{Mutant, check, check_mutant};

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A mutex and what it guards.
struct Guarded {
    mutex: RawMutex,
    condvar: RawCondvar,
    value: loom::cell::UnsafeCell<usize>,
}

// SAFETY: the value is used under the mutex; the models check that.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Guarded {
            mutex: RawMutex::new(),
            condvar: RawCondvar::new(),
            value: loom::cell::UnsafeCell::new(0),
        })
    }

    fn add(&self, n: usize) {
        // SAFETY: under the mutex; loom checks it.
        self.value.with_mut(|value| unsafe { *value += n });
    }

    fn get(&self) -> usize {
        // SAFETY: under the mutex; loom checks it.
        self.value.with(|value| unsafe { *value })
    }
}

/// Three threads add under the mutex: none waits for ever, and each sees the others.
fn mutex_excludes() {
    explore(|| {
        let guarded = Guarded::new();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let guarded = guarded.clone();
                thread::spawn(move || {
                    guarded.mutex.lock();
                    guarded.add(1);
                    guarded.mutex.unlock();
                })
            })
            .collect();
        guarded.mutex.lock();
        guarded.add(1);
        guarded.mutex.unlock();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        guarded.mutex.lock();
        assert_eq!(guarded.get(), 3);
        guarded.mutex.unlock();
    });
}

/// One thread waits for a condition that another makes true.
fn condvar_notifies() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let thread = thread::spawn(move || {
            other.mutex.lock();
            other.add(1);
            other.mutex.unlock();
            other.condvar.notify_one();
        });
        guarded.mutex.lock();
        while guarded.get() == 0 {
            assert!(guarded.condvar.wait(|| guarded.mutex.unlock(), None) != Notified::Not);
            guarded.mutex.lock();
        }
        guarded.mutex.unlock();
        thread.join().unwrap();
    });
}

/// A wait with a deadline beside a notification: exactly one of them ends the wait.
fn condvar_times_out() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let thread = thread::spawn(move || other.condvar.notify_all());
        guarded.mutex.lock();
        let soon = Instant::now() + Duration::from_secs(1);
        guarded.condvar.wait(|| guarded.mutex.unlock(), Some(soon));
        thread.join().unwrap();
    });
}

/// Two threads share one permit.
fn semaphore_serves() {
    explore(|| {
        let semaphore = Arc::new(RawSemaphore::new(1));
        let other = semaphore.clone();
        let thread = thread::spawn(move || {
            assert!(other.acquire(1, None));
            other.release(1);
        });
        assert!(semaphore.acquire(1, None));
        semaphore.release(1);
        thread.join().unwrap();
        assert_eq!(semaphore.permits(), 1);
    });
}

/// One thread that needs two permits waits for two threads with one each; one of them gives up early.
fn semaphore_gathers() {
    explore(|| {
        let semaphore = Arc::new(RawSemaphore::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore.clone();
                thread::spawn(move || semaphore.release(1))
            })
            .collect();
        assert!(semaphore.acquire(2, None));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.permits(), 0);
    });
}

/// A group of two; one of them waits.
fn group_waits() {
    explore(|| {
        let group = WaitGroup::new();
        let other = group.clone();
        let value = Arc::new(AtomicUsize::new(0));
        let written = value.clone();
        let thread = thread::spawn(move || {
            written.store(1, Relaxed);
            drop(other);
        });
        group.wait();
        assert_eq!(value.load(Relaxed), 1);
        thread.join().unwrap();
    });
}

macro_rules! models {
    ($($model:ident $(/ $name:ident: $mutant:ident)*;)+) => {
        $(
            mod $model {
                use super::*;

                #[test]
                fn holds() {
                    check(super::$model);
                }

                $(
                    #[test]
                    fn $name() {
                        check_mutant(Mutant::$mutant, super::$model);
                    }
                )*
            }
        )+
    };
}

models! {
    mutex_excludes / mutant_uncontended_mark: UncontendedMark / mutant_unlock_blind: UnlockBlind;
    condvar_notifies / mutant_unlock_first: UnlockFirst;
    condvar_times_out;
    semaphore_serves / mutant_release_blind: ReleaseBlind;
    semaphore_gathers;
    group_waits / mutant_wait_blind: WaitBlind;
}
