//! Sending and receiving: rendezvous, bounded and unbounded channels. `state` has the rules.
//!
//! **One lock, because** an uncontended lock costs two atomic operations, as much as the lock-free rings that
//! were compared, and allows what those do not: a message goes straight to a waiting receiver, which returns
//! with it and does not touch the channel again. Green threads of one channel rarely contend, since waking
//! keeps a pair on one worker.
//!
//! **Rejected.** A ring of stamped slots (as in array-based MPMC queues) in front of the lists: no faster
//! here, a hand-over must then go through the ring, and a receiver must look again after each wake-up.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::time::Instant;

use gvt_traits::WaitReason;

use super::error::*;
use super::state::{Met, PROMISED, RECEIVE_WATCHERS, RECEIVERS, SEND_WATCHERS, SENDERS, State};
use crate::wait::clock::{deadline_ns, has_passed};
use crate::wait::list::{WaitOutcome, WaitPolicy, wait};
use crate::wait::lock::{Lock, LockGuard};
use crate::wait::wake::{Wake, WakeList};

#[repr(C, align(64))]
pub(super) struct Channel<T> {
    pub(super) state: Lock<State<T>>,
    capacity: Option<usize>,
}

/// The result of passing a message.
pub(super) enum Passed<'a, T> {
    Sent,
    Disconnected(T),
    NoRoom(T, LockGuard<'a, State<T>>),
}

/// The result of a look for a message.
pub(super) enum Look<'a, T> {
    Message(T),
    Disconnected,
    Nothing(LockGuard<'a, State<T>>),
    /// R6 of `state`.
    Promise(LockGuard<'a, State<T>>),
}

/// Which messages a disconnection drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Discard {
    /// None: receivers are left to take them.
    Nothing,
    /// All: no receiver is left.
    Messages,
}

#[inline]
fn finish<T>(guard: LockGuard<'_, State<T>>, wake: Option<Wake>) {
    if let Some(wake) = wake {
        guard.wake(wake);
    }
}

impl<T> Channel<T> {
    pub(super) const SEND: WaitPolicy<(), State<T>, T> = WaitPolicy {
        list: State::list,
        reason: WaitReason::ChannelSend,
        // The message was sent already; or refused, and then its owner's frame drops it.
        abandon: |_, _, _, _, _, _| {},
    };

    pub(super) const RECEIVE: WaitPolicy<(), State<T>, T> = WaitPolicy {
        list: State::list,
        reason: WaitReason::ChannelRecv,
        abandon: |_, state, slot, _, wakes, here| {
            if let Some(message) = slot.take() {
                state.give_back(message, wakes, here);
            }
        },
    };

    #[track_caller]
    pub(super) fn new(capacity: Option<usize>) -> Self {
        Channel { state: Lock::new(State::new(capacity)), capacity }
    }

    #[inline]
    pub(super) fn pass(&self, message: T) -> Passed<'_, T> {
        let mut state = self.state.lock();
        if state.disconnected {
            return Passed::Disconnected(message);
        }
        let here = state.here();
        match state.hand_over(message, here) {
            Ok(wake) => {
                state.wake(wake);
                Passed::Sent
            }
            Err(message) if state.has_room() => {
                state.leave(message, here);
                Passed::Sent
            }
            Err(message) => Passed::NoRoom(message, state),
        }
    }

    #[inline]
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.pass(message) {
            Passed::Sent => Ok(()),
            Passed::Disconnected(message) => Err(TrySendError::Disconnected(message)),
            Passed::NoRoom(message, _) => Err(TrySendError::Full(message)),
        }
    }

    #[inline]
    pub(super) fn send(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        match self.pass(message) {
            Passed::Sent => Ok(()),
            Passed::Disconnected(message) => Err(SendTimeoutError::Disconnected(message)),
            Passed::NoRoom(message, state) => Self::wait_for_room(message, state, deadline),
        }
    }

    fn wait_for_room(
        message: T,
        mut state: LockGuard<'_, State<T>>,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        if deadline.is_some_and(has_passed) {
            drop(state);
            return Err(SendTimeoutError::Timeout(message));
        }
        let here = state.here();
        if state.is_rendezvous() {
            state.tell(RECEIVE_WATCHERS, here);
        }
        let mut slot = Some(message);
        let outcome = wait(&(), state, &Self::SEND, SENDERS, &mut slot, deadline.map(deadline_ns));
        match (outcome, slot) {
            (WaitOutcome::Served, _) => Ok(()),
            (WaitOutcome::TimedOut, Some(message)) => Err(SendTimeoutError::Timeout(message)),
            (_, Some(message)) => Err(SendTimeoutError::Disconnected(message)),
            (_, None) => unreachable!("only a taker that serves empties the slot"),
        }
    }

    #[inline]
    pub(super) fn look(&self) -> Look<'_, T> {
        let mut state = self.state.lock();
        let here = state.here();
        if let Some((message, wake)) = state.take(here) {
            finish(state, wake);
            return Look::Message(message);
        }
        if state.may_wait(SENDERS) {
            match state.meet(here) {
                Met::Message(message, wake) => {
                    state.wake(wake);
                    return Look::Message(message);
                }
                Met::Promise(wake) => {
                    // A thread in a select, never a future.
                    wake.fire_locked();
                    return Look::Promise(state);
                }
                Met::Nobody => {}
            }
        }
        if state.disconnected { Look::Disconnected } else { Look::Nothing(state) }
    }

    /// Receives if there is no need to wait. If a sender is in the middle of a `select!` that has chosen this
    /// channel, waits for its message.
    #[inline]
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.look() {
            Look::Message(message) => Ok(message),
            Look::Disconnected => Err(TryRecvError::Disconnected),
            Look::Nothing(_) => Err(TryRecvError::Empty),
            Look::Promise(state) => match Self::wait_for_message(state, PROMISED, None) {
                Ok(message) => Ok(message),
                Err(WaitOutcome::Closed) => Err(TryRecvError::Disconnected),
                Err(_) => Err(TryRecvError::Empty),
            },
        }
    }

    #[inline]
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let (mut state, list) = match self.look() {
                Look::Message(message) => return Ok(message),
                Look::Disconnected => return Err(RecvTimeoutError::Disconnected),
                Look::Nothing(_) if deadline.is_some_and(has_passed) => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Look::Nothing(state) => (state, RECEIVERS),
                Look::Promise(state) => (state, PROMISED),
            };
            let here = state.here();
            if state.is_rendezvous() {
                state.tell(SEND_WATCHERS, here);
            }
            match Self::wait_for_message(state, list, deadline.map(deadline_ns)) {
                Ok(message) => return Ok(message),
                Err(WaitOutcome::Again) => {}
                Err(WaitOutcome::TimedOut) => return Err(RecvTimeoutError::Timeout),
                Err(_) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }

    /// Waits in list `number`.
    pub(super) fn wait_for_message(
        state: LockGuard<'_, State<T>>,
        number: u8,
        deadline_ns: Option<u64>,
    ) -> Result<T, WaitOutcome> {
        let mut slot = None;
        let outcome = wait(&(), state, &Self::RECEIVE, number, &mut slot, deadline_ns);
        slot.ok_or(outcome)
    }

    /// The last receiver or the last sender is gone.
    pub(super) fn disconnect(&self, discard: Discard) {
        let mut discarded = VecDeque::new();
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        let here = state.here();
        state.disconnected = true;
        if discard == Discard::Messages {
            discarded = mem::take(&mut state.buffer);
        }
        state.tell(RECEIVE_WATCHERS, here);
        state.tell(SEND_WATCHERS, here);
        // Promised receivers wait for a sender, which exists.
        while let Some(receiver) = state.take_receiver() {
            wakes.push(receiver.end(WaitOutcome::Closed, here));
        }
        while let Some(sender) = state.take_sender() {
            wakes.push(sender.end(WaitOutcome::Closed, here));
        }
        drop(state);
        wakes.fire();
        // Destructors of messages are users' code and run without the lock. If one panics, the messages after
        // it are leaked: a second panic would abort.
        let mut discarded = ManuallyDrop::new(discarded);
        while let Some(message) = discarded.pop_front() {
            drop(message);
        }
        drop(ManuallyDrop::into_inner(discarded));
    }

    pub(super) fn len(&self) -> usize {
        let available = self.state.lock().available();
        self.capacity.map_or(available, |capacity| available.min(capacity))
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }
}
