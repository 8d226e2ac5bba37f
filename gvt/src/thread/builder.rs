//! A thread's name, priority, stack and the like, chosen before it is spawned.

use gvt_traits::{Priority, SchedError};

use crate::cancel::token::CancellationToken;
use crate::kernel::sched::pinned::Stay;
use crate::thread::join_handle::JoinHandle;
use crate::thread::spawn::{Migration, Options, refused, spawn_here};

/// [`spawn`](crate::spawn()) at a priority other than [`Priority::Normal`].
///
/// Under the default queue Critical and High threads run before Normal ones, and Low threads when nothing
/// else is ready; while more urgent threads are always ready, the others still get a share. Other queues have
/// other orders; one of [`Order::Fair`](gvt_traits::Order::Fair) ignores priorities.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let urgent = gvt::spawn_with_priority(|_| gvt::current_priority(), gvt::Priority::Critical);
/// assert_eq!(urgent.join().unwrap(), Some(gvt::Priority::Critical));
/// # });
/// ```
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
#[track_caller]
pub fn spawn_with_priority<F, T>(f: F, priority: Priority) -> JoinHandle<T>
where
    F: FnOnce(&CancellationToken) -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().priority(priority).spawn(f) {
        Ok(handle) => handle,
        Err(error) => refused(error),
    }
}

/// Spawns a thread with a name, a priority, a preferred worker, or a stack of another size.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let handle = gvt::Builder::new().name("counter").spawn(|_| gvt::current_name())?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("counter"));
/// # Ok::<(), gvt::SchedError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) options: Options,
}

impl Builder {
    /// A nameless thread of Normal priority.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the thread, for reports of panics, overflows and deadlocks.
    ///
    /// Panic messages have it if the process has std's own panic hook when its first runtime is built. Other
    /// hooks get it from [`current_name`](crate::current_name()).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into().into());
        self
    }

    /// Sets the priority; see [`spawn_with_priority`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// Sets the worker that the thread prefers. A hint: any worker may run it.
    pub fn affinity(mut self, worker: usize) -> Self {
        self.options.affinity = Some(worker);
        self
    }

    /// Spawns the thread under `token`: its own token is a child of `token`, and not of the spawning
    /// thread's. (For both, let `token` be a child of the spawning thread's.) A shutdown of the runtime
    /// cancels it as well.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let group = gvt::CancellationToken::new();
    /// let thread = gvt::Builder::new().token(&group).spawn(|token| token.cancelled().wait())?;
    /// group.cancel();
    /// thread.join().unwrap();
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn token(mut self, token: &CancellationToken) -> Self {
        self.options.token = Some(token.clone());
        self
    }

    /// Asks for a stack of `bytes` of address space instead of the runtime's default. The thread gets a stack
    /// of the smallest class that is at least as large; the default slots have classes of 64 KiB, 256 KiB, 1
    /// MiB and 16 MiB. Guard and staggering are part of it; at least three quarters are stack.
    ///
    /// 0 asks for the default. A waiting thread costs about 4.5 KiB with 64 KiB, and about 8.5 KiB with 16
    /// MiB.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let small = gvt::Builder::new().stack_size(64 << 10).spawn(|_| 1 + 1)?;
    /// assert_eq!(small.join().unwrap(), 2);
    /// let error = gvt::Builder::new().stack_size(1 << 40).spawn(|_| ()).unwrap_err();
    /// assert!(error.to_string().contains("the largest slot is 16 MiB"), "{error}");
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.options.stack_bytes = bytes;
        self
    }

    /// Sets which OS threads the thread may run on.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// use std::cell::Cell;
    /// thread_local!(static TURNS: Cell<u32> = const { Cell::new(0) });
    ///
    /// let pinned = gvt::Builder::new().migration(gvt::Migration::Pinned).spawn(|_| {
    ///     TURNS.with(|turns| {
    ///         let before = turns.get();
    ///         // Over a wait, which threads that migrate may not do.
    ///         gvt::sleep_us(100);
    ///         turns.set(before + 1);
    ///         turns.get()
    ///     })
    /// })?;
    /// assert_eq!(pinned.join().unwrap(), 1);
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub fn migration(mut self, migration: Migration) -> Self {
        self.options.migration = migration;
        self
    }

    /// Lets the thread be preempted by a stack switch. While reentrant threads follow each other, a forced
    /// preemption then costs about as much as a signal and puts no OS thread to sleep. Without this, and
    /// where it is impossible (the thread is pinned, unwinds, has little stack left, or is in another
    /// signal's handler), the whole OS thread is put to sleep, which is right for any code.
    ///
    /// The thread resumes on the same OS thread, so the addresses of its thread-locals stay right.
    ///
    /// # Safety
    ///
    /// While the closure runs, destructors of its locals included, another reentrant thread may run on the
    /// same OS thread between any two instructions. So the code must be reentrant, like a signal handler's.
    /// It may compute, on its own stack and on memory that is its own or atomic, and call those functions of
    /// this crate that do not allocate. It must not:
    ///
    /// - allocate or free memory, also inside `Vec`, `String`, `Box`, `Arc`, formatting, or a collection that
    ///   grows;
    /// - take a lock that knows its OS thread or that another such thread takes too: std's, parking_lot's,
    ///   libc's (standard output among them), or one that spins;
    /// - use a `thread_local!`, borrowed or not, or what uses one: `HashMap::new`, `rand::rng`,
    ///   `std::thread::current`;
    /// - panic, or unwind through its frames: that allocates, takes locks, and counts in a thread-local;
    /// - call foreign functions that are not async-signal-safe, or any function through a lazily bound
    ///   symbol;
    /// - rely on `errno` across more than one instruction.
    ///
    /// Put what the code needs (buffers, handles) into the closure, and return what is to be freed: the
    /// closure is unpacked before, and the result stored after, under ordinary preemption.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let numbers: Vec<u64> = (0..10_000).collect();
    /// let builder = gvt::Builder::new();
    /// // SAFETY: it reads memory of its own and returns it, so that the joining thread frees it.
    /// let builder = unsafe { builder.reentrant() };
    /// let handle = builder.spawn(move |_| (numbers.iter().sum::<u64>(), numbers))?;
    /// assert_eq!(handle.join().unwrap().0, 49_995_000);
    /// # Ok::<(), gvt::SchedError>(()) }).unwrap();
    /// ```
    pub unsafe fn reentrant(mut self) -> Self {
        self.options.reentrant = true;
        self
    }

    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`](crate::try_spawn()); [`SchedError::Memory`] if no class of stacks is large enough, or
    /// there is no room for another stack; [`SchedError::Config`] for a worker number that no runtime has.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        check(&self.options)?;
        // SAFETY: `'static`.
        unsafe { spawn_here(Some(self.options), staying(f)) }
    }

    pub(crate) fn into_options(self) -> Result<Options, SchedError> {
        check(&self.options)?;
        Ok(self.options)
    }
}

/// `f`, run pinned or reentrant as its `Builder` says.
pub(crate) fn staying<F, T>(f: F) -> impl FnOnce(&CancellationToken) -> T + Send
where
    F: FnOnce(&CancellationToken) -> T + Send,
{
    move |token| {
        let _stay = Stay::begin();
        f(token)
    }
}

fn check(options: &Options) -> Result<(), SchedError> {
    match options.affinity {
        Some(worker) if worker >= gvt_traits::MAX_WORKERS => Err(SchedError::Config {
            setting: "affinity",
            problem: format!(
                "worker {worker} was asked for, but workers are numbered below {}",
                gvt_traits::MAX_WORKERS
            ),
        }),
        _ => Ok(()),
    }
}
