//! What the laws interrupt, and what they interrupt it with.
//!
//! Hooks are plain functions without data, and signals belong to the process: all of it is static, and one
//! law at a time has it.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gvt_traits::{Factory, InterruptHook, Interrupted, OsThreadId, Plan, Preemptor};

/// Hooks that differ, for as many runtimes.
pub(super) const HOOKS: usize = 4;
/// Targets at the most.
pub(super) const TARGETS: usize = 16;

/// What one hook does and has done. Every access is SeqCst: this is a record for people, and no law is
/// about its ordering.
pub(super) struct Record {
    /// Calls in all.
    pub(super) calls: AtomicUsize,
    /// Whether it answers `NotOurs`.
    pub(super) refuses: AtomicBool,
    /// Whether it may run.
    pub(super) allowed: AtomicBool,
    /// Times that it ran while it was not allowed.
    pub(super) forbidden: AtomicUsize,
}

pub(super) static RECORDS: [Record; HOOKS] = [const {
    Record {
        calls: AtomicUsize::new(0),
        refuses: AtomicBool::new(false),
        allowed: AtomicBool::new(true),
        forbidden: AtomicUsize::new(0),
    }
}; HOOKS];

/// Calls of any hook, by the OS thread that it ran on; in the last place, on no target.
pub(super) static CALLS_ON: [AtomicUsize; TARGETS + 1] = [const { AtomicUsize::new(0) }; TARGETS + 1];
static TARGET_IDS: [AtomicI32; TARGETS] = [const { AtomicI32::new(0) }; TARGETS];

/// Bumped by a law before an interrupt; and what a hook last found in it.
pub(super) static CAUSE: AtomicUsize = AtomicUsize::new(0);
pub(super) static CAUSE_SEEN: AtomicUsize = AtomicUsize::new(0);

/// What `p7_context` keeps in r10; a hook that finds it there puts the next number in its place.
pub(super) const IN_R10: u64 = 0x5EED_5EED_1010_1010;

unsafe extern "C" fn hook<const NUMBER: usize>(context: *mut c_void) -> Interrupted {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: P7: the context of the handler that calls this.
    unsafe {
        let r10 = &raw mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_R10 as usize];
        if *r10 == IN_R10 as i64 {
            *r10 += 1;
        }
    }
    let record = &RECORDS[NUMBER];
    if !record.allowed.load(SeqCst) {
        record.forbidden.fetch_add(1, SeqCst);
    }
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() };
    let place = TARGET_IDS.iter().position(|target| target.load(SeqCst) == thread).unwrap_or(TARGETS);
    CALLS_ON[place].fetch_add(1, SeqCst);
    CAUSE_SEEN.store(CAUSE.load(SeqCst), SeqCst);
    #[cfg(target_arch = "x86_64")]
    super::spin::trash();
    let answer = if record.refuses.load(SeqCst) { Interrupted::NotOurs } else { Interrupted::Taken };
    record.calls.fetch_add(1, SeqCst);
    if !record.allowed.load(SeqCst) {
        record.forbidden.fetch_add(1, SeqCst);
    }
    answer
}

const HOOK_FUNCTIONS: [InterruptHook; HOOKS] = [hook::<0>, hook::<1>, hook::<2>, hook::<3>];

/// The right to use the statics.
pub(super) struct Stage(#[expect(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

impl Stage {
    /// Waits for the law before, and wipes its traces.
    pub(super) fn enter() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for record in &RECORDS {
            record.calls.store(0, SeqCst);
            record.refuses.store(false, SeqCst);
            record.allowed.store(true, SeqCst);
            record.forbidden.store(0, SeqCst);
        }
        for calls in &CALLS_ON {
            calls.store(0, SeqCst);
        }
        for target in &TARGET_IDS {
            target.store(0, SeqCst);
        }
        CAUSE.store(0, SeqCst);
        CAUSE_SEEN.store(0, SeqCst);
        Stage(guard)
    }

    /// A backend with hook `number` attached. Detaches when dropped.
    pub(super) fn attached<F>(&self, factory: &F, number: usize) -> Attached<F::Output>
    where
        F: Factory<Output: Preemptor>,
    {
        let backend = build(factory);
        // SAFETY: C1: hooks touch only statics and make only calls that are async-signal-safe.
        unsafe { backend.attach(HOOK_FUNCTIONS[number]) }.expect("a test process may handle signals");
        Attached { backend, attached: true }
    }

    /// An OS thread that runs `body` over and over.
    pub(super) fn target(&self, place: usize, mut body: impl FnMut() + Send + 'static) -> Target {
        let stop = Arc::new(AtomicU32::new(0));
        let (sender, receiver) = mpsc::channel();
        let theirs = Arc::clone(&stop);
        let handle = std::thread::spawn(move || {
            // SAFETY: no preconditions; the clock is this OS thread's.
            let (thread, clock) = unsafe {
                let mut clock = MaybeUninit::uninit();
                assert_eq!(libc::pthread_getcpuclockid(libc::pthread_self(), clock.as_mut_ptr()), 0);
                (libc::gettid(), clock.assume_init())
            };
            TARGET_IDS[place].store(thread, SeqCst);
            sender.send((thread, clock)).expect("the law waits");
            drop(sender);
            // Relaxed: nothing but the stop itself is told.
            while theirs.load(Relaxed) == 0 {
                body();
            }
        });
        let (thread, clock) = receiver.recv().expect("the target starts");
        Target { thread: OsThreadId(thread), clock, stop, handle: Some(handle) }
    }

    /// One that only computes.
    pub(super) fn spinner(&self, place: usize) -> Target {
        self.target(place, std::hint::spin_loop)
    }
}

/// A backend that is detached when dropped.
pub(super) struct Attached<P: Preemptor> {
    backend: P,
    attached: bool,
}

impl<P: Preemptor> Attached<P> {
    /// Detaches, and keeps the backend: a destructor that detaches as well must not be what undoes `attach`.
    pub(super) fn detach(&mut self) {
        if std::mem::take(&mut self.attached) {
            self.backend.detach();
        }
    }
}

impl<P: Preemptor> std::ops::Deref for Attached<P> {
    type Target = P;
    fn deref(&self) -> &P {
        &self.backend
    }
}

impl<P: Preemptor> Drop for Attached<P> {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A backend that is not attached.
pub(super) fn build<F: Factory<Output: Preemptor>>(factory: &F) -> F::Output {
    factory.build(&Plan::new(4, 100)).expect("a test process has what a preemptor needs")
}

/// An OS thread to be interrupted. Stops when dropped.
pub(super) struct Target {
    pub(super) thread: OsThreadId,
    clock: libc::clockid_t,
    stop: Arc<AtomicU32>,
    handle: Option<JoinHandle<()>>,
}

impl Target {
    /// CPU time that it has used; it must not have ended.
    fn cpu_time(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the clock of an OS thread that has not been joined.
        unsafe { libc::clock_gettime(self.clock, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// Waits for `condition`; gives up when the target has computed for longer than any interrupt of a
    /// running OS thread takes, however busy the machine is.
    pub(super) fn within(&self, condition: impl FnMut() -> bool) -> bool {
        self.within_cpu_time(Duration::from_millis(300), condition)
    }

    pub(super) fn within_cpu_time(&self, patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let start = self.cpu_time();
        let mut round = 0u32;
        loop {
            if condition() {
                return true;
            }
            if self.cpu_time() - start > patience {
                return condition();
            }
            round += 1;
            if round.is_multiple_of(64) {
                std::thread::sleep(Duration::from_micros(100));
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> OsThreadId {
        self.end();
        self.thread
    }

    fn end(&mut self) {
        self.stop.store(1, Relaxed);
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for something that does not depend on a running OS thread. The time is far beyond what it takes, so
/// that only a broken backend sees it.
pub(super) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > Duration::from_secs(10) {
            return condition();
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}
