//! Preemptors that are wrong on purpose.
//!
//! All are the same plain one, which sends SIGURG with `tgkill`, with one flaw each. The flaw is a static,
//! like the handler that has it, so backends with different flaws must not be attached at once; the
//! laws, which run one at a time, do not do that.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use gvt_traits::{
    Factory, InterruptHook, Interrupted, OsThreadId, Plan, Preemptor, SchedError, Strength, WorkerError,
};
use libc::{c_int, sigaction, siginfo_t};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Flaw {
    /// Nothing: the suite must accept what the others are made from.
    #[default]
    None,
    /// Says that it interrupts anywhere, and never does: breaks P1.
    ClaimsTooMuch,
    /// Says that it does not interrupt, and does: breaks P1.
    ClaimsTooLittle,
    /// Interrupts whoever asks instead of the OS thread that was named: breaks P2.
    WrongThread,
    /// Calls the hook twice for one interrupt: breaks P2.
    CallsTwice,
    /// Calls the hook for signals that it did not send: breaks P2.
    CallsForForeign,
    /// Says that it has interrupted OS threads that are gone: breaks P2.
    InterruptsTheGone,
    /// Forgets every second interrupt: breaks P2.
    LosesEverySecond,
    /// Leaves another `errno` behind: breaks P3.
    ClobbersErrno,
    /// Leaves another value in r10: breaks P3.
    ClobbersRegister,
    /// Leaves other bits in a vector register: breaks P3.
    ClobbersVector,
    /// Does not ask for system calls to be restarted: breaks P3.
    FailsSystemCalls,
    /// Keeps foreign signals: breaks P5.
    KeepsForeign,
    /// Keeps interrupts that the hook refused: breaks P5.
    KeepsRefused,
    /// Does not put the previous handler back: breaks P5.
    Stays,
    /// Puts the previous handler back whatever was installed since: breaks P5.
    TakesAwayOthers,
    /// The first runtime to detach ends it for all: breaks P6.
    DetachesAll,
    /// Goes on calling the hook of a runtime that has detached: breaks P6.
    KeepsHook,
    /// Shows the hook a copy of the interrupted context: breaks P7.
    CopiesContext,
    /// Leaves an inherited signal mask as it is: breaks P8.
    LeavesBlocked,
}

/// Builds preemptors with a flaw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flawed(pub Flaw);

/// A preemptor with a flaw.
#[derive(Debug)]
pub struct FlawedPreemptor {
    flaw: Flaw,
    place: AtomicUsize,
}

const PLACES: usize = 8;
const NOWHERE: usize = PLACES;

static FLAW: AtomicU8 = AtomicU8::new(0);
static HOOKS: [AtomicUsize; PLACES] = [const { AtomicUsize::new(0) }; PLACES];
/// The OS thread that each runtime has asked for last.
static WANTED: [AtomicI32; PLACES] = [const { AtomicI32::new(0) }; PLACES];
/// The hook of a runtime that has detached, for [`Flaw::KeepsHook`].
static GHOST: AtomicUsize = AtomicUsize::new(0);
/// Counts for [`Flaw::LosesEverySecond`].
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);
/// Handlers that are running.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(0);
static PREVIOUS_INFORMED: AtomicU8 = AtomicU8::new(0);
static PREVIOUS: Mutex<(usize, Option<sigaction>)> = Mutex::new((0, None));

unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    RUNNING.fetch_add(1, SeqCst);
    let flaw = |flaw| FLAW.load(SeqCst) == flaw as u8;
    // SAFETY: the arguments are the kernel's; the hook is alive while `RUNNING` is not 0; the handler is one
    // that was installed. What is flawed is so on purpose.
    unsafe {
        let errno = *libc::__errno_location();
        let thread = libc::gettid();
        let mut pass = true;
        for (hook, wanted) in HOOKS.iter().zip(&WANTED) {
            let hook = hook.load(SeqCst);
            if hook == 0 {
                continue;
            }
            let ours = wanted.compare_exchange(thread, 0, SeqCst, SeqCst).is_ok()
                || flaw(Flaw::WrongThread) && wanted.swap(0, SeqCst) != 0
                || flaw(Flaw::CallsForForeign);
            if ours {
                let hook = std::mem::transmute::<usize, InterruptHook>(hook);
                if flaw(Flaw::CallsTwice) {
                    hook(context);
                }
                let mut copy = context.cast::<libc::ucontext_t>().read();
                let shown = if flaw(Flaw::CopiesContext) { (&raw mut copy).cast() } else { context };
                pass = hook(shown) == Interrupted::NotOurs && !flaw(Flaw::KeepsRefused);
            } else {
                pass &= !flaw(Flaw::KeepsForeign);
            }
        }
        let ghost = GHOST.load(SeqCst);
        if ghost != 0 && flaw(Flaw::KeepsHook) {
            std::mem::transmute::<usize, InterruptHook>(ghost)(context);
        }
        let previous = PREVIOUS_HANDLER.load(SeqCst);
        if pass && previous > libc::SIG_IGN {
            if PREVIOUS_INFORMED.load(SeqCst) == 1 {
                let previous: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(previous);
                previous(signal, info, context);
            } else {
                let previous: extern "C" fn(c_int) = std::mem::transmute(previous);
                previous(signal);
            }
        }
        let context = context.cast::<libc::ucontext_t>();
        if flaw(Flaw::ClobbersRegister) {
            (*context).uc_mcontext.gregs[libc::REG_R10 as usize] += 1;
        }
        if flaw(Flaw::ClobbersVector) {
            // As the kernel lays it out, since not every C library names the fields: behind the 23 general
            // registers the address of the others, in which the vector registers begin at byte 160.
            let state = (&raw mut (*context).uc_mcontext).cast::<*mut u32>().add(23).read();
            *state.byte_add(160 + 9 * 16).add(2) += 1;
        }
        *libc::__errno_location() = if flaw(Flaw::ClobbersErrno) { libc::EDOM } else { errno };
    }
    RUNNING.fetch_sub(1, SeqCst);
}

fn blank() -> sigaction {
    // SAFETY: zeroes are SIG_DFL.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn disposition(new: Option<&sigaction>) -> sigaction {
    let mut before = blank();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: null or a valid record.
    unsafe { libc::sigaction(libc::SIGURG, new, &mut before) };
    before
}

#[inline(never)]
fn handler() -> usize {
    let handler: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
    handler as usize
}

impl Factory for Flawed {
    type Output = FlawedPreemptor;

    fn build(&self, _plan: &Plan) -> Result<FlawedPreemptor, SchedError> {
        Ok(FlawedPreemptor { flaw: self.0, place: AtomicUsize::new(NOWHERE) })
    }
}

// SAFETY: without a flaw: P1: constant. P2: the signal is directed, `WANTED` names the OS thread and is taken
// once. P3: the kernel's frame, `errno` kept, SA_RESTART. P4: atomics, `gettid` and the hook. P5, P6: by the
// laws that accept it, for tests. P7: the kernel's own pointer. P8: `enter_thread` unblocks. With a flaw:
// broken on purpose, for the law that must notice.
unsafe impl Preemptor for FlawedPreemptor {
    fn strength(&self) -> Strength {
        if self.flaw == Flaw::ClaimsTooLittle { Strength::AtSafepoints } else { Strength::Anywhere }
    }

    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError> {
        let mut installed = PREVIOUS.lock().unwrap_or_else(PoisonError::into_inner);
        FLAW.store(self.flaw as u8, SeqCst);
        installed.0 += 1;
        let current = disposition(None);
        if installed.0 == 1 && current.sa_sigaction != handler() {
            PREVIOUS_HANDLER.store(current.sa_sigaction, SeqCst);
            PREVIOUS_INFORMED.store(u8::from(current.sa_flags & libc::SA_SIGINFO != 0), SeqCst);
            let mut action = blank();
            action.sa_sigaction = handler();
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            if self.flaw != Flaw::FailsSystemCalls {
                action.sa_flags |= libc::SA_RESTART;
            }
            disposition(Some(&action));
            installed.1 = Some(current);
        }
        let place = HOOKS.iter().position(|hook| hook.load(SeqCst) == 0).expect("few attach at once");
        WANTED[place].store(0, SeqCst);
        HOOKS[place].store(hook as usize, SeqCst);
        self.place.store(place, SeqCst);
        Ok(())
    }

    fn enter_thread(&self) {
        if self.flaw == Flaw::LeavesBlocked {
            return;
        }
        // SAFETY: a set made here.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGURG);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        }
    }

    fn detach(&self) {
        let mut installed = PREVIOUS.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.place.swap(NOWHERE, SeqCst);
        if place == NOWHERE {
            return;
        }
        if self.flaw == Flaw::KeepsHook {
            GHOST.store(HOOKS[place].load(SeqCst), SeqCst);
        }
        HOOKS[place].store(0, SeqCst);
        while RUNNING.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
        installed.0 -= 1;
        let last = installed.0 == 0 || self.flaw == Flaw::DetachesAll;
        let undisturbed = disposition(None).sa_sigaction == handler() || self.flaw == Flaw::TakesAwayOthers;
        if last {
            for hook in &HOOKS {
                hook.store(0, SeqCst);
            }
            if undisturbed
                && !matches!(self.flaw, Flaw::Stays | Flaw::KeepsHook)
                && let Some(previous) = installed.1.take()
            {
                disposition(Some(&previous));
            }
        }
    }

    fn interrupt(&self, thread: OsThreadId) -> bool {
        let place = self.place.load(SeqCst);
        if place == NOWHERE {
            return false;
        }
        if self.flaw == Flaw::ClaimsTooMuch {
            return true;
        }
        if self.flaw == Flaw::LosesEverySecond && INTERRUPTS.fetch_add(1, SeqCst) % 2 == 1 {
            return true;
        }
        WANTED[place].store(thread.0, SeqCst);
        // SAFETY: no preconditions.
        let sent = unsafe {
            let target = if self.flaw == Flaw::WrongThread { libc::gettid() } else { thread.0 };
            libc::syscall(libc::SYS_tgkill, libc::getpid(), target, libc::SIGURG)
        };
        sent == 0 || self.flaw == Flaw::InterruptsTheGone
    }
}

/// A method of [`Preemptor`] that a wrapper may forget to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Preemptor::attach`]
    Attach,
    /// [`Preemptor::enter_thread`]
    EnterThread,
    /// [`Preemptor::detach`]
    Detach,
}

/// Builds wrappers of what `F` builds that forget a call, or, as they should, none.
#[derive(Debug, Clone, Copy)]
pub struct Forgetful<F>(pub F, pub Option<Call>);

/// A preemptor that does not pass on all calls to the one that it wraps.
#[derive(Debug)]
pub struct ForgetfulPreemptor<P> {
    wrapped: P,
    forgets: Option<Call>,
}

impl<F: Factory<Output: Preemptor>> Factory for Forgetful<F> {
    type Output = ForgetfulPreemptor<F::Output>;

    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        Ok(ForgetfulPreemptor { wrapped: self.0.build(plan)?, forgets: self.1 })
    }
}

// SAFETY: P1–P8 are the wrapped preemptor's if all is passed on. What is not is forgotten on purpose, for the
// law that must notice.
unsafe impl<P: Preemptor> Preemptor for ForgetfulPreemptor<P> {
    fn strength(&self) -> Strength {
        self.wrapped.strength()
    }

    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError> {
        if self.forgets == Some(Call::Attach) {
            return Ok(());
        }
        // SAFETY: the caller's C1.
        unsafe { self.wrapped.attach(hook) }
    }

    fn enter_thread(&self) {
        if self.forgets != Some(Call::EnterThread) {
            self.wrapped.enter_thread();
        }
    }

    fn detach(&self) {
        if self.forgets != Some(Call::Detach) {
            self.wrapped.detach();
        }
    }

    fn interrupt(&self, thread: OsThreadId) -> bool {
        self.wrapped.interrupt(thread)
    }
}

/// Wipes what flawed backends leave behind, the process's SIGURG handler included.
pub fn reset() {
    let mut installed = PREVIOUS.lock().unwrap_or_else(PoisonError::into_inner);
    disposition(Some(&blank()));
    *installed = (0, None);
    PREVIOUS_HANDLER.store(0, SeqCst);
    GHOST.store(0, SeqCst);
    INTERRUPTS.store(0, SeqCst);
    for hook in &HOOKS {
        hook.store(0, SeqCst);
    }
}
