//! A closure on a stack of its own, resumed and paused: the laws' smallest green thread.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gvt_traits::{ContextSwitch, Registers};

use crate::stacks::Stack;

type Body<X> = Box<dyn FnOnce(&Pause<X>) + Send>;

struct State<X: ContextSwitch> {
    resumer: Registers,
    strand: Registers,
    body: Option<Body<X>>,
    finished: bool,
    panic: Option<Box<dyn Any + Send>>,
    /// Last, since the body's frames must be gone before it is; see `Drop` of [`Strand`].
    _stack: Stack,
}

/// A closure that runs on its own stack whenever [`resume`](Self::resume) is called.
pub(super) struct Strand<X: ContextSwitch>(*mut State<X>);

// SAFETY: the body is `Send`, X5 lets the context move, and only one OS thread has the strand.
unsafe impl<X: ContextSwitch> Send for Strand<X> {}

/// What the body pauses with.
pub(super) struct Pause<X: ContextSwitch>(*mut State<X>, PhantomData<X>);

impl<X: ContextSwitch> Strand<X> {
    pub(super) fn new(stack_bytes: usize, body: impl FnOnce(&Pause<X>) + Send + 'static) -> Self {
        let stack = Stack::new(stack_bytes);
        let bounds = stack.bounds();
        let state = Box::into_raw(Box::new(State {
            resumer: Registers::default(),
            strand: Registers::default(),
            body: Some(Box::new(body)),
            finished: false,
            panic: None,
            _stack: stack,
        }));
        // SAFETY: C1: the block is ours. C2: the stack is new, and lives as long as the block.
        unsafe { X::prepare(&raw mut (*state).strand, bounds, entry::<X>, state.cast()) };
        Strand(state)
    }

    /// Runs the body to its next pause or its end; `true` at its end.
    pub(super) fn resume(&mut self) -> bool {
        let state = self.0;
        // SAFETY: C1: `resumer` is used by this call alone. C2: the strand is paused (`&mut self`, not
        // finished), and its pause happened before, since the strand was handed over since. C3: none held.
        unsafe {
            assert!(!(*state).finished, "a finished strand cannot be resumed");
            X::switch(&raw mut (*state).resumer, &raw const (*state).strand);
            (*state).finished
        }
    }

    /// The message of the panic that ended the body, if one did.
    pub(super) fn panic_message(&self) -> Option<String> {
        // SAFETY: the strand is not running (`&self`).
        let panic = unsafe { &(*self.0).panic };
        panic.as_ref().map(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without text")
                .to_owned()
        })
    }
}

impl<X: ContextSwitch> Drop for Strand<X> {
    /// The frames of a body that has not finished are forgotten, not unwound.
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`; the strand does not run and will not again.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<X: ContextSwitch> Pause<X> {
    /// Back to whoever resumed; returns at the next resume.
    #[inline(never)]
    pub(super) fn pause(&self) {
        let state = self.0;
        // SAFETY: C1: only this strand saves to `strand`. C2: `resumer` was saved by the resume that runs us.
        // C3: none held.
        unsafe { X::switch(&raw mut (*state).strand, &raw const (*state).resumer) };
    }
}

unsafe extern "C" fn entry<X: ContextSwitch>(state: *mut ()) -> ! {
    let state = state.cast::<State<X>>();
    // SAFETY: `state` is this strand's, which is alive while it is resumed; no reference to it is held across
    // a switch.
    unsafe {
        let body = (&raw mut (*state).body).replace(None).expect("a strand is entered once");
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&Pause(state, PhantomData))));
        (*state).panic = outcome.err();
        (*state).finished = true;
        X::leave(&raw const (*state).resumer)
    }
}
