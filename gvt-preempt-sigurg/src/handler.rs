//! The process's one SIGURG handler: installing it, what it does, taking it away.
//!
//! **Hazard.** A signal's disposition belongs to the whole process: other libraries have SIGURG handlers
//! too (out-of-band data, another Go-like runtime), installed before ours, between two of our
//! runtimes, or after. And the handler interrupts anything: it may neither lock nor allocate, nor
//! leave a trace (P3, P4).
//!
//! **The handler** keeps `errno`; asks the [`Registry`] whose interrupt it is; passes on what is not ours
//! to the handler that was there before, under the signal mask that one asked for (P5). Atomics,
//! `gettid`, `rt_sigprocmask`, `sigaltstack` and the hook are all it calls (P4).
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
//! last one has detached if it is still the one in place. If somebody has installed theirs over ours
//! meanwhile, ours goes in again, above theirs, whether they pass signals on or not. If they do, there
//! is a ring: ours, theirs, ours again. So there is one previous handler for each time that ours went in, a
//! [`Level`], and the handler writes into the padding of the signal's record how often it has passed it on:
//! it calls hooks the first time only, and passes on to one level lower each time. "Theirs" may be another
//! copy of this package, of another version: each copy has a mark of its own in the padding, which the others
//! leave alone. A signal whose padding is full is passed on no more.
//!
//! ```text
//!   kernel ─► ours ─► level 2: theirs ─► ours (the same code) ─► level 1: what was there at first
//! ```
//!
//! **Rejected.** One mark for all copies: each takes the other's for nothing, and the signal goes round until
//! the stack ends. Counting in a thread-local how deep the handler is: a handler that leaves by a jump leaves
//! the count behind. Sending a signal to oneself to see whether it arrives through theirs: it does arrive, at
//! theirs, which nobody had sent a signal.
//!
//! **Limits.** The previous handler runs with our SA_RESTART, whatever its own, and without SA_ONSTACK on the
//! interrupted stack only where the alternate one is small (`elsewhere`). Of two
//! directed signals to one OS thread the kernel keeps one: a foreign one that comes while ours is
//! pending is lost, as two foreign ones would be. Looking at and changing the disposition are two
//! system calls: two libraries that install at the same moment can still miss each other. Of three copies of
//! this package whose runtimes attach in turns, again and again, one may be taken for gone, and is passed no
//! signals any more.
//!
//! **Evidence.** Suite `preemptor`: P2, P3, P5, P6; `tests/sleeping_hook.rs` for what goes on beside a hook
//! that sleeps.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

use gvt_traits::{InterruptHook, WorkerError};
use libc::{c_int, sigaction, siginfo_t};

use crate::elsewhere::{self, Call, set_mask};
use crate::registry::{Node, Outcome, Registry};

/// The signal: ignored by default, so that a stray one harms nobody, and spurious ones are expected of it.
pub(crate) const SIGNAL: c_int = libc::SIGURG;

static REGISTRY: Registry = Registry::new();

/// What handled the signal before ours went in for the last time; null if it never did.
static PREVIOUS: AtomicPtr<Level> = AtomicPtr::new(ptr::null_mut());

/// One handler that ours was installed over. Never freed, since a handler may be reading it.
struct Level {
    action: sigaction,
    /// Whether a handler that wants to be called once has been.
    spent: AtomicBool,
    /// What ours was installed over the time before; null at the ground.
    below: *const Level,
}

// SAFETY: apart from `spent` it is constant, and `below` lives for ever.
unsafe impl Sync for Level {}
// SAFETY: as above.
unsafe impl Send for Level {}

/// What only attaching and detaching touch.
struct Installed {
    /// Runtimes attached.
    runtimes: usize,
    /// All levels that were ever made, to be used again: they are as many as there were different
    /// situations.
    levels: Vec<&'static Level>,
}

static INSTALLED: Mutex<Installed> = Mutex::new(Installed { runtimes: 0, levels: Vec::new() });

/// Attaches a runtime.
pub(crate) fn attach(hook: InterruptHook) -> Result<&'static Node, WorkerError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |errno| WorkerError::SignalHandler { signal: SIGNAL, errno };
    let current = current().map_err(refused)?;
    can_send().map_err(|errno| WorkerError::Interrupt { errno })?;
    if !is_ours(&current) {
        installed.install(current).map_err(refused)?;
    }
    installed.runtimes += 1;
    Ok(REGISTRY.insert(hook))
}

/// Detaches a runtime. Waits for its hooks to return.
pub(crate) fn detach(node: &Node) {
    node.retire();
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    installed.runtimes -= 1;
    if installed.runtimes == 0 && current().is_ok_and(|current| is_ours(&current)) {
        // Relaxed: stored under the lock.
        // SAFETY: null or a level, which lives for ever.
        let Some(previous) = (unsafe { PREVIOUS.load(Relaxed).as_ref() }) else { return };
        if replace(&previous.action).is_ok() {
            // ORDERING O1: Release, as in `install`: the level below may be older than a handler's view.
            PREVIOUS.store(previous.below.cast_mut(), Release);
        }
    }
}

/// Lets the calling OS thread receive our signal: it inherits its creator's mask, in which that may be
/// blocked.
pub(crate) fn unblock() {
    // SAFETY: a set made here; no other thread's mask is touched.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// Whether an OS thread of this process exists.
pub(crate) fn exists(thread: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 || last_errno() != libc::ESRCH }
}

/// Whether one of the calls that [`send`] makes is allowed.
fn can_send() -> Result<(), i32> {
    let mut info = MaybeUninit::<siginfo_t>::zeroed();
    // SAFETY: zeroes are a valid record; signal 0 only asks.
    unsafe {
        (*info.as_mut_ptr()).si_code = libc::SI_QUEUE;
        let (pid, thread) = (libc::getpid(), libc::gettid());
        let can = libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, thread, 0, info.as_ptr()) == 0
            || libc::syscall(libc::SYS_tgkill, pid, thread, 0) == 0;
        if can { Ok(()) } else { Err(last_errno()) }
    }
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
        let passed = passed_before(info);
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
        let pass = passed > 0
            || match REGISTRY.deliver(thread, |hook| hook(context)) {
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

/// What one copy of this package notes in a signal's record.
#[repr(C)]
#[derive(Clone, Copy)]
struct Note {
    /// Whose it is; null if nobody's.
    mark: *mut c_void,
    /// How often that one has passed the signal on.
    times: usize,
}

/// A `siginfo_t`. The kernel leaves its last bytes 0 for this signal, for every sender.
#[repr(C)]
struct Record {
    kernel: [u64; 4],
    notes: [Note; 5],
    /// Not zero: the copy that was called last has passed the signal to nobody.
    dead_end: u64,
    free: u64,
}

const _: () = assert!(size_of::<Record>() == size_of::<siginfo_t>());

/// Our note in a signal's record; `None` if there is none and no room for one.
///
/// # Safety
///
/// `info` is a signal handler's, and nobody else uses it meanwhile.
unsafe fn note<'a>(info: *mut siginfo_t) -> Option<&'a mut Note> {
    // SAFETY: the record is as large, see above, and the handler's own.
    let notes = unsafe { &mut (*info.cast::<Record>()).notes };
    notes.iter_mut().find(|note| note.mark == payload() || note.mark.is_null())
}

/// How often the handler has passed this very signal on already.
///
/// # Safety
///
/// As [`note`].
unsafe fn passed_before(info: *mut siginfo_t) -> usize {
    // SAFETY: the caller's.
    unsafe { note(info) }.map_or(0, |note| note.times)
}

/// Calls the handler that was there before, as the kernel would have: the first one that is not called for
/// this signal already.
///
/// # Safety
///
/// The arguments are those of a signal handler.
unsafe fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let record = info.cast::<Record>();
    loop {
        // ORDERING O1: Acquire pairs with `install` and `detach`.
        let mut level = PREVIOUS.load(Acquire).cast_const();
        // SAFETY: the handler's own record, on which nobody else has a reference.
        let place = unsafe { note(info) };
        for _ in 0..place.as_ref().map_or(0, |note| note.times) {
            // SAFETY: null or a level, which lives for ever.
            level = unsafe { level.as_ref() }.map_or(ptr::null(), |level| level.below);
        }
        // SAFETY: as above.
        let (Some(note), Some(level)) = (place, unsafe { level.as_ref() }) else {
            // SAFETY: the handler's own record.
            unsafe { (*record).dead_end = 1 };
            return;
        };
        *note = Note { mark: payload(), times: note.times + 1 };
        // SAFETY: the handler's own record; its arguments.
        unsafe {
            (*record).dead_end = 0;
            call(level, signal, info, context);
            if (*record).dead_end == 0 {
                return;
            }
        }
    }
}

/// Calls the handler of `level` as the kernel would.
///
/// # Safety
///
/// The arguments are those of a signal handler.
// Out of line, so that its masks are not on the alternate stack while a hook sleeps.
#[inline(never)]
unsafe fn call(level: &Level, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let previous = &level.action;
    if matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        // To ignore is the default for this signal.
        return;
    }
    // Relaxed: nothing hangs on it but the one call.
    if previous.sa_flags & libc::SA_RESETHAND != 0 && level.spent.swap(true, Relaxed) {
        return;
    }
    let before = set_mask(u64::MAX);
    // SAFETY: a valid set, which begins with the kernel's.
    let mut mask = before | unsafe { (&raw const previous.sa_mask).cast::<u64>().read() };
    if previous.sa_flags & libc::SA_NODEFER != 0 {
        mask &= !(1 << (signal - 1));
    }
    let call = Call { action: previous, signal, info, context, mask };
    // SAFETY: a handler's arguments, with which the kernel was to call this one; all signals are blocked.
    unsafe {
        if !elsewhere::call(&call) {
            call.make();
        }
    }
    set_mask(before);
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

impl Installed {
    /// Puts the handler in above `current`.
    fn install(&mut self, current: sigaction) -> Result<(), i32> {
        // Relaxed: stored under the lock.
        let ground = PREVIOUS.load(Relaxed).cast_const();
        let mut action = default_action();
        action.sa_sigaction = handler_address();
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
        // First, so that the handler never runs without it.
        // ORDERING O1: Release pairs with `pass_on`: a handler that finds the level finds it filled.
        PREVIOUS.store(ptr::from_ref(self.level(current, ground)).cast_mut(), Release);
        let before = replace(&action)?;
        if !same(&before, &current) {
            // Somebody was quicker.
            let previous = if is_ours(&before) { ground } else { self.level(before, ground) };
            // ORDERING O1: as above.
            PREVIOUS.store(previous.cast_mut(), Release);
        }
        Ok(())
    }

    /// The level for `action`, above those from `below` on. If one of these is for the same action, whatever
    /// was installed over it is gone, and it is the one.
    fn level(&mut self, action: sigaction, below: *const Level) -> &'static Level {
        // SAFETY: null or a level, which lives for ever.
        let as_level = |level: *const Level| unsafe { level.as_ref::<'static>() };
        let present = std::iter::successors(as_level(below), |level| as_level(level.below));
        let mut known = present.chain(self.levels.iter().copied().filter(|level| level.below == below));
        if let Some(level) = known.find(|level| same(&level.action, &action)) {
            // Relaxed: as in `pass_on`.
            level.spent.store(false, Relaxed);
            return level;
        }
        drop(known);
        let level: &Level = Box::leak(Box::new(Level { action, spent: AtomicBool::new(false), below }));
        self.levels.push(level);
        level
    }
}

fn same(one: &sigaction, other: &sigaction) -> bool {
    one.sa_sigaction == other.sa_sigaction
        && one.sa_flags == other.sa_flags
        // SAFETY: the masks are valid.
        && (1..=64).all(|signal| unsafe {
            libc::sigismember(&one.sa_mask, signal) == libc::sigismember(&other.sa_mask, signal)
        })
}

fn last_errno() -> i32 {
    // SAFETY: the OS thread's own.
    unsafe { *libc::__errno_location() }
}
