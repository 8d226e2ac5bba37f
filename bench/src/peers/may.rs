//! may: stackful coroutines on generators, 32 KiB of stack, not preemptible.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use may::coroutine::{self, JoinHandle};
use may::go;
use may::sync::{mpmc, mpsc, spsc};

use super::green::{Ends, Green};

/// may's coroutines with its own locks and channels; all of these are unbounded.
pub struct May;

/// The sending ends of its three kinds of channel.
pub enum Sender<T> {
    Spsc(spsc::Sender<T>),
    Mpsc(mpsc::Sender<T>),
    Mpmc(mpmc::Sender<T>),
}

/// The receiving ends.
pub enum Receiver<T> {
    Spsc(spsc::Receiver<T>),
    Mpsc(mpsc::Receiver<T>),
    Mpmc(mpmc::Receiver<T>),
}

impl Green for May {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Mutex = may::sync::Mutex<u64>;

    fn enter<R: Send + 'static>(
        workers: usize,
        _variant: &[&str],
        main: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        may::config().set_workers(workers);
        let result = Arc::new(Mutex::new(None));
        let place = result.clone();
        let main = go!(move || {
            let answer = main();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        });
        main.join().expect("no panic");
        result.lock().unwrap_or_else(PoisonError::into_inner).take().expect("main ended")
    }

    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        go!(body)
    }

    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("no panic")
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn sleep(duration: Duration) {
        coroutine::sleep(duration);
    }

    fn channel<T: Send + 'static>(_capacity: usize, ends: Ends) -> (Sender<T>, Receiver<T>) {
        match ends {
            Ends::OneToOne => {
                let (to, from) = spsc::channel();
                (Sender::Spsc(to), Receiver::Spsc(from))
            }
            Ends::ManyToOne => {
                let (to, from) = mpsc::channel();
                (Sender::Mpsc(to), Receiver::Mpsc(from))
            }
            Ends::ManyToMany => {
                let (to, from) = mpmc::channel();
                (Sender::Mpmc(to), Receiver::Mpmc(from))
            }
        }
    }

    fn clone_sender<T: Send + 'static>(of: &Sender<T>) -> Sender<T> {
        match of {
            Sender::Spsc(_) => unreachable!("one sender"),
            Sender::Mpsc(to) => Sender::Mpsc(to.clone()),
            Sender::Mpmc(to) => Sender::Mpmc(to.clone()),
        }
    }

    fn clone_receiver<T: Send + 'static>(of: &Receiver<T>) -> Receiver<T> {
        match of {
            Receiver::Mpmc(from) => Receiver::Mpmc(from.clone()),
            Receiver::Spsc(_) | Receiver::Mpsc(_) => unreachable!("one receiver"),
        }
    }

    fn send<T: Send + 'static>(to: &Sender<T>, message: T) {
        let sent = match to {
            Sender::Spsc(to) => to.send(message).is_ok(),
            Sender::Mpsc(to) => to.send(message).is_ok(),
            Sender::Mpmc(to) => to.send(message).is_ok(),
        };
        assert!(sent, "a receiver");
    }

    fn recv<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        match from {
            Receiver::Spsc(from) => from.recv().ok(),
            Receiver::Mpsc(from) => from.recv().ok(),
            Receiver::Mpmc(from) => from.recv().ok(),
        }
    }

    fn recv_timeout<T: Send + 'static>(from: &Receiver<T>, limit: Duration) -> Option<T> {
        match from {
            Receiver::Spsc(_) => unreachable!("spsc has no limit"),
            Receiver::Mpsc(from) => from.recv_timeout(limit).ok(),
            Receiver::Mpmc(from) => from.recv_timeout(limit).ok(),
        }
    }

    fn mutex() -> Arc<Self::Mutex> {
        Arc::new(may::sync::Mutex::new(0))
    }

    fn add_one(mutex: &Self::Mutex) -> u64 {
        let mut sum = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        *sum += 1;
        *sum
    }
}
