//! An OS thread stopped in the middle of a backend's methods, wherever it may be, while another calls one
//! that must not wait for it (B6).
//!
//! **Method.** One OS thread works: it calls what may lock and allocate. A signal stops it, at whatever
//! instruction it has come to, inside the handler. Then another OS thread looks; it must come back while the
//! first stands still. Many times over, so that a lock that is held for any notable part of the work is met.
//!
//! **Limits.** A lock that is held for less than some thousandth of the work may be missed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::{Verdict, Violation};

const RUN: u32 = 0;
const STOP: u32 = 1;
const STOPPED: u32 = 2;

/// What the handler does. One pair of OS threads at a time.
static GATE: AtomicU32 = AtomicU32::new(RUN);
static ONE: Mutex<()> = Mutex::new(());

/// Times that the worker is stopped.
const STOPS: u32 = 300;
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
    let (asked, answered) = (AtomicU32::new(0), AtomicU32::new(0));
    let (done, pthread, turns) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (asked, answered, done, pthread, turns) = (&asked, &answered, &done, &pthread, &turns);
        scope.spawn(move || {
            while !done.load(SeqCst) {
                let question = asked.load(SeqCst);
                if question == answered.load(SeqCst) {
                    pause();
                    continue;
                }
                look();
                answered.store(question, SeqCst);
            }
        });
        let worker = scope.spawn(move || {
            // SAFETY: no preconditions.
            pthread.store(unsafe { libc::pthread_self() }, SeqCst);
            while !done.load(SeqCst) {
                work();
                turns.fetch_add(1, SeqCst);
            }
        });
        while pthread.load(SeqCst) == 0 {
            pause();
        }
        let mut verdict = Ok(());
        // From a stop to its end nothing is allocated here or by the one that looks: the one that stands
        // still may hold the allocator's lock.
        for stop in 1..=STOPS {
            // It goes on first: else it would be stopped where it stands.
            let turn = turns.load(SeqCst);
            while turns.load(SeqCst) == turn && !worker.is_finished() {
                pause();
            }
            GATE.store(STOP, SeqCst);
            // SAFETY: the OS thread has not been joined.
            unsafe { libc::pthread_kill(pthread.load(SeqCst) as libc::pthread_t, signal) };
            while GATE.load(SeqCst) == STOP && !worker.is_finished() {
                pause();
            }
            asked.store(stop, SeqCst);
            let begin = Instant::now();
            while answered.load(SeqCst) != stop && begin.elapsed() < PATIENCE {
                pause();
            }
            let seen = answered.load(SeqCst) == stop;
            GATE.store(RUN, SeqCst);
            if !seen {
                let what = format!("`{what}` waited for an OS thread that stood still in another method");
                verdict = Err(Violation::new("B6", what));
                break;
            }
        }
        done.store(true, SeqCst);
        verdict
    })
}
