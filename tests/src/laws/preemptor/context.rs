//! P7 and P8: what the hook sees, and OS threads that were born deaf.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use gvt_traits::{Factory, OsThreadId, Preemptor, Strength};

use super::stage::{IN_R10, Stage, eventually};
use super::{calls, refuses, violation, weaker_ones_refuse};
use crate::Verdict;

/// Keeps [`IN_R10`] in r10 until that changes or `*stop` does; what is in r10 then.
fn watch_r10(stop: &AtomicBool) -> u64 {
    let mut r10 = IN_R10;
    // SAFETY: reads one valid byte again and again.
    unsafe {
        std::arch::asm!(
            "2:",
            "cmp r10, r11",
            "jne 3f",
            "pause",
            "cmp byte ptr [{stop}], 0",
            "je 2b",
            "3:",
            stop = in(reg) stop.as_ptr(),
            inout("r10") r10,
            in("r11") IN_R10,
            options(nostack, readonly),
        );
    }
    r10
}

/// Ends the OS thread of a law, however the law ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// P7: a register that the hook changes in its context is changed in the interrupted code.
pub fn p7_context<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    let (stop, seen, thread) = (AtomicBool::new(false), AtomicBool::new(false), AtomicI32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no preconditions.
            thread.store(unsafe { libc::gettid() }, SeqCst);
            while !stop.load(SeqCst) {
                if watch_r10(&stop) == IN_R10 + 1 {
                    seen.store(true, SeqCst);
                }
            }
        });
        let _stop = Stop(&stop);
        eventually(|| thread.load(SeqCst) != 0);
        for _ in 0..200 {
            let before = calls(0);
            if !backend.interrupt(OsThreadId(thread.load(SeqCst))) || !eventually(|| calls(0) > before) {
                return violation("P2", "the hook did not run on a running OS thread");
            }
            if seen.load(SeqCst) {
                return Ok(());
            }
        }
        match eventually(|| seen.load(SeqCst)) {
            true => Ok(()),
            false => {
                violation("P7", "the hook changed r10 in its context, and the interrupted code saw nothing")
            }
        }
    })
}

/// P8: an OS thread that was created with every signal blocked is interrupted once it has entered.
pub fn p8_ready<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    let (stop, thread) = (AtomicBool::new(false), AtomicI32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As if inherited.
            // SAFETY: a set made here.
            unsafe {
                let mut all = MaybeUninit::uninit();
                libc::sigfillset(all.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
            }
            backend.enter_thread();
            // SAFETY: no preconditions.
            thread.store(unsafe { libc::gettid() }, SeqCst);
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        let _stop = Stop(&stop);
        eventually(|| thread.load(SeqCst) != 0);
        let sent = backend.interrupt(OsThreadId(thread.load(SeqCst)));
        match sent && eventually(|| calls(0) > 0) {
            true => Ok(()),
            false => violation("P8", "an OS thread that inherited a signal mask was not interrupted"),
        }
    })
}
