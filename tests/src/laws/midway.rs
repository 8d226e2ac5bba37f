//! An OS thread stopped in the middle of a backend's methods, wherever it may be, while another calls one that must not wait for
//! it (B6).
//!
//! **Method.** One OS thread works: it calls what may lock and allocate. A signal stops it, at whatever instruction it has come to,
//! inside the handler. Then another OS thread looks; it must come back while the first stands still. Many times over, so that a lock
//! that is held for any notable part of the work is met.
//!
//! **Limits.** A lock that is held for less than some thousandth of the work may be missed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use crate::{Verdict, Violation};

const RUN: u32 = 0;
const STOP: u32 = 1;
const STOPPED: u32 = 2;

/// What the handler does. One pair of OS threads at a time.
static GATE: AtomicU32 = AtomicU32::new(RUN);
static ONE: Mutex<()> = Mutex::new(());

/// Times that the worker is stopped.
const STOPS: usize = 300;
/// Long enough for a look on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(10);

fn pause() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000 };
    // SAFETY: `time` is valid, and nothing is asked for.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

extern "C" fn stop(_: libc::c_int) {
    // SAFETY: the OS thread's own.
    let errno = unsafe { *libc::__errno_location() };
    if GATE.compare_exchange(STOP, STOPPED, SeqCst, SeqCst).is_ok() {
        while GATE.load(SeqCst) == STOPPED {
            pause();
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn signal() -> libc::c_int {
    static INSTALL: Once = Once::new();
    let signal = libc::SIGRTMIN() + 7;
    INSTALL.call_once(|| {
        // SAFETY: zero is a valid `sigaction`; the handler does what is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = stop as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    });
    signal
}

/// `work` is called over and over by an OS thread that is stopped now and then; `look` by another meanwhile.
pub(super) fn looks_wait_for_nobody(
    what: &'static str,
    mut work: impl FnMut() + Send,
    look: impl Fn() + Send,
) -> Verdict {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = signal();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ask, asked) = channel::<()>();
        let (answer, answered) = channel::<()>();
        scope.spawn(move || {
            while asked.recv().is_ok() {
                look();
                let _ = answer.send(());
            }
        });
        let (begin, begun) = channel::<libc::pthread_t>();
        let done = &done;
        let worker = std::thread::Builder::new().spawn_scoped(scope, move || {
            // SAFETY: no preconditions.
            let _ = begin.send(unsafe { libc::pthread_self() });
            while !done.load(SeqCst) {
                work();
            }
        });
        let worker = worker.expect("an OS thread can be had");
        let thread = begun.recv().expect("it has begun");
        let mut verdict = Ok(());
        for _ in 0..STOPS {
            GATE.store(STOP, SeqCst);
            // SAFETY: the OS thread has not been joined.
            unsafe { libc::pthread_kill(thread, signal) };
            while GATE.load(SeqCst) == STOP && !worker.is_finished() {
                std::thread::yield_now();
            }
            let _ = ask.send(());
            let seen = answered.recv_timeout(PATIENCE);
            GATE.store(RUN, SeqCst);
            if seen == Err(RecvTimeoutError::Timeout) {
                verdict = Err(Violation::new(
                    "B6",
                    format!("`{what}` waited for an OS thread that stood still in another method"),
                ));
                break;
            }
        }
        done.store(true, SeqCst);
        verdict
    })
}
