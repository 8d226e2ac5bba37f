//! Threads that borrow from their spawner's stack.
//!
//! **Hazard.** The scope's frame must outlive every use by its threads, also when the closure panics, a
//! handle is forgotten, or a shutdown unwinds the waiting thread.
//!
//! **Protocol.** `running` counts the scope's threads and the scope itself. **V1** A thread counts down after
//! its closure and its share of the packet are dropped, as its last use of anything borrowed. The last of
//! thread and handle drops a result that was not joined; a handle is inside the scope, in something that is
//! counted itself, or is leaked together with the result. **V2** The thread that reaches zero swaps ENDED
//! into `done` (the word of `protocol::join`) and afterwards uses only what the swap returned. **V3** The
//! scope returns only when `done` is ENDED, and that wait is not unwound. **V4** A thread of the owner's
//! runtime keeps that runtime while it wakes the owner; any other thread (a scope may be used in another
//! runtime) takes a reference to the owner's record before V1, which keeps the owner's core beyond the
//! owner's end.
//!
//! Before it waits for the count, the end of the scope waits for its unjoined threads one by one, so that
//! trees of threads run depth first: see `unjoined`.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};

use gvt_traits::{SchedError, WaitReason};

use crate::cancel::token::CancellationToken;
use crate::channel::arms::On;
use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::{joiner, section};
use crate::protocol::join::{Ended, Prepared, Waiter};
use crate::protocol::{join, user};
use crate::thread::join_handle::{Ending, JoinHandle};
use crate::thread::unjoined::Unjoined;
use crate::thread::{self, Options, local_key};
use crate::wait::park;
use crate::wait::park::{ShutdownUnwind, Wait};

/// A scope in which threads that borrow are spawned; see [`scope`].
///
/// Threads of a scope may spawn others in it:
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// fn count<'scope>(scope: &'scope gvt::Scope<'scope, '_>, words: &'scope [&'scope str]) -> usize {
///     match words {
///         [] => 0,
///         [word] => word.len(),
///         _ => {
///             let (left, right) = words.split_at(words.len() / 2);
///             let left = scope.spawn(move |_| count(scope, left));
///             count(scope, right) + left.join().unwrap()
///         }
///     }
/// }
/// let words = ["one", "two", "three"];
/// assert_eq!(gvt::scope(|scope| count(scope, &words)), 11);
/// # });
/// ```
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<Data>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Debug)]
struct Data {
    /// The thread that opened the scope.
    owner: NonNull<Record>,
    running: AtomicUsize,
    panicked: AtomicBool,
    done: AtomicU64,
    unjoined: Unjoined,
}

// A panic leaves its fields consistent.
impl std::panic::RefUnwindSafe for Data {}

// SAFETY: records are `Sync`; V4 says when the owner's is used.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

impl Data {
    /// Waits for the unjoined threads whose handles are kept, the newest first, as explicit joins would.
    fn walk_depth_first(&self, me: &Record) {
        while let Some(handle) = self.unjoined.take_newest() {
            // Relaxed: a hint. At 1 all threads have counted down but `me`.
            if self.running.load(Relaxed) > 1 {
                // V3.
                handle.wait_shielded(me, WaitReason::Scope);
            }
        }
    }

    /// V1, V2 and V4.
    fn finish(&self) {
        // SAFETY: the caller is still counted, so the owner is in its scope.
        let owner = unsafe { self.owner.as_ref() };
        let foreign = !park::current().is_some_and(|me| ptr::eq(me.core(), owner.core()));
        let _kept = foreign.then(|| CancellationToken::of(owner));
        // ORDERING O1: AcqRel: the last one sees, and publishes, what all the others did.
        if self.running.fetch_sub(1, AcqRel) == 1
            // The owner waits as a green thread.
            && let Ended::Wake(waiter) = join::end(&self.done, Prepared::Yes)
        {
            // SAFETY: taken out of the word by this call.
            unsafe { joiner::wake(waiter, owner.core()) };
        }
    }
}

/// Runs `f` with a scope whose threads may borrow what outlives the scope. Returns when all of them have
/// ended.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let words = vec!["one", "two", "three"];
/// let lengths = gvt::scope(|s| {
///     let handles: Vec<_> = words.iter().map(|word| s.spawn(move |_| word.len())).collect();
///     handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
/// });
/// assert_eq!(lengths, [3, 3, 5]);
/// # });
/// ```
///
/// Context: a green thread. A shutdown does not end the wait for the scope's threads: it unwinds the threads.
///
/// # Panics
///
/// If `f` panics, with its payload; if a thread panicked that was not joined.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let Some(me) = park::current() else {
        thread::refused(SchedError::NoRuntime { call: "open a scope" });
    };
    let scope = Scope {
        data: Arc::new(Data {
            owner: NonNull::from(me),
            running: AtomicUsize::new(1),
            panicked: AtomicBool::new(false),
            done: AtomicU64::new(0),
            unjoined: Unjoined::default(),
        }),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = user::catch(|| f(&scope));
    scope.data.walk_depth_first(me);
    scope.data.finish();
    while !join::has_ended(&scope.data.done) {
        let wait = Wait::new(me, WaitReason::Scope);
        let waiter = Waiter::green(me);
        if !join::register(&scope.data.done, waiter) {
            break;
        }
        // V3.
        wait.park_shielded();
        if !join::unregister(&scope.data.done, waiter) {
            break;
        }
    }
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(_) if scope.data.panicked.load(Relaxed) => panic!("a scoped thread panicked"),
        Ok(value) => value,
    }
}

/// A scoped thread's result, shared by the thread and its handle.
struct Packet<T> {
    result: Mutex<Option<Result<T, Box<dyn Any + Send>>>>,
    scope: Arc<Data>,
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        // The last of thread and handle runs this.
        let result = self.result.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if matches!(&result, Some(Err(payload)) if !payload.is::<ShutdownUnwind>()) {
            self.scope.panicked.store(true, Relaxed);
        }
        if user::call(|| drop(result)).is_none() {
            self.scope.panicked.store(true, Relaxed);
        }
    }
}

/// One of a scope's threads in the count, until it is dropped (V1).
struct Counted(Arc<Data>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a thread in the scope.
    ///
    /// Context: a green thread inside the scope; allocates.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.try_spawn(f) {
            Ok(handle) => handle,
            Err(error) => thread::refused(error),
        }
    }

    /// [`spawn`](Self::spawn) that returns the error.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`](crate::try_spawn).
    pub fn try_spawn<F, T>(&'scope self, f: F) -> Result<ScopedJoinHandle<'scope, T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(None, f)
    }

    /// Spawns a thread with the builder's name, priority, stack and so on.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`](crate::Builder::spawn).
    pub fn spawn_builder<F, T>(
        &'scope self,
        builder: crate::Builder,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(Some(builder.into_options()?), thread::staying(f))
    }

    fn spawn_with<F, T>(
        &'scope self,
        options: Option<Options>,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'scope,
        T: Send + 'scope,
    {
        // Relaxed: the spawning thread is counted itself.
        self.data.running.fetch_add(1, Relaxed);
        let packet = Arc::new(Packet { result: Mutex::new(None), scope: self.data.clone() });
        let job = Job { f, packet: packet.clone(), counted: Counted(self.data.clone()) };
        let run = move |token: &CancellationToken| job.run(token);
        // SAFETY: C1 of `spawn_here`: `scope` returns only after the thread has counted down (V1, V3), and by
        // then the closure is consumed. The result that `spawn_here` stores is `()`.
        let handle = unsafe { thread::spawn_here(options, run) }?;
        Ok(ScopedJoinHandle { handle: Some(handle), packet, scope: PhantomData })
    }
}

impl crate::Builder {
    /// Spawns the thread in a scope, so that it may borrow:
    /// [`Scope::spawn_builder`](crate::Scope::spawn_builder) by std's name.
    ///
    /// ```
    /// # gvt::Runtime::new(Default::default()).block_on(|| {
    /// let numbers = [1, 2, 3];
    /// let sum = gvt::scope(|scope| {
    ///     let builder = gvt::Builder::new().name("adder");
    ///     builder.spawn_scoped(scope, |_| numbers.iter().sum::<i32>()).unwrap().join().unwrap()
    /// });
    /// assert_eq!(sum, 6);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.spawn_builder(self, f)
    }
}

/// What a scoped thread runs. If it never runs, the closure is dropped before the packet, and the count last:
/// fields are dropped in order (V1).
struct Job<F, T> {
    f: F,
    packet: Arc<Packet<T>>,
    counted: Counted,
}

impl<F, T> Job<F, T>
where
    F: FnOnce(&CancellationToken) -> T,
{
    fn run(self, token: &CancellationToken) {
        let Job { f, packet, counted } = self;
        let result = user::catch(|| f(token));
        // Before the scope can see the end, as before a join. Below again, for locals that the result's
        // destructor makes.
        local_key::end_of_running();
        let kept = {
            // N2 of `unjoined`.
            let _section = section::Section::new();
            let publish =
                || *packet.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
            match park::current() {
                Some(me) => counted.0.unjoined.leave(me, publish),
                None => {
                    publish();
                    None
                }
            }
        };
        drop(kept);
        drop(packet);
        local_key::end_of_running();
        drop(counted);
    }
}

/// Owns the right to a scoped thread's result.
pub struct ScopedJoinHandle<'scope, T> {
    /// `Some` until it is joined or dropped.
    handle: Option<JoinHandle<()>>,
    packet: Arc<Packet<T>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the thread's end and returns its result, or its panic's payload.
    ///
    /// Context: as [`JoinHandle::join`].
    pub fn join(mut self) -> Result<T, Box<dyn Any + Send>> {
        let ended = self.handle.take().expect("not yet joined").join();
        let result = self.packet.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match result {
            Some(Err(payload)) if payload.is::<ShutdownUnwind>() => Err(Box::new(SchedError::ShutDown)),
            Some(result) => result,
            // It never ran; the handle has the reason.
            None => Err(ended.err().unwrap_or_else(|| Box::new(SchedError::ShutDown))),
        }
    }

    /// A handle to the thread, as [`current`](crate::thread::current()) returns it there.
    pub fn thread(&self) -> crate::Thread {
        self.as_handle().thread()
    }

    /// The handle of the green thread.
    pub(crate) fn as_handle(&self) -> &JoinHandle<()> {
        self.handle.as_ref().expect("not yet joined")
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.as_handle().is_finished()
    }

    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        self.as_handle().id()
    }

    /// The thread's token.
    pub fn token(&self) -> CancellationToken {
        self.as_handle().token()
    }
}

/// Leaves the join to the scope's end.
impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        let data = &self.packet.scope;
        // Only the owner waits for kept handles, and only for threads of its own runtime.
        let Some(me) = park::current().filter(|me| ptr::eq(*me, data.owner.as_ptr())) else { return };
        if !ptr::eq(me.core(), handle.record().core()) {
            return;
        }
        let given_up = {
            // N2 of `unjoined`.
            let _section = section::Section::new();
            let result = self.packet.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if result.is_none() { data.unjoined.put(handle) } else { Some(handle) }
        };
        drop(given_up);
    }
}

impl<T> std::fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<T> On<ScopedJoinHandle<'_, T>> {
    #[doc(hidden)]
    pub fn join(&self) -> Ending<'_> {
        self.ended()
    }

    #[doc(hidden)]
    pub fn ended(&self) -> Ending<'_> {
        Ending::new(&self.end().as_handle().record().meta.join_waiters)
    }
}
