//! The process's handler for one signal, as a foreign library would use it.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};

use gvt_traits::OsThreadId;
use libc::{c_int, sigaction, siginfo_t};

/// Calls of the foreign handlers below, and what the last one was told.
pub(super) static CALLS: AtomicUsize = AtomicUsize::new(0);
pub(super) static LAST_CODE: AtomicI32 = AtomicI32::new(0);
pub(super) static LAST_VALUE: AtomicU64 = AtomicU64::new(0);
pub(super) static LAST_SIGNAL: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" fn informed(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel's record, or the backend under test is wrong.
    unsafe {
        LAST_CODE.store((*info).si_code, SeqCst);
        LAST_VALUE.store((*info).si_value().sival_ptr.addr() as u64, SeqCst);
    }
    plain(signal);
}

extern "C" fn plain(signal: c_int) {
    LAST_SIGNAL.store(signal, SeqCst);
    CALLS.fetch_add(1, SeqCst);
}

/// What [`above`] passes on to.
static BELOW: AtomicU64 = AtomicU64::new(0);

/// A handler that was installed over another and passes everything on to it.
unsafe extern "C" fn above(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let below = BELOW.load(SeqCst) as usize;
    // SAFETY: `below` was read from the disposition that `above` replaced, of a handler with this type.
    unsafe {
        let below: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(below);
        below(signal, info, context);
    }
    CALLS.fetch_add(1, SeqCst);
}

/// What a library installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    Default,
    Ignore,
    Plain,
    Informed,
    /// Passes on to what it found.
    Above,
}

impl Handler {
    fn action(self) -> sigaction {
        // SAFETY: zeroes are SIG_DFL.
        let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        let informed: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = informed;
        let above: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = above;
        let plain: extern "C" fn(c_int) = plain;
        (action.sa_sigaction, action.sa_flags) = match self {
            Handler::Default => (libc::SIG_DFL, 0),
            Handler::Ignore => (libc::SIG_IGN, 0),
            Handler::Plain => (plain as usize, libc::SA_RESTART),
            Handler::Informed => (informed as usize, libc::SA_SIGINFO | libc::SA_RESTART),
            Handler::Above => (above as usize, libc::SA_SIGINFO | libc::SA_RESTART),
        };
        action
    }
}

/// Puts back, when dropped, the disposition that it found.
pub(super) struct Disposition {
    signal: c_int,
    before: sigaction,
    installed: sigaction,
}

impl Disposition {
    pub(super) fn install(signal: c_int, handler: Handler) -> Self {
        CALLS.store(0, SeqCst);
        let mut before = Handler::Default.action();
        let installed = handler.action();
        // SAFETY: valid records; the handlers live as long as the program.
        unsafe {
            libc::sigaction(signal, ptr::null(), &mut before);
            BELOW.store(before.sa_sigaction as u64, SeqCst);
            assert_eq!(libc::sigaction(signal, &installed, ptr::null_mut()), 0);
        }
        Disposition { signal, before, installed }
    }

    /// Whether it is what is installed now.
    pub(super) fn is_current(&self) -> bool {
        let mut current = Handler::Default.action();
        // SAFETY: only asks.
        unsafe { libc::sigaction(self.signal, ptr::null(), &mut current) };
        // glibc adds flags of its own.
        let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_NODEFER;
        current.sa_sigaction == self.installed.sa_sigaction
            && (current.sa_flags ^ self.installed.sa_flags) & flags == 0
    }
}

impl Drop for Disposition {
    fn drop(&mut self) {
        // SAFETY: what the kernel itself reported.
        unsafe { libc::sigaction(self.signal, &self.before, ptr::null_mut()) };
    }
}

/// A foreign signal to one OS thread.
pub(super) fn signal(thread: OsThreadId, signal: c_int) {
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, signal) };
}

/// The same with a value, as `pthread_sigqueue` sends it.
pub(super) fn signal_with_value(thread: OsThreadId, signal: c_int, value: u64) {
    #[repr(C)]
    struct Info {
        signal: c_int,
        errno: c_int,
        code: c_int,
        padding: c_int,
        pid: c_int,
        uid: libc::uid_t,
        value: u64,
        rest: [u64; 12],
    }
    // SAFETY: the record is as large as the kernel's, and has its layout for SI_QUEUE.
    unsafe {
        let (pid, uid) = (libc::getpid(), libc::getuid());
        let info =
            Info { signal, errno: 0, code: libc::SI_QUEUE, padding: 0, pid, uid, value, rest: [0; 12] };
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, thread.0, signal, &raw const info);
    }
}

const _: () = assert!(size_of::<siginfo_t>() == 128);
