//! OS threads: what the kernel does.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel as channel;

use super::green::{Ends, Green};

/// std's threads and mutex, crossbeam's channels, 64 KiB of stack.
pub struct Os;

impl Green for Os {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = channel::Sender<T>;
    type Receiver<T: Send + 'static> = channel::Receiver<T>;
    type Mutex = Mutex<u64>;

    fn enter<R: Send + 'static>(
        workers: usize,
        _variant: &[&str],
        main: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        pin_to(workers);
        main()
    }

    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::Builder::new().stack_size(64 << 10).spawn(body).expect("an OS thread")
    }

    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("no panic")
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn sleep(duration: Duration) {
        // The kernel's default slack of 50 µs is a choice of the program, not a limit of the kernel.
        // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory of ours.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        thread::sleep(duration);
    }

    fn channel<T: Send + 'static>(capacity: usize, _ends: Ends) -> (Self::Sender<T>, Self::Receiver<T>) {
        channel::bounded(capacity)
    }

    fn clone_sender<T: Send + 'static>(of: &Self::Sender<T>) -> Self::Sender<T> {
        of.clone()
    }

    fn clone_receiver<T: Send + 'static>(of: &Self::Receiver<T>) -> Self::Receiver<T> {
        of.clone()
    }

    fn send<T: Send + 'static>(to: &Self::Sender<T>, message: T) {
        to.send(message).expect("a receiver");
    }

    fn recv<T: Send + 'static>(from: &Self::Receiver<T>) -> Option<T> {
        from.recv().ok()
    }

    fn recv_timeout<T: Send + 'static>(from: &Self::Receiver<T>, limit: Duration) -> Option<T> {
        from.recv_timeout(limit).ok()
    }

    fn mutex() -> Arc<Mutex<u64>> {
        Arc::default()
    }

    fn add_one(mutex: &Mutex<u64>) -> u64 {
        let mut sum = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        *sum += 1;
        *sum
    }
}

/// Confines this process to its first `cpus` CPUs: the kernel's own way of having that many workers.
fn pin_to(cpus: usize) {
    // SAFETY: `cpu_set_t` is plain data, for which all zeroes is a value.
    let (mut allowed, mut chosen): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `allowed` is a valid set of `size` bytes.
    unsafe { libc::sched_getaffinity(0, size, &mut allowed) };
    // SAFETY: CPU numbers below CPU_SETSIZE lie inside both sets.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) })
        .take(cpus)
        .for_each(|cpu| unsafe { libc::CPU_SET(cpu, &mut chosen) });
    // SAFETY: `chosen` is a valid set of `size` bytes.
    unsafe { libc::sched_setaffinity(0, size, &chosen) };
}
