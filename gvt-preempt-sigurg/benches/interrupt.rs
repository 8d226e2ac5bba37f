//! What an interrupt costs: `cargo bench -p gvt-preempt-sigurg --bench interrupt`.
//!
//! Beside each figure its floor, the same with a bare `tgkill` and an empty handler; medians of interleaved
//! rounds. The hook does nothing.

use std::ffi::c_void;
use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Instant;

use gvt_preempt_sigurg::Sigurg;
use gvt_traits::{Factory, Interrupted, OsThreadId, Plan, Preemptor};

static HOOKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn hook(_context: *mut c_void) -> Interrupted {
    // Relaxed, here and below: a count.
    HOOKS.fetch_add(1, Relaxed);
    Interrupted::Taken
}

extern "C" fn bare(_signal: i32) {
    HOOKS.fetch_add(1, Relaxed);
}

/// ns an interrupt of `thread`, from asking to the hook's end (and back, if it is oneself).
fn each(thread: i32, interrupt: impl Fn(i32)) -> f64 {
    const COUNT: usize = 2000;
    let start = Instant::now();
    for _ in 0..COUNT {
        let before = HOOKS.load(Relaxed);
        interrupt(thread);
        while HOOKS.load(Relaxed) == before {
            spin_loop();
        }
    }
    start.elapsed().as_nanos() as f64 / COUNT as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let backend = Sigurg.build(&Plan::new(1, 1)).expect("nothing is refused");
    // SAFETY: C1: the hook counts, and lives as long as the program.
    unsafe { backend.attach(hook) }.expect("SIGURG can be handled");
    // SAFETY: a valid record; the handler counts.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        let handler: extern "C" fn(i32) = bare;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }

    static STOP: AtomicBool = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let spinner = std::thread::spawn(move || {
        // SAFETY: no preconditions.
        sender.send(unsafe { libc::gettid() }).expect("the bench waits");
        while !STOP.load(Relaxed) {
            spin_loop();
        }
    });
    let other = receiver.recv().expect("the spinner starts");
    // SAFETY: no preconditions.
    let (this, pid) = unsafe { (libc::gettid(), libc::getpid()) };

    // SAFETY: SIGUSR1 has a handler.
    let floor = |thread: i32| unsafe { _ = libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGUSR1) };
    let ours = |thread| assert!(backend.interrupt(OsThreadId(thread)));
    let mut figures: [Vec<f64>; 4] = Default::default();
    for _ in 0..15 {
        figures[0].push(each(this, floor));
        figures[1].push(each(this, ours));
        figures[2].push(each(other, floor));
        figures[3].push(each(other, ours));
    }
    STOP.store(true, Relaxed);
    spinner.join().expect("the spinner does not panic");
    backend.detach();

    println!("{:34} {:>8} {:>8}", "ns an interrupt", "tgkill", "Sigurg");
    let [self_floor, self_ours, other_floor, other_ours] = figures.map(median);
    println!("{:34} {self_floor:8.0} {self_ours:8.0}", "of oneself, there and back");
    println!("{:34} {other_floor:8.0} {other_ours:8.0}", "of a computing OS thread, to hook");
}
