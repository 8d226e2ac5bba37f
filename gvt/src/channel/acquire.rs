//! `acquire(semaphore)` in `select!`.

use std::cell::UnsafeCell;
use std::time::Instant;

use super::arms::{On, Operation};
use super::select::Handle;
use super::selected::{Token, Wish};
use crate::sync::semaphore::{Semaphore, SemaphorePermit, check};
use crate::wait::list::{Node, WaitOutcome};

/// `acquire(semaphore) -> permit` and `acquire_many(semaphore, permits) -> permit` in `select!`. A chosen
/// operation has its permits, and gives them back if it is abandoned.
#[doc(hidden)]
pub struct Acquiring<'a> {
    semaphore: &'a Semaphore,
    needed: UnsafeCell<Option<usize>>,
}

impl On<Semaphore> {
    #[doc(hidden)]
    pub fn acquire(&self) -> Acquiring<'_> {
        self.acquire_many(1)
    }

    #[doc(hidden)]
    pub fn acquire_many(&self, permits: usize) -> Acquiring<'_> {
        check(permits);
        Acquiring { semaphore: self.end(), needed: UnsafeCell::new(Some(permits)) }
    }
}

impl Acquiring<'_> {
    fn needed(&self) -> usize {
        // SAFETY: written only at construction.
        unsafe { *self.needed.get() }.expect("a waiter says what it needs")
    }
}

impl Handle for Acquiring<'_> {
    fn choose(&self) -> Option<Token> {
        self.semaphore.raw.try_acquire(self.needed()).then_some(Token::Room)
    }

    fn is_ready(&self) -> bool {
        self.semaphore.raw.has(self.needed())
    }

    unsafe fn enlist(&self, node: *mut Node, _: Wish) -> bool {
        // SAFETY: C1 of `RawSemaphore::enlist`: the operation outlives the node's time in the list, and
        // `needed` is not written again; the caller's C1.
        unsafe { self.semaphore.raw.enlist(node, &self.needed) }
    }

    unsafe fn withdraw(&self, node: *mut Node) -> WaitOutcome {
        // SAFETY: the caller's C1.
        unsafe { self.semaphore.raw.withdraw(node) }
    }

    fn served(&self) -> Token {
        Token::Room
    }

    fn abandon(&self, _: Token) {
        self.semaphore.raw.release(self.needed());
    }

    fn next(&self) -> Option<Instant> {
        None
    }
}

impl<'a> Operation for Acquiring<'a> {
    type Output = SemaphorePermit<'a>;

    fn complete(&self, _: Token) -> SemaphorePermit<'a> {
        SemaphorePermit::acquired(self.semaphore, self.needed())
    }
}
