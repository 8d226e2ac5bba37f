//! The arms of `select!`.
//!
//! **Shape.** `keyword(end) -> …` in a `select!` is `On::new(end).keyword()`: a method on a wrapper around
//! the expression in the parentheses. So each type lists its keywords beside its own code, the wrapper
//! dereferences like any method call, and the compiler's message about a wrong end or a wrong keyword points
//! at the keyword in the arm. The method makes an *operation*, which lives until one is chosen. It borrows
//! the end, but has no destructor that looks at it, so the body of an arm may use, change or drop all ends
//! again.
//!
//! **Operations.** `select` chooses among operations as [`Handle`]s, and [`Operation`] completes the chosen
//! one. No users' code runs between the two, except for a send, whose message is evaluated then
//! ([`Reserved`]). An operation that is not chosen takes nothing: most operations ([`Waited`]) only find out
//! that they need not wait, and take on completion.
//!
//! **Rejected.** One keyword for everything, with a public trait for what waits: an arm then does not say
//! what it waits for. Mutable borrows for the receivers with a position of their own (`watch`, `broadcast`):
//! the macro would have to know the type. These keep their position in an atomic instead, which is read and
//! written under their channel's lock.

use std::ops::Deref;
use std::time::Instant;

use super::error::{RecvError, SendError};
use super::select::{Arm, Choice, Handle, Limit, run};
use super::selected::{Token, Wish};
use super::{Receiver, Sender};
use crate::wait::list::{List, Node, WaitOutcome};
use crate::wait::lock::Lock;

/// The end in an arm.
#[repr(transparent)]
pub struct On<E: ?Sized>(E);

impl<E: ?Sized> On<E> {
    /// Wraps the expression in an arm's parentheses.
    pub fn new(end: &E) -> &Self {
        // SAFETY: transparent, so a reference to the one is a reference to the other.
        unsafe { &*(std::ptr::from_ref(end) as *const Self) }
    }

    /// The wrapped end.
    pub(crate) fn end(&self) -> &E {
        &self.0
    }
}

impl<E: Deref + ?Sized> Deref for On<E> {
    type Target = On<E::Target>;

    fn deref(&self) -> &Self::Target {
        On::new(&*self.0)
    }
}

/// The operation of an arm.
pub trait Operation: Handle {
    /// The type that the arm's pattern matches.
    type Output;

    /// Completes the operation after it was chosen.
    fn complete(&self, token: Token) -> Self::Output;
}

/// Completes the operation that was chosen.
pub fn complete<O: Operation>(operation: &O, selected: Selected) -> O::Output {
    operation.complete(selected.token)
}

/// Drops all operations of a select.
pub fn end<O>(operations: O) {
    drop(operations);
}

/// An operation as one arm of a select.
pub fn arm<'a>(operation: &'a dyn Handle) -> Arm<'a> {
    Arm::new(operation, std::ptr::null(), 0)
}

/// Which operation was chosen, and its reservation; it must be completed at once.
#[derive(Clone, Copy)]
#[must_use = "a chosen operation must be completed"]
pub struct Selected {
    /// The index of its arm.
    pub index: usize,
    token: Token,
}

/// The body of `select!`.
#[inline]
pub fn select(arms: &mut [Arm<'_>], limit: Limit, choice: Choice) -> Option<Selected> {
    for (index, arm) in arms.iter_mut().enumerate() {
        arm.index = index;
    }
    let chosen = run(arms, limit, Wish::Operate, choice)?;
    Some(Selected { index: chosen.index, token: chosen.token })
}

/// An end of a channel; its own file implements `Handle` for it.
macro_rules! ends {
    ($($name:ident $method:ident $end:ident;)+) => {
        $(
            #[allow(missing_docs, reason = "hidden; the macro's documentation describes it")]
            pub struct $name<'a, T>(&'a $end<T>);

            impl<T> On<$end<T>> {
                #[allow(missing_docs, reason = "hidden; the macro's documentation describes it")]
                pub fn $method(&self) -> $name<'_, T> {
                    $name(self.end())
                }
            }

            impl<T> Handle for $name<'_, T> {
                fn choose(&self) -> Option<Token> {
                    self.0.choose()
                }

                fn is_ready(&self) -> bool {
                    Handle::is_ready(self.0)
                }

                unsafe fn enlist(&self, node: *mut Node, wish: Wish) -> bool {
                    // SAFETY: the caller's C1.
                    unsafe { self.0.enlist(node, wish) }
                }

                unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
                    // SAFETY: the caller's C1.
                    unsafe { self.0.withdraw(node) }
                }

                fn served(&self) -> Token {
                    self.0.served()
                }

                fn abandon(&self, token: Token) {
                    self.0.abandon(token);
                }

                fn next(&self) -> Option<Instant> {
                    self.0.next()
                }
            }
        )+
    };
}

ends! {
    Receiving recv Receiver;
    Sending send Sender;
}

impl<T> Operation for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn complete(&self, token: Token) -> Self::Output {
        self.0.complete(token)
    }
}

/// A chosen send while its message is evaluated. On drop it releases the reservation.
pub struct Reserved<'a, T> {
    sender: &'a Sender<T>,
    token: Token,
}

impl<'a, T> Reserved<'a, T> {
    /// After `send` was chosen.
    pub fn new(send: &Sending<'a, T>, selected: Selected) -> Self {
        Reserved { sender: send.0, token: selected.token }
    }
}

/// Sends the message of an arm that was chosen.
pub fn send<T>(reserved: Reserved<'_, T>, message: T) -> Result<(), SendError<T>> {
    let reserved = std::mem::ManuallyDrop::new(reserved);
    reserved.sender.complete(reserved.token, message)
}

impl<T> Drop for Reserved<'_, T> {
    fn drop(&mut self) {
        self.sender.abandon(self.token);
    }
}

/// An operation that waits in a list behind a lock, and that no other thread can perform once it is ready.
pub(crate) trait Waited {
    type State;
    type Slot;

    fn lock(&self) -> &Lock<Self::State>;
    fn is_ready(&self, state: &Self::State) -> bool;
    /// The list that it waits in, and the list's number.
    fn list<'s>(&self, state: &'s mut Self::State) -> (&'s mut List<Self::Slot>, u8);
}

impl<W: Waited> Handle for W {
    fn choose(&self) -> Option<Token> {
        Handle::is_ready(self).then_some(Token::Free)
    }

    fn is_ready(&self) -> bool {
        Waited::is_ready(self, &self.lock().lock())
    }

    unsafe fn enlist(&self, node: *mut Node, _: Wish) -> bool {
        let mut state = self.lock().lock();
        if Waited::is_ready(self, &state) {
            return false;
        }
        let (list, number) = self.list(&mut state);
        // SAFETY: the caller's C1; locked; a select's node has no slot.
        unsafe { list.push(node, number) };
        true
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        let mut state = self.lock().lock();
        // SAFETY: the caller's C1, locked.
        unsafe {
            if (*node).is_linked() {
                self.list(&mut state).0.unlink(node);
            }
            (*node).outcome()
        }
    }

    fn served(&self) -> Token {
        Token::Free
    }

    fn abandon(&self, _: Token) {}

    fn next(&self) -> Option<Instant> {
        None
    }
}

/// An operation of an end that waits in a list of its channel's state: the type, its keyword, and its
/// [`Waited`].
macro_rules! waited {
    (
        $(#[$docs:meta])*
        $name:ident = $keyword:ident($end:ident), $state:ty, $slot:ty;
        lock: |$locked:ident| $lock:expr;
        ready: |$asked:pat_param, $seen:ident| $ready:expr;
        list: |$linked:ident| $list:expr;
    ) => {
        $(#[$docs])*
        #[doc(hidden)]
        pub struct $name<'a, T>(&'a $end<T>);

        impl<T> On<$end<T>> {
            #[doc(hidden)]
            pub fn $keyword(&self) -> $name<'_, T> {
                $name(self.end())
            }
        }

        impl<T> Waited for $name<'_, T> {
            type State = $state;
            type Slot = $slot;

            fn lock(&self) -> &Lock<$state> {
                let $locked = self.0;
                $lock
            }

            fn is_ready(&self, $seen: &$state) -> bool {
                let $asked = self.0;
                $ready
            }

            fn list<'s>(&self, $linked: &'s mut $state) -> (&'s mut List<$slot>, u8) {
                $list
            }
        }
    };
}

pub(super) use waited;
