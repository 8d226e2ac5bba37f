//! [`Select`]: a select with operations listed at run time.

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use super::error::*;
use super::select::{Arm, Choice, Chosen, Limit, run};
use super::selected::{Token, Wish};
use super::{Receiver, Sender};

/// Waits for the first of several operations, listed at run time. For a fixed list,
/// [`select!`](crate::select) is shorter.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::channel::{Select, bounded};
///
/// let channels: Vec<_> = (0..4).map(|_| bounded::<usize>(1)).collect();
/// channels[2].0.send(42).unwrap();
///
/// let mut select = Select::new();
/// for (_, receiver) in &channels {
///     select.recv(receiver);
/// }
/// let operation = select.select();
/// let index = operation.index();
/// assert_eq!(operation.recv(&channels[index].1), Ok(42));
/// # });
/// ```
///
/// An operation is *ready* if it need not wait, also because the channel is disconnected.
pub struct Select<'a> {
    arms: Vec<Arm<'a>>,
    next: usize,
    choice: Choice,
}

// SAFETY: arms refer to ends that are `Sync` if they mean anything to another thread: `Select` takes them by
// shared reference from where it was built, and their messages are bounded where they are received. Between
// calls no node is linked.
unsafe impl Send for Select<'_> {}
// SAFETY: as above; a shared `Select` can only be cloned and printed.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// A select without operations. Of several ready operations it chooses one at random, with equal chances.
    pub fn new() -> Self {
        Select { arms: Vec::with_capacity(4), next: 0, choice: Choice::Fair }
    }

    /// A select without operations. Of several ready operations it chooses the one that was added first.
    pub fn new_biased() -> Self {
        Select { choice: Choice::First, ..Self::new() }
    }

    /// Adds a send; returns its index.
    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        self.add(Arm::send(sender))
    }

    /// Adds a receive; returns its index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Arm::receive(receiver))
    }

    fn add(&mut self, mut arm: Arm<'a>) -> usize {
        arm.index = self.next;
        self.arms.push(arm);
        self.next += 1;
        self.next - 1
    }

    /// Removes the operation with this index. The others keep theirs.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn remove(&mut self, index: usize) {
        let place = self.arms.iter().position(|arm| arm.index == index);
        let Some(place) = place else {
            panic!("operation {index} was asked to be removed from a `Select` that does not have it");
        };
        self.arms.remove(place);
    }

    fn start(&mut self, limit: Limit, wish: Wish) -> Option<Chosen<'a>> {
        run(&mut self.arms, limit, wish, self.choice)
    }

    #[track_caller]
    fn has_operations(&self, call: &str) {
        assert!(!self.arms.is_empty(), "`{call}` of a `Select` without operations would wait for ever");
    }

    /// Chooses a ready operation, which must then be completed.
    ///
    /// # Errors
    ///
    /// If none is.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.start(Limit::Now, Wish::Operate).map(SelectedOperation::new).ok_or(TrySelectError)
    }

    /// Waits until an operation is ready and chooses it; it must then be completed.
    ///
    /// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless
    /// wait.
    ///
    /// # Panics
    ///
    /// If there are no operations.
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'a> {
        self.has_operations("select");
        SelectedOperation::new(self.start(Limit::Never, Wish::Operate).expect("no limit"))
    }

    /// [`select`](Self::select) with a time limit.
    ///
    /// # Errors
    ///
    /// If time ran out.
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.start(Limit::after(timeout), Wish::Operate).map(SelectedOperation::new).ok_or(SelectTimeoutError)
    }

    /// [`select`](Self::select) with a deadline.
    ///
    /// # Errors
    ///
    /// If time ran out.
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.start(Limit::Until(deadline), Wish::Operate)
            .map(SelectedOperation::new)
            .ok_or(SelectTimeoutError)
    }

    /// The index of a ready operation. It may not be ready when it is tried.
    ///
    /// # Errors
    ///
    /// If none is.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.start(Limit::Now, Wish::Watch).map(|chosen| chosen.index).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready; returns its index. It may not be ready when it is tried.
    ///
    /// Context: as [`select`](Self::select).
    ///
    /// # Panics
    ///
    /// If there are no operations.
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        self.has_operations("ready");
        self.start(Limit::Never, Wish::Watch).expect("no limit").index
    }

    /// [`ready`](Self::ready) with a time limit.
    ///
    /// # Errors
    ///
    /// If time ran out.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.start(Limit::after(timeout), Wish::Watch).map(|chosen| chosen.index).ok_or(ReadyTimeoutError)
    }

    /// [`ready`](Self::ready) with a deadline.
    ///
    /// # Errors
    ///
    /// If time ran out.
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.start(Limit::Until(deadline), Wish::Watch).map(|chosen| chosen.index).ok_or(ReadyTimeoutError)
    }
}

impl Clone for Select<'_> {
    fn clone(&self) -> Self {
        let mut arms = self.arms.clone();
        arms.sort_unstable_by_key(|arm| arm.index);
        Select { arms, next: self.next, choice: self.choice }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// A chosen operation, which must be completed with the end that was added for it.
///
/// # Panics
///
/// On drop without completion; its reservation is released.
#[must_use = "a chosen operation must be completed"]
pub struct SelectedOperation<'a> {
    chosen: Chosen<'a>,
}

impl<'a> SelectedOperation<'a> {
    fn new(chosen: Chosen<'a>) -> Self {
        SelectedOperation { chosen }
    }

    /// The operation's index.
    pub fn index(&self) -> usize {
        self.chosen.index
    }

    #[track_caller]
    fn complete(self, end: *const (), what: &str) -> Token {
        assert!(
            std::ptr::eq(self.chosen.end, end),
            "operation {} is to be completed with another {what} than it was added with",
            self.chosen.index
        );
        ManuallyDrop::new(self).chosen.token
    }

    /// Completes a send.
    ///
    /// # Errors
    ///
    /// The message, if no receiver is left.
    ///
    /// # Panics
    ///
    /// If `sender` is not the reference that the operation was added with.
    #[track_caller]
    pub fn send<T>(self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        let token = self.complete(std::ptr::from_ref(sender).cast(), "sender");
        sender.complete(token, message)
    }

    /// Completes a receive.
    ///
    /// # Errors
    ///
    /// If the channel is empty and no sender is left.
    ///
    /// # Panics
    ///
    /// If `receiver` is not the reference that the operation was added with.
    #[track_caller]
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let token = self.complete(std::ptr::from_ref(receiver).cast(), "receiver");
        receiver.complete(token)
    }
}

impl Drop for SelectedOperation<'_> {
    #[track_caller]
    fn drop(&mut self) {
        self.chosen.handle.abandon(self.chosen.token);
        if !std::thread::panicking() {
            panic!(
                "operation {} was chosen by a select and dropped without having been completed",
                self.index()
            );
        }
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl<'a> Arm<'a> {
    /// A send.
    pub fn send<T>(sender: &'a Sender<T>) -> Self {
        Self::new(sender, std::ptr::from_ref(sender).cast(), 0)
    }

    /// A receive.
    pub fn receive<T>(receiver: &'a Receiver<T>) -> Self {
        Self::new(receiver, std::ptr::from_ref(receiver).cast(), 0)
    }
}
