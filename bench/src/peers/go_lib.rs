//! go-lib: a port of Go's scheduler. It has no join, no mutex and no time limit on a receive; its own
//! idiom for the first two is a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use go_lib::chan::{Receiver, Sender, chan};

use super::green::{Ends, Green};

/// go-lib's goroutines and channels.
pub struct GoLib;

/// A sender that closes the channel when its last clone goes, as the work expects.
pub struct Closing<T: Send + 'static>(Arc<CloseOnDrop<T>>);

struct CloseOnDrop<T: Send + 'static>(Sender<T>);

impl<T: Send + 'static> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A number behind a channel of capacity 1: who takes the token out may touch the number.
pub struct TokenLock {
    put: Sender<()>,
    take: Receiver<()>,
    number: AtomicU64,
}

impl Green for GoLib {
    type Handle<T: Send + 'static> = Receiver<T>;
    type Sender<T: Send + 'static> = Closing<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Mutex = TokenLock;

    fn enter<R: Send + 'static>(
        workers: usize,
        _variant: &[&str],
        main: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        // SAFETY: nothing else runs in this process yet that could read the environment.
        unsafe { std::env::set_var("GOMAXPROCS", workers.to_string()) };
        go_lib::__main_entry(main)
    }

    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (to, from) = chan(1);
        go_lib::go!(move || to.send(body()));
        from
    }

    fn join<T: Send + 'static>(handle: Receiver<T>) -> T {
        handle.recv().expect("no panic")
    }

    fn detach(body: impl FnOnce() + Send + 'static) {
        go_lib::go!(body);
    }

    fn yield_now() {
        go_lib::gosched();
    }

    fn sleep(duration: Duration) {
        go_lib::sleep(duration);
    }

    fn channel<T: Send + 'static>(capacity: usize, _ends: Ends) -> (Closing<T>, Receiver<T>) {
        let (to, from) = chan(capacity);
        (Closing(Arc::new(CloseOnDrop(to))), from)
    }

    fn clone_sender<T: Send + 'static>(of: &Closing<T>) -> Closing<T> {
        Closing(of.0.clone())
    }

    fn clone_receiver<T: Send + 'static>(of: &Receiver<T>) -> Receiver<T> {
        of.clone()
    }

    fn send<T: Send + 'static>(to: &Closing<T>, message: T) {
        to.0.0.send(message);
    }

    fn recv<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.recv()
    }

    fn recv_timeout<T: Send + 'static>(_from: &Receiver<T>, _limit: Duration) -> Option<T> {
        panic!("go-lib has no receive with a limit");
    }

    fn mutex() -> Arc<TokenLock> {
        let (put, take) = chan(1);
        put.send(());
        Arc::new(TokenLock { put, take, number: AtomicU64::new(0) })
    }

    fn add_one(mutex: &TokenLock) -> u64 {
        mutex.take.recv();
        // Relaxed: the channel orders its holders.
        let sum = mutex.number.load(Relaxed) + 1;
        mutex.number.store(sum, Relaxed);
        mutex.put.send(());
        sum
    }
}
