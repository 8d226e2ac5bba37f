//! A channel's operations in two steps: choice and completion (R4 to R6 of `state`).
//!
//! Between the steps a [`Token`] says what is reserved. It is completed or abandoned exactly once.

use std::ptr;
use std::time::Instant;

use super::error::*;
use super::queue::Channel;
use super::state::{Met, PROMISED, RECEIVE_WATCHERS, RECEIVERS, SEND_WATCHERS, SENDERS, State};
use crate::protocol::atomics::{Mutant, mutant};
use crate::wait::host::Here;
use crate::wait::list::{Node, WaitOutcome};
use crate::wait::wake::WakeList;

/// The reservation of a chosen operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// Nothing: the channel is disconnected.
    Closed,
    /// R4, or in a rendezvous R6's `expecting`: a message.
    Message,
    /// R5: room.
    Room,
    /// R6: a receiver that was promised a message.
    Promise,
    /// Nothing: the channel always has room.
    Free,
    /// The message itself, of a channel of instants.
    Instant(Instant),
    /// Nothing: the caller only asked whether the operation could be done.
    Ready,
}

/// The purpose of a thread that waits at a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To do the operation.
    Operate,
    /// To learn when it could be done.
    Watch,
}

impl<T> State<T> {
    /// # Safety
    ///
    /// C1 and C2 of `List::push` and `List::unlink`.
    unsafe fn link(&mut self, node: *mut Node, number: u8) {
        // SAFETY: the caller's.
        unsafe {
            match number {
                RECEIVE_WATCHERS | SEND_WATCHERS => self.watchers(number).push(node, number),
                _ => self.list(number).push(node, number),
            }
        }
    }

    /// # Safety
    ///
    /// As [`link`](Self::link).
    unsafe fn unlink(&mut self, node: *mut Node) {
        // SAFETY: the caller's.
        unsafe {
            match (*node).list() {
                number @ (RECEIVE_WATCHERS | SEND_WATCHERS) => self.watchers(number).unlink(node),
                number => self.list(number).unlink(node),
            }
        }
    }

    /// Breaks a promise.
    fn disappoint(&mut self, wakes: &mut WakeList, here: Here) {
        match self.promised.take() {
            Some(waiter) => wakes.push(waiter.end(WaitOutcome::Again, here)),
            // Its receive then finds no message and no promise, and starts over.
            None => self.expecting = self.expecting.saturating_sub(1),
        }
    }
}

impl<T> Channel<T> {
    /// Chooses a send if it need not wait.
    pub(super) fn choose_send(&self) -> Option<Token> {
        let mut state = self.state.lock();
        let here = state.here();
        if state.disconnected {
            return Some(Token::Closed);
        }
        if !state.is_bounded() {
            return Some(Token::Free);
        }
        if state.has_room() {
            state.places += 1;
            return Some(Token::Room);
        }
        if !state.is_rendezvous() {
            return None;
        }
        let mut waiter = state.take_receiver()?;
        if waiter.slot().is_some() {
            waiter.move_to(&mut state.promised, PROMISED);
        } else {
            state.expecting += 1;
            let wake = waiter.end(WaitOutcome::Served, here);
            state.wake(wake);
        }
        Some(Token::Promise)
    }

    /// Chooses a receive if it need not wait.
    pub(super) fn choose_receive(&self) -> Option<Token> {
        let mut state = self.state.lock();
        let here = state.here();
        if state.available() > 0 {
            state.picked += 1;
            if let Some(wake) = state.let_in(here) {
                state.wake(wake);
            }
            return Some(Token::Message);
        }
        let wake = match state.meet(here) {
            Met::Message(message, wake) => {
                state.buffer.push_back(message);
                state.picked += 1;
                wake
            }
            Met::Promise(wake) => {
                state.expecting += 1;
                wake
            }
            Met::Nobody => return state.disconnected.then_some(Token::Closed),
        };
        state.wake(wake);
        Some(Token::Message)
    }

    pub(super) fn complete_send(&self, token: Token, message: T) -> Result<(), SendError<T>> {
        let mut state = self.state.lock();
        let here = state.here();
        let mut wakes = WakeList::new();
        match token {
            Token::Room => {
                state.places -= 1;
                if state.disconnected {
                    drop(state);
                    return Err(SendError(message));
                }
                state.deliver(message, &mut wakes, here);
                // If the message went to a receiver, its room is free.
                if let Some(wake) = state.let_in(here) {
                    wakes.push(wake);
                }
            }
            Token::Promise => match state.promised.take() {
                Some(mut waiter) => {
                    *waiter.slot().expect("no select waits for a promise") = Some(message);
                    wakes.push(waiter.end(WaitOutcome::Served, here));
                }
                None if state.expecting > 0 => {
                    state.expecting -= 1;
                    state.buffer.push_back(message);
                    state.picked += 1;
                }
                None => {
                    // The receiver was unwound.
                    drop(state);
                    return self.send(message, None).map_err(|refused| SendError(refused.into_inner()));
                }
            },
            Token::Closed => {
                drop(state);
                return Err(SendError(message));
            }
            _ => {
                drop(state);
                return self.send(message, None).map_err(|refused| SendError(refused.into_inner()));
            }
        }
        drop(state);
        wakes.fire();
        Ok(())
    }

    pub(super) fn complete_receive(&self, token: Token) -> Result<T, RecvError> {
        if token == Token::Closed {
            return Err(RecvError);
        }
        let mut state = self.state.lock();
        if state.picked > 0 {
            state.picked -= 1;
            return state.pop().ok_or(RecvError);
        }
        if state.expecting > 0 {
            state.expecting -= 1;
            match Self::wait_for_message(state, PROMISED, None) {
                Ok(message) => return Ok(message),
                Err(WaitOutcome::Closed) => return Err(RecvError),
                Err(_) => {}
            }
        } else {
            drop(state);
        }
        // The promise was broken.
        self.recv(None).map_err(|_| RecvError)
    }

    pub(super) fn abandon_send(&self, token: Token) {
        let mut state = self.state.lock();
        let here = state.here();
        let mut wakes = WakeList::new();
        match token {
            Token::Room => {
                state.places -= 1;
                if let Some(wake) = state.let_in(here) {
                    wakes.push(wake);
                }
                state.settle(&mut wakes, here);
            }
            Token::Promise => state.disappoint(&mut wakes, here),
            _ => {}
        }
        drop(state);
        wakes.fire();
    }

    pub(super) fn abandon_receive(&self, token: Token) {
        if token != Token::Message {
            return;
        }
        let mut state = self.state.lock();
        let here = state.here();
        let mut wakes = WakeList::new();
        if state.picked > 0 {
            state.picked -= 1;
            state.settle(&mut wakes, here);
            if state.available() > 0 {
                state.tell(RECEIVE_WATCHERS, here);
            }
        } else {
            // The promise then finds no receiver.
            state.expecting = state.expecting.saturating_sub(1);
        }
        drop(state);
        wakes.fire();
    }

    pub(super) fn can_send(&self) -> bool {
        self.state.lock().can_send(ptr::null())
    }

    pub(super) fn can_receive(&self) -> bool {
        self.state.lock().can_receive(ptr::null())
    }

    /// Links a select's node, unless the operation need not wait; returns whether it is linked.
    ///
    /// # Safety
    ///
    /// **C1**: the node stays where it is until [`withdraw`](Self::withdraw).
    pub(super) unsafe fn enlist_send(&self, node: *mut Node, wish: Wish) -> bool {
        let mut state = self.state.lock();
        let here = state.here();
        // SAFETY: C1.
        let mine = unsafe { (*node).claim() };
        if state.can_send(mine) && !mutant(Mutant::EnlistBlind) {
            return false;
        }
        let number = if wish == Wish::Operate { SENDERS } else { SEND_WATCHERS };
        // SAFETY: C1; locked; a select's node has no slot.
        unsafe { state.link(node, number) };
        if wish == Wish::Operate && state.is_rendezvous() {
            state.tell(RECEIVE_WATCHERS, here);
        }
        true
    }

    /// The same for a receive.
    ///
    /// # Safety
    ///
    /// C1 of [`enlist_send`](Self::enlist_send).
    pub(super) unsafe fn enlist_receive(&self, node: *mut Node, wish: Wish) -> bool {
        let mut state = self.state.lock();
        let here = state.here();
        // SAFETY: C1.
        let mine = unsafe { (*node).claim() };
        if state.can_receive(mine) && !mutant(Mutant::EnlistBlind) {
            return false;
        }
        let number = if wish == Wish::Operate { RECEIVERS } else { RECEIVE_WATCHERS };
        // SAFETY: C1; locked; a select's node has no slot.
        unsafe { state.link(node, number) };
        if wish == Wish::Operate && state.is_rendezvous() {
            state.tell(SEND_WATCHERS, here);
        }
        true
    }

    /// Takes a node back; returns how its wait ended.
    ///
    /// # Safety
    ///
    /// **C1**: the node was given to `enlist_send` or `enlist_receive` of this channel, which returned
    /// `true`.
    pub(super) unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        let mut state = self.state.lock();
        // SAFETY: C1, locked.
        unsafe {
            if (*node).is_linked() {
                state.unlink(node);
            }
            (*node).outcome()
        }
    }
}
