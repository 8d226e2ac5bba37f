//! Hooks that keep their OS thread for long, as those of kernel-thread preemption do: what else happens to
//! that OS thread, and to the process's SIGURGs, meanwhile.
//!
//! One test, since hooks have no data and signals belong to the process.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use gvt_preempt_sigurg::Sigurg;
use gvt_traits::{Factory, Interrupted, OsThreadId, Plan, Preemptor};

/// 0 while hooks are to sleep.
static GATE: AtomicU32 = AtomicU32::new(1);
static ENTERED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the alternate stack in use and in all, in a hook.
static STACK: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

unsafe extern "C" fn hook(context: *mut c_void) -> Interrupted {
    ENTERED.fetch_add(1, SeqCst);
    let here = 0u8;
    // SAFETY: the kernel's context; futexes on a static.
    unsafe {
        let stack = (*context.cast::<libc::ucontext_t>()).uc_stack;
        let top = stack.ss_sp.addr() + stack.ss_size;
        STACK[0].store(top.wrapping_sub((&raw const here).addr()), SeqCst);
        STACK[1].store(stack.ss_size, SeqCst);
        while GATE.load(SeqCst) == 0 {
            libc::syscall(libc::SYS_futex, GATE.as_ptr(), libc::FUTEX_WAIT, 0, ptr::null::<libc::timespec>());
        }
    }
    LEFT.fetch_add(1, SeqCst);
    Interrupted::Taken
}

fn open(gate: bool) {
    GATE.store(u32::from(gate), SeqCst);
    // SAFETY: a futex on a static.
    unsafe { libc::syscall(libc::SYS_futex, GATE.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

static FOREIGN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static FOREIGN_ON: AtomicI32 = AtomicI32::new(0);

extern "C" fn foreign(signal: i32) {
    // SAFETY: no preconditions.
    FOREIGN_ON.store(unsafe { libc::gettid() }, SeqCst);
    FOREIGN[usize::from(signal != libc::SIGURG)].fetch_add(1, SeqCst);
}

fn install(signal: i32) {
    // SAFETY: a valid record; the handler counts.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        let handler: extern "C" fn(i32) = foreign;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("never: {what}");
}

#[test]
fn everything_else_goes_on() {
    install(libc::SIGURG);
    install(libc::SIGUSR1);
    let backend = Sigurg.build(&Plan::new(2, 2)).unwrap();
    // SAFETY: C1: the hook touches statics and makes system calls only.
    unsafe { backend.attach(hook) }.unwrap();

    static STOP: AtomicBool = AtomicBool::new(false);
    let spinner = || {
        let (sender, receiver) = mpsc::channel();
        let handle = std::thread::spawn(move || {
            // SAFETY: no preconditions.
            sender.send(unsafe { libc::gettid() }).unwrap();
            while !STOP.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        (OsThreadId(receiver.recv().unwrap()), handle)
    };
    let (first, first_handle) = spinner();
    let (second, second_handle) = spinner();

    // One sleeps in its hook.
    open(false);
    assert!(backend.interrupt(first));
    eventually("the first hook", || ENTERED.load(SeqCst) == 1);
    let [used, size] = [STACK[0].load(SeqCst), STACK[1].load(SeqCst)];
    println!("a sleeping hook has {used} of the alternate stack's {size} bytes in use");
    assert!(used <= size, "hooks run on the alternate stack");

    // More interrupts of it wait, and become one.
    for _ in 0..10 {
        assert!(backend.interrupt(first));
    }
    // Interrupts of others do not.
    assert!(backend.interrupt(second));
    eventually("the second hook", || ENTERED.load(SeqCst) == 2);

    // A signal to the process finds an OS thread that does not sleep in a hook.
    // SAFETY: SIGURG and SIGUSR1 have handlers.
    unsafe { libc::kill(libc::getpid(), libc::SIGURG) };
    eventually("a SIGURG for the process", || FOREIGN[0].load(SeqCst) == 1);
    let on = FOREIGN_ON.load(SeqCst);
    assert!(on != first.0 && on != second.0, "it went to an OS thread that sleeps in a hook");

    // Another signal is handled on top of a sleeping hook, which sleeps on.
    for round in 1..=100 {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), first.0, libc::SIGUSR1) };
        eventually("a SIGUSR1 on a sleeping hook", || FOREIGN[1].load(SeqCst) == round);
    }
    assert_eq!((ENTERED.load(SeqCst), LEFT.load(SeqCst)), (2, 0));

    // Released, they return; the interrupts that waited come as one.
    open(true);
    eventually("all hooks", || LEFT.load(SeqCst) == 3);
    backend.detach();
    STOP.store(true, SeqCst);
    first_handle.join().unwrap();
    second_handle.join().unwrap();
    assert_eq!((ENTERED.load(SeqCst), LEFT.load(SeqCst)), (3, 3));
    assert_eq!(FOREIGN[0].load(SeqCst), 1);
}
