//! X7: code that is diverted at any instruction.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gvt_traits::{ContextSwitch, StackBounds};

use crate::laws::preemptor::{Width, trash};
use crate::{Verdict, Violation};

static BOTTOM: AtomicUsize = AtomicUsize::new(0);
static TOP: AtomicUsize = AtomicUsize::new(0);
static DIVERTED: AtomicUsize = AtomicUsize::new(0);
static CALLED: AtomicUsize = AtomicUsize::new(0);
static MISALIGNED: AtomicUsize = AtomicUsize::new(0);

/// Wipes what a function may, and a little stack.
unsafe extern "C" fn callee() {
    let mut here = [0u128; 64];
    let place = std::hint::black_box(&mut here).as_ptr();
    if !place.is_aligned() {
        MISALIGNED.fetch_add(1, SeqCst);
    }
    trash();
    CALLED.fetch_add(1, SeqCst);
}

unsafe extern "C" fn handler<X: ContextSwitch>(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let bound = |place: &AtomicUsize| NonNull::new(place.load(SeqCst) as *mut u8).expect("set before");
    let stack = StackBounds { top: bound(&TOP), bottom: bound(&BOTTOM) };
    // SAFETY: C1: the kernel's context. C2: the stack of the OS thread that is signalled. C3: it holds
    // registers only.
    if unsafe { X::divert(context, stack, callee) } {
        DIVERTED.fetch_add(1, SeqCst);
    }
}

/// The calling OS thread's stack.
fn own_stack() -> (usize, usize) {
    let mut attributes = MaybeUninit::uninit();
    let (mut bottom, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: valid places; the attributes are destroyed.
    unsafe {
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()), 0);
        libc::pthread_attr_getstack(attributes.as_ptr(), &mut bottom, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    (bottom as usize, bottom as usize + size)
}

/// X7: all registers, flags and the red zone survive 0.3 s of diversions to a function that wipes what it
/// may; and each diversion calls it once. A backend that diverts nothing keeps it.
pub fn x7_diverted<X: ContextSwitch>(_: X) -> Verdict {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for count in [&DIVERTED, &CALLED, &MISALIGNED] {
        count.store(0, SeqCst);
    }
    let violation = |what: String| Err(Violation::new("X7", what));
    trash();
    // SAFETY: a valid record; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler::<X> as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
    }
    let (stop, thread) = (AtomicU32::new(0), AtomicI32::new(0));
    let ended = AtomicBool::new(false);
    let changed = std::thread::scope(|scope| {
        let target = scope.spawn(|| {
            let (bottom, top) = own_stack();
            BOTTOM.store(bottom, SeqCst);
            TOP.store(top, SeqCst);
            // SAFETY: no preconditions.
            thread.store(unsafe { libc::gettid() }, SeqCst);
            let changed = Width::here().spin(&stop);
            while !ended.load(SeqCst) {
                std::hint::spin_loop();
            }
            changed
        });
        while thread.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        // Until it is in the assembly.
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            // SAFETY: the OS thread is alive: it waits for `ended`.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.load(SeqCst), libc::SIGUSR2) };
            std::thread::sleep(Duration::from_micros(20));
        }
        stop.store(1, SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        ended.store(true, SeqCst);
        target.join().expect("it only spins")
    });
    let (diverted, called) = (DIVERTED.load(SeqCst), CALLED.load(SeqCst));
    if !changed.is_empty() {
        return violation(format!("after {diverted} diversions these were others: {}", changed.join(", ")));
    }
    if diverted != called {
        return violation(format!("{diverted} diversions called the function {called} times"));
    }
    match MISALIGNED.load(SeqCst) {
        0 => Ok(()),
        count => violation(format!("{count} of {called} calls came with a misaligned stack")),
    }
}
