//! A handler that was there before, without an alternate stack, gets as much stack as without this package.

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use gvt_preempt_sigurg::Sigurg;
use gvt_traits::{Factory, Interrupted, Plan, Preemptor};

static CALLS: AtomicUsize = AtomicUsize::new(0);
static NESTED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn hook(_context: *mut c_void) -> Interrupted {
    Interrupted::NotOurs
}

/// Needs more than std's alternate stack, and is interrupted by a signal that asks for that.
extern "C" fn hungry(_signal: i32) {
    let mut large = black_box([7_u8; 100_000]);
    large[CALLS.load(SeqCst)] = 1;
    // SAFETY: a signal with a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
    let sum: usize = black_box(large).iter().map(|&byte| usize::from(byte)).sum();
    assert_eq!(sum, 699_994);
    CALLS.fetch_add(1, SeqCst);
}

extern "C" fn nested(_signal: i32) {
    black_box([1_u8; 1_000]);
    NESTED.fetch_add(1, SeqCst);
}

fn alternate_stack() -> (usize, i32, usize) {
    // SAFETY: a valid place; only asks.
    unsafe {
        let mut stack = std::mem::zeroed::<libc::stack_t>();
        assert_eq!(libc::sigaltstack(std::ptr::null(), &mut stack), 0);
        (stack.ss_sp.addr(), stack.ss_flags, stack.ss_size)
    }
}

#[test]
fn a_hungry_handler() {
    // SAFETY: valid handlers.
    unsafe {
        libc::signal(libc::SIGURG, hungry as extern "C" fn(i32) as libc::sighandler_t);
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = nested as extern "C" fn(i32) as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let preemptor = Sigurg.build(&Plan::new(1, 1)).unwrap();
    // SAFETY: the hook does nothing.
    unsafe { preemptor.attach(hook).unwrap() };
    let raises = || {
        let before = alternate_stack();
        for _ in 0..10 {
            // SAFETY: a signal with a handler.
            unsafe { libc::raise(libc::SIGURG) };
            assert_eq!(alternate_stack(), before);
        }
    };
    std::thread::spawn(raises).join().unwrap();
    raises();
    assert_eq!((CALLS.load(SeqCst), NESTED.load(SeqCst)), (20, 20));
    preemptor.detach();
}
