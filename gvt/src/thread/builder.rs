//! A thread's name, priority, stack and the like, chosen before it is spawned.

use gvt_traits::{Priority, SchedError};

use crate::cancel::token::CancellationToken;
use crate::kernel::sched::pinned::Stay;
use crate::thread::join_handle::JoinHandle;
use crate::thread::spawn::{Migration, Options, refused, spawn_here};

/// [`spawn`](crate::spawn()) at a priority other than [`Priority::Normal`].
///
/// Under the default queue Critical and High threads run before Normal ones, and Low ones when there is nothing
/// else; while more urgent threads are always ready, the others still get a share. Other queues have other orders;
/// one of [`Order::Fair`](gvt_traits::Order::Fair) ignores priorities.
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

    /// Names the thread: in reports of panics, overflows and deadlocks.
    ///
    /// Of panics if the process has std's own panic hook when its first runtime is built. Other hooks get the name from
    /// [`current_name`](crate::current_name()).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into().into());
        self
    }

    /// Sets how urgent it is; see [`spawn_with_priority`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// Names the worker that it should rather run on. A wish: an idle worker may take it all the same.
    pub fn affinity(mut self, worker: usize) -> Self {
        self.options.affinity = Some(worker);
        self
    }

    /// Spawns it under `token`: the thread's own token is a child of that one, and not of the spawning thread's. (For both,
    /// let `token` be a child of the spawning thread's.) A shutdown of the runtime cancels it all the same.
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

    /// Asks for a stack of `bytes` of address space, instead of the runtime's default: the thread gets one of the
    /// smallest class of the runtime that is as large. With the default slots there are classes of 64 KiB, 256 KiB, 1 MiB
    /// and 16 MiB. The guard and some staggering go off it; three quarters at least are stack.
    ///
    /// 0 asks for the default. A thread in 64 KiB costs about 4.5 KiB while it waits, one in 16 MiB about 8.5.
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

    /// Sets which OS threads it may run on.
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

    /// Lets the thread be taken off by a stack switch: a forced preemption then costs about what a signal costs, and puts no
    /// OS thread to sleep, as long as reentrant threads follow each other. Without this, and always where it cannot be done (the thread
    /// is pinned, or unwinds, or little of its stack is left, or it is in another signal's handler), the whole OS thread is put to
    /// sleep, which is right for any code.
    ///
    /// The thread resumes on the same OS thread, so the addresses of its thread-locals stay right.
    ///
    /// # Safety
    ///
    /// While the closure runs, from its first instruction to its last and the destructors of its locals included, any other
    /// reentrant thread may run on the same OS thread between any two instructions. So the code must be reentrant, as a signal
    /// handler's must be. It may compute, on its own stack and on memory that is its own or atomic, and call this crate's
    /// functions as far as these do not allocate. It must not:
    ///
    /// - allocate or free memory, also hidden in `Vec`, `String`, `Box`, `Arc`, formatting, or a collection that grows;
    /// - take a lock that knows its OS thread or that another such thread takes too: std's, parking_lot's, libc's (standard
    ///   output among them), or one that spins;
    /// - touch a `thread_local!`, borrowed or not, or what uses one: `HashMap::new`, `rand::rng`, `std::thread::current`;
    /// - panic, or unwind through its frames: that allocates, takes locks, and counts in a thread-local;
    /// - call foreign functions that are not async-signal-safe, or any through a symbol that is bound lazily;
    /// - rely on `errno` over more than one instruction.
    ///
    /// What it needs (buffers, handles) it takes along in the closure, and what is to be freed it returns: the closure is
    /// unpacked before, and the result stored after, under the ordinary preemption.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let numbers: Vec<u64> = (0..10_000).collect();
    /// let builder = gvt::Builder::new();
    /// // SAFETY: it reads memory of its own, and returns it with the sum, to be freed by whoever joins.
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
    /// As [`try_spawn`](crate::try_spawn()); [`SchedError::Memory`] if there is no stack as large as asked, or no room for one more; [`SchedError::Config`] for a worker number that no runtime has.
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

/// `f`, on the OS thread and in the mode that its `Builder` has asked for.
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
