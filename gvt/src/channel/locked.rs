//! A channel behind one lock: rendezvous, bounded or unbounded.
//!
//! **Protocol.** Under the lock: **R1** a sender that finds a receiver waiting hands its message over; else
//! it leaves it in the buffer; else (no room) it waits with the message in its node. **R2** A receiver that takes from the
//! buffer moves the first waiting sender's message into the place that became free; one that finds the buffer
//! empty takes from a waiting sender; else it waits. So receivers wait only while the buffer is empty and
//! senders only while it is full, and messages keep their order. **R3** A message that was handed to a receiver which is then
//! unwound goes to the next receiver, or back to the front of the buffer, be it full.

use std::collections::VecDeque;
use std::time::Instant;

use gvt_traits::WaitReason;

use super::error::*;
use crate::sync::{List, Lock, LockGuard, Outcome, wait};
use crate::time::{deadline_ns, has_passed};

pub(super) struct Channel<T> {
    state: Lock<State<T>>,
    capacity: Option<usize>,
}

struct State<T> {
    buffer: VecDeque<T>,
    receivers: List<T>,
    senders: List<T>,
    disconnected: bool,
}

impl<T> State<T> {
    /// R3.
    fn give_back(&mut self, slot: Option<T>) -> Option<T> {
        let mut message = slot?;
        if !self.disconnected {
            match self.receivers.take_with(message) {
                Ok(taken) => {
                    taken.wake_locked();
                    return None;
                }
                Err(back) => message = back,
            }
        }
        self.buffer.push_front(message);
        None
    }
}

impl<T> Channel<T> {
    pub(super) fn new(capacity: Option<usize>) -> Self {
        Channel {
            state: Lock::new(State {
                buffer: VecDeque::with_capacity(capacity.unwrap_or(0)),
                receivers: List::new(),
                senders: List::new(),
                disconnected: false,
            }),
            capacity,
        }
    }

    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state.lock();
        if state.disconnected {
            drop(state);
            return Err(TrySendError::Disconnected(message));
        }
        let message = match state.receivers.take_with(message) {
            Ok(taken) => {
                taken.wake(state);
                return Ok(());
            }
            Err(message) => message,
        };
        if self.capacity.is_none_or(|capacity| state.buffer.len() < capacity) {
            state.buffer.push_back(message);
            return Ok(());
        }
        drop(state);
        Err(TrySendError::Full(message))
    }

    pub(super) fn send(&self, mut message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        loop {
            let mut state = self.state.lock();
            if state.disconnected {
                drop(state);
                return Err(SendTimeoutError::Disconnected(message));
            }
            message = match state.receivers.take_with(message) {
                Ok(taken) => {
                    taken.wake(state);
                    return Ok(());
                }
                Err(message) => message,
            };
            if self.capacity.is_none_or(|capacity| state.buffer.len() < capacity) {
                state.buffer.push_back(message);
                return Ok(());
            }
            if deadline.is_some_and(has_passed) {
                drop(state);
                return Err(SendTimeoutError::Timeout(message));
            }
            let outcome = wait(
                state,
                &self.state,
                |state| &mut state.senders,
                Some(message),
                WaitReason::ChannelSend,
                deadline.map(deadline_ns),
                |_, refused| refused,
            );
            match outcome {
                Outcome::Taken(None) => return Ok(()),
                Outcome::Taken(Some(refused)) => return Err(SendTimeoutError::Disconnected(refused)),
                Outcome::TimedOut(back) => message = back.expect("only a taker empties the slot"),
            }
        }
    }

    fn receive<'a>(
        &'a self,
        mut state: LockGuard<'a, State<T>>,
    ) -> Result<T, (LockGuard<'a, State<T>>, TryRecvError)> {
        if let Some(message) = state.buffer.pop_front() {
            // R2. A buffer that R3 has filled over its capacity has no room yet.
            if self.capacity.is_some_and(|capacity| state.buffer.len() < capacity)
                && let Some((taken, sent)) = state.senders.take_out()
            {
                state.buffer.push_back(sent);
                taken.wake(state);
            }
            return Ok(message);
        }
        if let Some((taken, message)) = state.senders.take_out() {
            taken.wake(state);
            return Ok(message);
        }
        let why = if state.disconnected { TryRecvError::Disconnected } else { TryRecvError::Empty };
        Err((state, why))
    }

    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receive(self.state.lock()).map_err(|(_, why)| why)
    }

    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let state = match self.receive(self.state.lock()) {
                Ok(message) => return Ok(message),
                Err((_, TryRecvError::Disconnected)) => return Err(RecvTimeoutError::Disconnected),
                Err((state, TryRecvError::Empty)) => state,
            };
            if deadline.is_some_and(has_passed) {
                return Err(RecvTimeoutError::Timeout);
            }
            let outcome = wait(
                state,
                &self.state,
                |state| &mut state.receivers,
                None,
                WaitReason::ChannelRecv,
                deadline.map(deadline_ns),
                State::give_back,
            );
            match outcome {
                Outcome::Taken(Some(message)) => return Ok(message),
                Outcome::Taken(None) => return Err(RecvTimeoutError::Disconnected),
                Outcome::TimedOut(_) => {}
            }
        }
    }

    /// The last receiver or the last sender is gone.
    pub(super) fn disconnect(&self, discard: Discard) {
        let mut state = self.state.lock();
        state.disconnected = true;
        // Waiters of one side only: the other is gone. They find their slots as they were.
        while let Some(taken) = state.receivers.take() {
            taken.wake_locked();
        }
        while let Some(taken) = state.senders.take() {
            taken.wake_locked();
        }
        let discarded = match discard {
            Discard::Messages => std::mem::take(&mut state.buffer),
            Discard::Nothing => VecDeque::new(),
        };
        drop(state);
        // Destructors of messages are user code: without the lock.
        drop(discarded);
    }

    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        self.capacity.map_or(state.buffer.len(), |capacity| state.buffer.len().min(capacity))
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }
}

/// What becomes of the messages in a channel when one side is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Discard {
    /// Receivers are left to take them.
    Nothing,
    /// Nobody is left to take them.
    Messages,
}
