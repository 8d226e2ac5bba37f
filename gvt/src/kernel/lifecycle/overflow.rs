//! Stack overflows of green threads.
//!
//! An access to the guard page below a green thread's stack raises SIGSEGV. The handler, on an alternate
//! stack, recognises it by the running thread's own bounds, names the thread and its limit, and ends the
//! process as std does for OS threads. Every other fault goes to the previous handler of SIGSEGV.
//!
//! **Sent signals** (`kill`, `raise`: a `si_code` of zero or less) have no address and are not repeated when
//! the handler returns. A handler that expects a repetition, such as std's, sets the default action and
//! returns, which would leave the process without any handler. So the first time that happens this handler
//! restores its own disposition: the process continues, as with std alone, and overflows are still named. The
//! second time the signal gets its default action, as with std alone.
//!
//! **Signal safety.** The handler reads plain memory of this OS thread (the worker, the running thread's
//! record), formats into a buffer on its stack, and calls `write`, `abort`, and system calls about signals.
//! It keeps `errno`.
//!
//! **Unloading.** The handlers stay for good, and so do OS threads and destructors of thread-locals. So if
//! gvt is in a library that `dlclose` could unload, that library stays loaded from the first runtime on.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Mutex, OnceLock, PoisonError};

use gvt_traits::WorkerError;

use crate::kernel::worker::section;

static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handlers, once a process.
///
/// # Errors
///
/// The signal and the kernel's error, where a filter forbids it.
pub(crate) fn install() -> Result<(), WorkerError> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    crate::os::keep_loaded(handler as *const () as usize);
    let mut ours = default_action();
    ours.sa_sigaction = handler as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // First, since our handler may be called at once. A failed earlier attempt has stored the same.
    let _ = PREVIOUS.set(SIGNALS.map(disposition));
    for signal in SIGNALS {
        // SAFETY: a valid structure; the handler is signal-safe (module head).
        if unsafe { libc::sigaction(signal, &ours, std::ptr::null_mut()) } != 0 {
            return Err(WorkerError::SignalHandler { signal, errno: crate::os::errno() });
        }
    }
    *installed = true;
    Ok(())
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = crate::os::errno();
    // SAFETY: the kernel passes a valid structure; a fault, which has a positive code, has an address.
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if let Some(address) = fault {
        report_if_overflow(address);
        if pass_on(signal, info, context) != Before::Handled {
            // The fault repeats when the handler returns, and then ends the process.
            set_disposition(signal, &default_action());
        }
    } else {
        pass_on_sent(signal, info, context);
    }
    crate::os::set_errno(errno);
}

fn report_if_overflow(address: usize) {
    // SAFETY: the running thread's record is mapped.
    let Some(record) = (unsafe { section::current().as_ref() }) else {
        return;
    };
    let slot = record.meta.slot.load(Relaxed);
    if slot == u32::MAX {
        return;
    }
    // SAFETY: this thread uses the slot.
    let (bottom, top) = unsafe { (record.core().vtable.stack_bounds)(record.core(), slot) };
    if !(bottom.saturating_sub(gvt_traits::GUARD_SIZE)..bottom).contains(&address) {
        return;
    }
    let mut text = Buffer { bytes: [0; 640], len: 0 };
    let id = record.meta.unique_id.load(Relaxed);
    let name = record.name().unwrap_or("unnamed");
    let kib = (top - bottom) / 1024;
    let _ = write!(
        text,
        "\ngreen thread {id} '{name:.100}' has overflowed its stack of {kib} KiB; use less stack, or ask for more \
         (`Builder::stack_size`, `MmapSlots::slot_size`)\nfatal runtime error: stack overflow, aborting\n"
    );
    // SAFETY: the buffer's bytes are initialised.
    unsafe {
        libc::write(2, text.bytes.as_ptr().cast(), text.len);
        libc::abort();
    }
}

/// The result of the previous disposition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// By a handler, which has returned.
    Handled,
    Ignored,
    Default,
}

/// Passes a signal to the previous disposition.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) -> Before {
    let Some(previous) = PREVIOUS.get().map(|all| all[index(signal)]) else { return Before::Default };
    match previous.sa_sigaction {
        libc::SIG_DFL => return Before::Default,
        libc::SIG_IGN => return Before::Ignored,
        function if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: it was installed with this signature.
            let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(function) };
            function(signal, info, context);
        }
        function => {
            // SAFETY: it was installed with this signature.
            let function: extern "C" fn(i32) = unsafe { std::mem::transmute(function) };
            function(signal);
        }
    }
    Before::Handled
}

/// Whether a handler has set the default action at a sent signal, and the process continued. Relaxed: nothing
/// depends on it.
static WENT_ON: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// [`pass_on`] for a signal that is not repeated (module head).
fn pass_on_sent(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let in_place = disposition(signal);
    match pass_on(signal, info, context) {
        Before::Ignored => {}
        Before::Default => end_by(signal, info),
        Before::Handled if in_place.sa_sigaction == libc::SIG_DFL => {}
        Before::Handled => {
            // A handler that sets the default action in order to send the signal again gets its way.
            if disposition(signal).sa_sigaction == libc::SIG_DFL && !is_pending(signal) {
                if WENT_ON[index(signal)].swap(true, Relaxed) {
                    end_by(signal, info);
                } else {
                    set_disposition(signal, &in_place);
                }
            }
        }
    }
}

/// Ends the process by `signal` when the handler returns: blocked until then, the signal is delivered
/// afterwards.
fn end_by(signal: i32, info: *mut libc::siginfo_t) {
    set_disposition(signal, &default_action());
    // SAFETY: the record is the kernel's own; a process may send itself any signal.
    unsafe {
        let (process, thread) = (libc::getpid(), crate::os::thread_id());
        if libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) != 0 {
            libc::syscall(libc::SYS_tgkill, process, thread, signal);
        }
    }
}

fn index(signal: i32) -> usize {
    usize::from(signal == libc::SIGBUS)
}

fn default_action() -> libc::sigaction {
    // SAFETY: zeroes are SIG_DFL without flags and with an empty mask.
    unsafe { std::mem::zeroed() }
}

fn disposition(signal: i32) -> libc::sigaction {
    let mut action = default_action();
    // SAFETY: a valid buffer; only a query.
    unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    action
}

fn set_disposition(signal: i32, action: &libc::sigaction) {
    // SAFETY: the default action, or one that the kernel had accepted before.
    unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
}

/// Whether `signal` will be delivered when it is unblocked.
fn is_pending(signal: i32) -> bool {
    let mut set = std::mem::MaybeUninit::zeroed();
    // SAFETY: a valid buffer, which the first call fills.
    unsafe { libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), signal) == 1 }
}

struct Buffer {
    bytes: [u8; 640],
    len: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}
