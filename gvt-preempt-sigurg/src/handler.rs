//! The process's one SIGURG handler: installing it, what it does, taking it away.
//!
//! **Hazard.** A signal's disposition belongs to the whole process: other libraries have SIGURG handlers
//! too (out-of-band data, another Go-like runtime), installed before ours, between two of our
//! runtimes, or after. And the handler interrupts anything: it may neither lock nor allocate, nor
//! leave a trace (P3, P4).
//!
//! **The handler** keeps `errno`; asks the [`Registry`] whose interrupt it is; passes on what is not ours
//! to the handler that was there before, under the signal mask that one asked for (P5). Atomics,
//! `gettid`, `pthread_sigmask` and the hook are all it calls (P4).
//!
//! | signal | marks | goes to |
//! |---|---|---|
//! | our payload | some | the hooks; to the previous handler if all refuse |
//! | our payload | none | nobody: an earlier signal brought it already |
//! | no payload (the kernel ran out of room for it) | some | as our own |
//! | any other | none | the previous handler |
//! | any other | some | the hooks and the previous handler: ours was swallowed by it |
//!
//! **Flags.** SA_RESTART (P3), SA_ONSTACK (green threads' stacks may be small), SA_SIGINFO; an empty mask,
//! so that nothing else is held up however long a hook sleeps. No SA_NODEFER: while a hook sleeps, SIGURG
//! stays blocked on its OS thread alone. A process-wide SIGURG goes to another OS thread then, one of
//! ours waits until the handler has returned, and handlers never pile up on the alternate stack.
//!
//! **Installing.** The handler goes in when a runtime attaches and it is not in place, and out after the
//! last one has detached if it is still the one in place. If somebody has installed theirs over
//! ours, it depends on whether they pass signals on; a signal to oneself tells. If it arrives,
//! nothing is done (going in again above them would close a ring: ours, theirs, ours); if not, ours goes in
//! above theirs.
//!
//! **Limits.** The previous handler runs with our SA_RESTART and SA_ONSTACK, whatever its own. Of two
//! directed signals to one OS thread the kernel keeps one: a foreign one that comes while ours is
//! pending is lost, as two foreign ones would be. Looking at and changing the disposition are two
//! system calls: two libraries that install at the same moment can still miss each other.
//!
//! **Evidence.** Suite `preemptor`: P2, P3, P5, P6; `tests/sleeping_hook.rs` for what goes on beside a hook that
//! sleeps.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{
    AtomicI32, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

use gvt_traits::{InterruptHook, WorkerError};
use libc::{c_int, sigaction, siginfo_t};

use crate::registry::{Node, Outcome, Registry};

/// The signal: ignored by default, so that a stray one harms nobody, and spurious ones are expected of it.
pub(crate) const SIGNAL: c_int = libc::SIGURG;

static REGISTRY: Registry = Registry::new();

/// What handled the signal before us: a leaked record, or null for the default.
static PREVIOUS: AtomicPtr<sigaction> = AtomicPtr::new(ptr::null_mut());

/// The OS thread that sends itself a signal to see whether it arrives; 0 for none, or when it has.
static PROBE: AtomicI32 = AtomicI32::new(0);

/// What only attaching and detaching touch.
struct Installed {
    /// Runtimes attached.
    runtimes: usize,
    /// Whether the handler has been put in and not taken out.
    present: bool,
}

static INSTALLED: Mutex<Installed> = Mutex::new(Installed { runtimes: 0, present: false });

/// Attaches a runtime.
pub(crate) fn attach(hook: InterruptHook) -> Result<&'static Node, WorkerError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |errno| WorkerError::SignalHandler { signal: SIGNAL, errno };
    let current = current().map_err(refused)?;
    let in_place = is_ours(&current) || (installed.present && arrives());
    if !in_place {
        install(current).map_err(refused)?;
        installed.present = true;
    }
    installed.runtimes += 1;
    Ok(REGISTRY.insert(hook))
}

/// Detaches a runtime. Waits for its hooks to return.
pub(crate) fn detach(node: &Node) {
    node.retire();
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    installed.runtimes -= 1;
    if installed.runtimes == 0 && installed.present && current().is_ok_and(|current| is_ours(&current)) {
        // ORDERING O1: Acquire pairs with `install`.
        let previous = PREVIOUS.load(Acquire);
        // SAFETY: null or a leaked record (O1).
        let previous = unsafe { previous.as_ref() }.copied().unwrap_or_else(default_action);
        installed.present = replace(&previous).is_err();
    }
}

/// Whether an OS thread of this process exists.
pub(crate) fn exists(thread: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 }
}

/// Sends `thread` our signal with our payload.
pub(crate) fn send(thread: i32) -> bool {
    let mut info = MaybeUninit::<siginfo_t>::zeroed();
    // SAFETY: zeroes are a valid record; what is written is within it and has its types.
    unsafe {
        let pid = libc::getpid();
        (*info.as_mut_ptr()).si_signo = SIGNAL;
        (*info.as_mut_ptr()).si_code = libc::SI_QUEUE;
        info.as_mut_ptr().cast::<Queued>().write(Queued {
            pid,
            uid: libc::getuid(),
            value: payload(),
            ..info.as_ptr().cast::<Queued>().read()
        });
        let sent = libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, thread, SIGNAL, info.as_ptr());
        // A sandbox may know only the plain call; marks do without the payload.
        sent == 0
            || (last_errno() != libc::ESRCH && libc::syscall(libc::SYS_tgkill, pid, thread, SIGNAL) == 0)
    }
}

/// The start of a `siginfo_t` with SI_QUEUE, whose fields `libc` lets read but not write.
#[repr(C)]
struct Queued {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: *mut c_void,
}

/// An address that is nobody else's.
fn payload() -> *mut c_void {
    ptr::from_ref(&REGISTRY).cast_mut().cast()
}

unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: `errno` is the OS thread's own; `gettid` has no preconditions; the kernel's `info` is valid;
    // hooks are async-signal-safe and callable until they are detached (C1 of `attach`), which
    // `deliver` guarantees; `pass_on` has the kernel's own arguments.
    unsafe {
        let errno = *libc::__errno_location();
        let thread = libc::gettid();
        // Relaxed: only the OS thread itself writes its number here, and the signal interrupts it.
        if PROBE.load(Relaxed) == thread {
            PROBE.store(0, Relaxed);
        }
        let (ours, unmarked) = match (*info).si_code {
            libc::SI_QUEUE => {
                let ours = (*info).si_value().sival_ptr == payload();
                (ours, ours)
            }
            // Not what `kill` leaves, which names its sender: the kernel had no room for the payload.
            libc::SI_USER if (*info).si_pid() == 0 => (true, false),
            // Our own call for sandboxes leaves this; so does anybody's `pthread_kill`.
            _ => (false, false),
        };
        let pass = match REGISTRY.deliver(thread, |hook| hook(context)) {
            Outcome::Taken => !ours,
            Outcome::Refused => true,
            Outcome::Unmarked => !unmarked,
        };
        if pass {
            pass_on(signal, info, context);
        }
        *libc::__errno_location() = errno;
    }
}

/// Calls the handler that was there before, as the kernel would have.
///
/// # Safety
///
/// The arguments are those of a signal handler.
// Out of line, so that its masks are not on the alternate stack while a hook sleeps.
#[inline(never)]
unsafe fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // ORDERING O1: Acquire pairs with `install`.
    // SAFETY: null or a leaked record.
    let Some(previous) = (unsafe { PREVIOUS.load(Acquire).as_ref() }) else { return };
    if matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        // To ignore is the default for this signal.
        return;
    }
    if previous.sa_flags & libc::SA_RESETHAND != 0 {
        // ORDERING: Relaxed: null has no contents. It was to be called once.
        PREVIOUS.store(ptr::null_mut(), Relaxed);
    }
    // SAFETY: the masks are valid; the handler was given to the kernel to be called so, and `SA_SIGINFO` tells which
    // type it has.
    unsafe {
        let mut before = MaybeUninit::uninit();
        libc::pthread_sigmask(libc::SIG_BLOCK, &previous.sa_mask, before.as_mut_ptr());
        if previous.sa_flags & libc::SA_NODEFER != 0 {
            let mut only = MaybeUninit::uninit();
            libc::sigemptyset(only.as_mut_ptr());
            libc::sigaddset(only.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut());
        }
        if previous.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                std::mem::transmute(previous.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(previous.sa_sigaction);
            handler(signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
}

/// Never inlined, so that there is one address: a function may have a copy in each place that names it.
#[inline(never)]
fn handler_address() -> libc::sighandler_t {
    let handler: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
    handler as libc::sighandler_t
}

fn is_ours(action: &sigaction) -> bool {
    action.sa_sigaction == handler_address()
}

fn default_action() -> sigaction {
    // SAFETY: zeroes are SIG_DFL without flags and with an empty mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn current() -> Result<sigaction, i32> {
    let mut current = default_action();
    // SAFETY: only asks.
    let result = unsafe { libc::sigaction(SIGNAL, ptr::null(), &mut current) };
    if result == 0 { Ok(current) } else { Err(last_errno()) }
}

/// Puts `action` in place; what was there before.
fn replace(action: &sigaction) -> Result<sigaction, i32> {
    let mut before = default_action();
    // SAFETY: `action` is ours, or one that the kernel had accepted before.
    let result = unsafe { libc::sigaction(SIGNAL, action, &mut before) };
    if result == 0 { Ok(before) } else { Err(last_errno()) }
}

/// Puts the handler in above `current`.
fn install(current: sigaction) -> Result<(), i32> {
    // First, so that the handler never runs without it.
    remember(current);
    let mut action = default_action();
    action.sa_sigaction = handler_address();
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
    let before = replace(&action)?;
    if !is_ours(&before) {
        remember(before);
    }
    Ok(())
}

/// Makes `action` the previous handler. Records are leaked, since a handler may be reading one; the
/// last is used again if it says the same, so they are as many as there are different handlers in turn.
fn remember(action: sigaction) {
    // Relaxed: only this function, under the lock, stores records.
    let last = PREVIOUS.load(Relaxed);
    // SAFETY: null or a leaked record; the masks are valid.
    let same = unsafe { last.as_ref() }.is_some_and(|last| {
        last.sa_sigaction == action.sa_sigaction
            && last.sa_flags == action.sa_flags
            // SAFETY: as above.
            && (1..=64).all(|signal| unsafe {
                libc::sigismember(&last.sa_mask, signal) == libc::sigismember(&action.sa_mask, signal)
            })
    });
    if !same {
        // ORDERING O1: Release pairs with the Acquires of `PREVIOUS`: who finds the record finds it filled.
        PREVIOUS.store(Box::into_raw(Box::new(action)), Release);
    }
}

/// Whether a signal to this OS thread reaches our handler, through those that were installed over it.
fn arrives() -> bool {
    // SAFETY: the masks are valid; a signal to oneself that is not blocked is handled before the call returns.
    unsafe {
        let (mut only, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), before.as_mut_ptr());
        // Relaxed: see the handler.
        let thread = libc::gettid();
        PROBE.store(thread, Relaxed);
        send(thread);
        let arrived = PROBE.swap(0, Relaxed) == 0;
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        arrived
    }
}

fn last_errno() -> i32 {
    // SAFETY: the OS thread's own.
    unsafe { *libc::__errno_location() }
}
