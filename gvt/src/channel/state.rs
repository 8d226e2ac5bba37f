//! The state behind a channel's lock, and the rules for it.
//!
//! **Protocol.** Under the lock:
//! - **R1** A message goes to the first waiting receiver; else into the buffer if there is room; else its
//!   sender waits with it.
//! - **R2** A receiver that takes from the buffer lets the first waiting sender use the free room. With
//!   capacity 0 a receiver takes from the sender itself.
//! - So receivers wait only while there is no message and senders only while there is no room, and messages
//!   keep their order.
//! - **R3** A message that was handed to a receiver which is then unwound goes to the next receiver, or back
//!   to the front of the buffer, even if that is full.
//!
//! **Operations in two steps.** `select!` chooses an operation first and completes it later, with users' code
//! between. The choice must stand, so it reserves:
//! - **R4** a receive: one of the messages in the buffer (`picked`; completion decides which). Picked
//!   messages do not count: other threads neither receive them nor find the room taken.
//! - **R5** a send: room (`places`), if the channel has a buffer.
//! - **R6** a send without a buffer: a receiver. That receiver is *promised* a message: it waits on in a list
//!   of its own, or, if it is in two steps itself, is counted in `expecting` until it comes. A promise is
//!   anonymous; any promised message serves any promised receiver. A sender that breaks a promise tells one
//!   of them to start over.
//!
//! **Memory.** A bounded channel has room for all its messages from the start, so that sending allocates
//! nothing. An unbounded one doubles its buffer when it is full and halves it when seven eighths are empty:
//! the memory of a burst is released while it is received, at less than one moved message for each message,
//! and a channel whose length stays within a factor of four allocates nothing. Rejected: a list of blocks,
//! like crossbeam's, which never moves a message but allocates and frees a block for every 31 of them.
//!
//! **Evidence.** loom `models::*`; mutants `LetNobodyIn` (R2), `PickUncounted` (R4) fail them.

use std::collections::VecDeque;

use crate::protocol::atomics::{Mutant, mutant};
use crate::wait::host::Here;
use crate::wait::list::{BOUND, Claim, List, WaitOutcome, Waiter};
use crate::wait::wake::{Wake, WakeList};

pub(super) const RECEIVERS: u8 = 0;
pub(super) const SENDERS: u8 = 1;
pub(super) const RECEIVE_WATCHERS: u8 = 2;
pub(super) const SEND_WATCHERS: u8 = 3;
pub(super) const PROMISED: u8 = 4 | BOUND;

/// The fields down to `waiting` fill, after the lock's word, one cache line: an operation without a wait
/// touches no other.
#[repr(C)]
pub(super) struct State<T> {
    pub(super) buffer: VecDeque<T>,
    /// `usize::MAX`: unbounded.
    capacity: usize,
    /// R4.
    pub(super) picked: u32,
    /// R5.
    pub(super) places: u32,
    pub(super) disconnected: bool,
    /// A bit for each of the first four lists: if it is clear, the list is empty.
    waiting: u8,

    receivers: List<T>,
    senders: List<T>,
    /// Threads that wait to learn when they could receive, and when they could send.
    receive_watchers: List<()>,
    send_watchers: List<()>,
    /// R6.
    pub(super) promised: List<T>,
    /// R6.
    pub(super) expecting: usize,
}

/// An unbounded channel keeps room for this many messages.
const KEPT: usize = 64;

const fn bit(list: u8) -> u8 {
    1 << list
}

/// What a receiver gets from waiting senders.
pub(super) enum Met<T> {
    Nobody,
    Message(T, Wake),
    /// R6: the sender has yet to make its message.
    Promise(Wake),
}

/// An empty queue with memory for `capacity` messages.
///
/// # Panics
///
/// If there is no memory for it.
#[track_caller]
pub(super) fn room<T>(capacity: usize) -> VecDeque<T> {
    let mut queue = VecDeque::new();
    if queue.try_reserve_exact(capacity).is_err() {
        panic!(
            "cannot make a channel for {capacity} messages of {} bytes: so much memory cannot be had; ask for a smaller \
             capacity",
            size_of::<T>()
        );
    }
    queue
}

impl<T> State<T> {
    #[track_caller]
    pub(super) fn new(capacity: Option<usize>) -> Self {
        State {
            buffer: room(capacity.unwrap_or(0)),
            capacity: capacity.unwrap_or(usize::MAX),
            picked: 0,
            places: 0,
            disconnected: false,
            waiting: 0,
            receivers: List::new(),
            senders: List::new(),
            receive_watchers: List::new(),
            send_watchers: List::new(),
            promised: List::new(),
            expecting: 0,
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.capacity != usize::MAX
    }

    /// Whether a list may have a waiter in it.
    #[inline]
    pub(super) fn may_wait(&self, list: u8) -> bool {
        self.waiting & bit(list) != 0
    }

    /// A list of waiters with a message, to link into or unlink from.
    pub(super) fn list(&mut self, number: u8) -> &mut List<T> {
        match number {
            RECEIVERS => {
                self.waiting |= bit(RECEIVERS);
                &mut self.receivers
            }
            SENDERS => {
                self.waiting |= bit(SENDERS);
                &mut self.senders
            }
            _ => &mut self.promised,
        }
    }

    /// A list of watchers, to link into or unlink from.
    pub(super) fn watchers(&mut self, number: u8) -> &mut List<()> {
        self.waiting |= bit(number);
        if number == SEND_WATCHERS { &mut self.send_watchers } else { &mut self.receive_watchers }
    }

    /// The first waiting receiver.
    pub(super) fn take_receiver(&mut self) -> Option<Waiter<T>> {
        let receiver = self.receivers.take();
        if self.receivers.is_empty() {
            self.waiting &= !bit(RECEIVERS);
        }
        receiver
    }

    /// The first waiting sender.
    pub(super) fn take_sender(&mut self) -> Option<Waiter<T>> {
        let sender = self.senders.take();
        if self.senders.is_empty() {
            self.waiting &= !bit(SENDERS);
        }
        sender
    }

    /// Wakes all watchers of one kind. They are never futures, so they may be woken under the lock.
    #[inline]
    pub(super) fn tell(&mut self, number: u8, here: Here) {
        if self.may_wait(number) {
            self.tell_slow(number, here);
        }
    }

    #[cold]
    fn tell_slow(&mut self, number: u8, here: Here) {
        while let Some(watcher) = self.watchers(number).take() {
            watcher.end(WaitOutcome::Served, here).fire_locked();
        }
        self.waiting &= !bit(number);
    }

    /// The number of messages that any receiver can take.
    #[inline]
    pub(super) fn available(&self) -> usize {
        self.buffer.len() - self.picked as usize
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.available() + (self.places as usize) < self.capacity
    }

    pub(super) fn is_rendezvous(&self) -> bool {
        self.capacity == 0
    }

    /// Whether a receive would not wait; `mine` is the caller's claim.
    pub(super) fn can_receive(&self, mine: *const Claim) -> bool {
        self.available() > 0 || self.disconnected || (self.is_rendezvous() && self.senders.has_other(mine))
    }

    /// Whether a send would not wait; `mine` is the caller's claim.
    pub(super) fn can_send(&self, mine: *const Claim) -> bool {
        self.has_room() || self.disconnected || (self.is_rendezvous() && self.receivers.has_other(mine))
    }

    /// R1's first half; returns the message if no receiver waits.
    #[inline]
    pub(super) fn hand_over(&mut self, message: T, here: Here) -> Result<Wake, T> {
        if !self.may_wait(RECEIVERS) {
            return Err(message);
        }
        match self.take_receiver() {
            Some(waiter) => Ok(self.serve(waiter, message, here)),
            None => Err(message),
        }
    }

    #[inline]
    fn serve(&mut self, mut waiter: Waiter<T>, message: T, here: Here) -> Wake {
        match waiter.slot() {
            Some(slot) => *slot = Some(message),
            None => {
                self.buffer.push_back(message);
                self.picked += u32::from(!mutant(Mutant::PickUncounted));
            }
        }
        waiter.end(WaitOutcome::Served, here)
    }

    /// R1's second half: leaves a message in the buffer.
    #[inline]
    pub(super) fn leave(&mut self, message: T, here: Here) {
        self.buffer.push_back(message);
        self.tell(RECEIVE_WATCHERS, here);
    }

    /// R1 for a message that already has its room.
    pub(super) fn deliver(&mut self, message: T, wakes: &mut WakeList, here: Here) {
        match self.hand_over(message, here) {
            Ok(wake) => wakes.push(wake),
            Err(message) => self.leave(message, here),
        }
    }

    /// The first message of the buffer. See "Memory".
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let message = self.buffer.pop_front();
        let room = self.buffer.capacity();
        if !self.is_bounded() && size_of::<T>() != 0 && room > KEPT && self.buffer.len() < room / 8 {
            self.halve();
        }
        message
    }

    #[cold]
    fn halve(&mut self) {
        self.buffer.shrink_to(self.buffer.capacity() / 2);
    }

    /// R2: takes from the buffer.
    #[inline]
    pub(super) fn take(&mut self, here: Here) -> Option<(T, Option<Wake>)> {
        if self.available() == 0 {
            return None;
        }
        let message = self.pop()?;
        Some((message, self.let_in(here)))
    }

    /// R2: there may be free room while no receiver waits.
    #[inline]
    pub(super) fn let_in(&mut self, here: Here) -> Option<Wake> {
        if self.waiting & (bit(SENDERS) | bit(SEND_WATCHERS)) == 0 {
            return None;
        }
        self.let_in_slow(here)
    }

    fn let_in_slow(&mut self, here: Here) -> Option<Wake> {
        if !self.has_room() || mutant(Mutant::LetNobodyIn) {
            return None;
        }
        let Some(mut waiter) = self.take_sender() else {
            self.tell(SEND_WATCHERS, here);
            return None;
        };
        match waiter.slot() {
            Some(slot) => {
                let message = slot.take().expect("a waiting sender has its message with it");
                self.leave(message, here);
            }
            None => self.places += 1,
        }
        Some(waiter.end(WaitOutcome::Served, here))
    }

    /// Hands messages in the buffer to waiting receivers.
    pub(super) fn settle(&mut self, wakes: &mut WakeList, here: Here) {
        while self.available() > 0 && self.may_wait(RECEIVERS) {
            let Some(waiter) = self.take_receiver() else {
                return;
            };
            let message = self.pop().expect("one is available");
            wakes.push(self.serve(waiter, message, here));
        }
    }

    /// R2 without a buffer.
    pub(super) fn meet(&mut self, here: Here) -> Met<T> {
        if !self.is_rendezvous() {
            return Met::Nobody;
        }
        let Some(mut waiter) = self.take_sender() else {
            return Met::Nobody;
        };
        match waiter.slot() {
            Some(slot) => {
                let message = slot.take().expect("a waiting sender has its message with it");
                Met::Message(message, waiter.end(WaitOutcome::Served, here))
            }
            None => Met::Promise(waiter.end(WaitOutcome::Served, here)),
        }
    }

    /// R3.
    pub(super) fn give_back(&mut self, message: T, wakes: &mut WakeList, here: Here) {
        match self.hand_over(message, here) {
            Ok(wake) => wakes.push(wake),
            Err(message) => {
                self.buffer.push_front(message);
                self.tell(RECEIVE_WATCHERS, here);
            }
        }
    }
}
