//! Threads that belong together: the first failure cancels the others.
//!
//! **Protocol.** Each thread has a [`Report`] that sends its outcome exactly once: when its closure returns
//! or panics, or, if it never ran or was unwound, when the report is dropped. The receiver of a report joins
//! its thread before it returns the outcome, so a reported thread has ended. The set's token is the parent of
//! its threads' tokens.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Instant;

use gvt_traits::SchedError;

use crate::cancel::token::CancellationToken;
use crate::channel::arms::{On, Operation};
use crate::channel::select::Handle;
use crate::channel::selected::{Token, Wish};
use crate::channel::{Receiver, Sender, unbounded};
use crate::protocol::user;
use crate::thread::join_handle::JoinHandle;
use crate::thread::{self, Builder};
use crate::wait::list::{Node, WaitOutcome};
use crate::wait::park::ShutdownUnwind;

/// The [`reason`](CancellationToken::reason) that the siblings of a failed thread see.
const SIBLING_FAILED: &str = "a sibling has failed";

/// How a thread of a [`TaskSet`] failed.
pub enum TaskError<E> {
    /// It returned this error.
    Failed(E),
    /// It panicked, with this payload.
    Panicked(Box<dyn Any + Send>),
    /// A shutdown unwound it, or there was no stack for it.
    Ended,
}

/// Green threads that belong together and end together: a *nursery*, tokio's `JoinSet`.
///
/// The first that fails, by an error or a panic, cancels the others. Dropping the set cancels the threads
/// that still run and waits for them, so no thread outlives its set.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::{TaskError, TaskSet};
/// let mut set = TaskSet::new();
/// set.spawn(|token| {
///     token.cancelled().wait();
///     Ok("was told")
/// });
/// set.spawn(|_| Err("the disk is full"));
/// match set.join_all() {
///     Err(TaskError::Failed(error)) => assert_eq!(error, "the disk is full"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
///
/// Threads that borrow from their spawner need a [`scope`](crate::thread::scope()).
pub struct TaskSet<T, E> {
    token: CancellationToken,
    reports: Receiver<Outcome<T, E>>,
    reporter: Sender<Outcome<T, E>>,
    /// By number; taken when the thread has reported.
    handles: Vec<Option<JoinHandle<()>>>,
    running: usize,
}

/// A thread's number and outcome.
type Outcome<T, E> = (usize, Result<T, TaskError<E>>);

/// Sends one thread's outcome.
struct Report<T, E> {
    number: usize,
    reporter: Option<Sender<Outcome<T, E>>>,
    token: CancellationToken,
}

impl<T, E> Report<T, E> {
    fn send(mut self, outcome: Result<T, TaskError<E>>) {
        self.send_once(outcome);
    }

    fn send_once(&mut self, outcome: Result<T, TaskError<E>>) {
        if let Some(reporter) = self.reporter.take() {
            // A thread that never ran may be a refused one, which is not a failure of the set: see
            // `join_next`.
            let failed = matches!(outcome, Err(TaskError::Failed(_) | TaskError::Panicked(_)));
            // Fails only if the set is dropped, after it has waited for the thread.
            let _ = reporter.send((self.number, outcome));
            // After the report, so that threads that fail because of it report later.
            if failed {
                self.token.cancel_because(SIBLING_FAILED);
            }
        }
    }
}

impl<T, E> Drop for Report<T, E> {
    fn drop(&mut self) {
        self.send_once(Err(TaskError::Ended));
    }
}

impl<T, E> TaskSet<T, E> {
    /// A set whose token is a child of the calling thread's token; outside a runtime it has no parent.
    pub fn new() -> Self {
        Self::under(&crate::current_token().unwrap_or_default())
    }

    /// A set whose token is a child of `token`.
    pub fn under(token: &CancellationToken) -> Self {
        let (reporter, reports) = unbounded();
        TaskSet { token: token.child(), reports, reporter, handles: Vec::new(), running: 0 }
    }

    /// The set's token. Cancelling it cancels all threads of the set, later ones included.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// How many threads are not joined.
    pub fn len(&self) -> usize {
        self.running
    }

    /// Whether all threads are joined.
    pub fn is_empty(&self) -> bool {
        self.running == 0
    }
}

impl<T, E> TaskSet<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// Spawns a thread in the set and returns its number, from 0 up.
    ///
    /// Context: a green thread; allocates.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&mut self, f: F) -> usize
    where
        F: FnOnce(&CancellationToken) -> Result<T, E> + Send + 'static,
    {
        match self.try_spawn(Builder::new(), f) {
            Ok(number) => number,
            Err(error) => thread::refused(error),
        }
    }

    /// Spawns a thread with the builder's name, priority, stack and so on; returns its number.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    pub fn try_spawn<F>(&mut self, builder: Builder, f: F) -> Result<usize, SchedError>
    where
        F: FnOnce(&CancellationToken) -> Result<T, E> + Send + 'static,
    {
        let number = self.handles.len();
        let report = Report { number, reporter: Some(self.reporter.clone()), token: self.token.clone() };
        let run = move |token: &CancellationToken| {
            // Moved into the closure, which reports when it is dropped without having run.
            let report = report;
            match user::catch(|| f(token)) {
                Ok(outcome) => report.send(outcome.map_err(TaskError::Failed)),
                Err(payload) if payload.is::<ShutdownUnwind>() => {
                    drop(report);
                    resume_unwind(payload);
                }
                Err(payload) => report.send(Err(TaskError::Panicked(payload))),
            }
        };
        let spawned = builder.token(&self.token).spawn(run);
        // The report of a refused thread finds no handle.
        let (handle, outcome) = match spawned {
            Ok(handle) => (Some(handle), Ok(number)),
            Err(error) => (None, Err(error)),
        };
        self.running += usize::from(handle.is_some());
        self.handles.push(handle);
        outcome
    }

    /// Waits for any thread to end and returns its number and outcome. `None`: all are joined.
    ///
    /// Context: a green thread or an OS thread; parks. At shutdown a wait without a limit is unwound.
    pub fn join_next(&mut self) -> Option<(usize, Result<T, TaskError<E>>)> {
        while self.running != 0 {
            let (number, outcome) = self.reports.recv().expect("the set has a sender");
            if let Some(handle) = self.handles[number].take() {
                self.running -= 1;
                // Its outcome is in the report.
                let _ = handle.join();
                if matches!(outcome, Err(TaskError::Ended)) {
                    self.token.cancel_because(SIBLING_FAILED);
                }
                return Some((number, outcome));
            }
        }
        None
    }

    /// Waits for all threads. Returns their results in the order of spawning, or the first failure; then the
    /// others were cancelled and have ended.
    ///
    /// Results that [`join_next`](Self::join_next) has returned are not among them.
    ///
    /// Context: as [`join_next`](Self::join_next).
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn join_all(mut self) -> Result<Vec<T>, TaskError<E>> {
        let mut results: Vec<Option<T>> = Vec::new();
        results.resize_with(self.handles.len(), || None);
        let mut failed = None;
        while let Some((number, outcome)) = self.join_next() {
            match outcome {
                Ok(value) => results[number] = Some(value),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or_else(|| Ok(results.into_iter().flatten().collect()), Err)
    }
}

/// `ended(set) -> ()` in `select!`: [`TaskSet::join_next`] would return at once.
#[doc(hidden)]
pub struct SomeEnding<'a, T, E>(&'a TaskSet<T, E>);

impl<T, E> On<TaskSet<T, E>> {
    #[doc(hidden)]
    pub fn ended(&self) -> SomeEnding<'_, T, E> {
        SomeEnding(self.end())
    }
}

impl<T, E> Handle for SomeEnding<'_, T, E> {
    fn choose(&self) -> Option<Token> {
        self.is_ready().then_some(Token::Ready)
    }

    fn is_ready(&self) -> bool {
        self.0.running == 0 || Handle::is_ready(&self.0.reports)
    }

    unsafe fn enlist(&self, node: *mut Node, _: Wish) -> bool {
        // SAFETY: the caller's C1.
        self.0.running != 0 && unsafe { self.0.reports.enlist(node, Wish::Watch) }
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        // SAFETY: the caller's C1.
        unsafe { self.0.reports.withdraw(node) }
    }

    fn served(&self) -> Token {
        Token::Ready
    }

    fn abandon(&self, _: Token) {}

    fn next(&self) -> Option<Instant> {
        None
    }
}

impl<T, E> Operation for SomeEnding<'_, T, E> {
    type Output = ();

    fn complete(&self, _: Token) {}
}

impl<T, E> Drop for TaskSet<T, E> {
    /// Cancels the threads that still run and waits for them.
    fn drop(&mut self) {
        if self.running == 0 {
            return;
        }
        self.token.cancel();
        // The newest first, so that trees of threads run depth first.
        for handle in self.handles.drain(..).flatten().rev() {
            let _ = handle.join();
        }
    }
}

impl<T, E> Default for TaskSet<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, E> fmt::Debug for TaskSet<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSet").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<E: fmt::Debug> fmt::Debug for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            TaskError::Panicked(_) => f.pad("Panicked(..)"),
            TaskError::Ended => f.pad("Ended"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Failed(error) => error.fmt(f),
            TaskError::Panicked(payload) => {
                let words = payload.downcast_ref::<&str>().copied();
                let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                write!(f, "a thread panicked: {}", words.unwrap_or("with a payload that is no text"))
            }
            TaskError::Ended => f.pad("a thread was ended by a shutdown, or could not be given a stack"),
        }
    }
}

impl<E: Error + 'static> Error for TaskError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TaskError::Failed(error) => Some(error),
            _ => None,
        }
    }
}
