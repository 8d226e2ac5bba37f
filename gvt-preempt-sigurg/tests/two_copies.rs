//! Several copies of this package in one process, as two versions of gvt bring them along: the handler's
//! module is compiled three times.
//!
//! Each copy goes in above the others when a runtime of its own attaches, and passes on what is not its own:
//! the copies form a ring.
#![allow(clippy::duplicate_mod, reason = "that is the point")]
#![allow(dead_code, missing_docs, reason = "modules of the package, of which a part is used here")]

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use gvt_traits::Interrupted;

#[path = "../src/elsewhere.rs"]
mod elsewhere;
#[path = "../src/handler.rs"]
mod one;
#[path = "../src/registry.rs"]
mod registry;
#[path = "../src/sync.rs"]
mod sync;
#[path = "../src/handler.rs"]
mod three;
#[path = "../src/handler.rs"]
mod two;

static HOOKS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
static AT_GROUND: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn hook<const COPY: usize>(_context: *mut c_void) -> Interrupted {
    HOOKS[COPY].fetch_add(1, SeqCst);
    Interrupted::Taken
}

extern "C" fn ground(_signal: i32) {
    AT_GROUND.fetch_add(1, SeqCst);
}

/// The calls since the last look: of the three hooks, and of the handler that was there first.
fn calls() -> ([usize; 3], usize) {
    (std::array::from_fn(|copy| HOOKS[copy].swap(0, SeqCst)), AT_GROUND.swap(0, SeqCst))
}

/// A signal from elsewhere reaches the handler that was there first, once, and no hook.
#[track_caller]
fn a_foreign_signal_ends() {
    // SAFETY: a signal with handlers.
    unsafe { libc::raise(libc::SIGURG) };
    assert_eq!(calls(), ([0; 3], 1));
}

/// One test, since the handlers are one for the whole process.
#[test]
fn a_foreign_signal_does_not_go_round() {
    // SAFETY: a valid handler.
    unsafe { libc::signal(libc::SIGURG, ground as extern "C" fn(i32) as libc::sighandler_t) };
    // SAFETY: no arguments.
    let me = unsafe { libc::gettid() };
    let first = one::attach(hook::<0>).unwrap();
    a_foreign_signal_ends();
    let second = two::attach(hook::<1>).unwrap();
    a_foreign_signal_ends();
    let mut more_of_one = Vec::new();
    let mut more_of_two = Vec::new();
    for _ in 0..3 {
        more_of_one.push(one::attach(hook::<0>).unwrap());
        a_foreign_signal_ends();
        more_of_two.push(two::attach(hook::<1>).unwrap());
        a_foreign_signal_ends();
        // Each copy's own signals reach its own hook, wherever it is in the ring.
        assert!(first.interrupt(me, one::exists, || one::send(me)));
        assert_eq!(calls(), ([1, 0, 0], 0));
        assert!(second.interrupt(me, two::exists, || two::send(me)));
        assert_eq!(calls(), ([0, 1, 0], 0));
    }
    let third = three::attach(hook::<2>).unwrap();
    a_foreign_signal_ends();
    assert!(first.interrupt(me, one::exists, || one::send(me)));
    assert!(second.interrupt(me, two::exists, || two::send(me)));
    assert!(third.interrupt(me, three::exists, || three::send(me)));
    assert_eq!(calls(), ([1, 1, 1], 0));
    for _ in 0..4 {
        more_of_one.push(one::attach(hook::<0>).unwrap());
        a_foreign_signal_ends();
        more_of_two.push(two::attach(hook::<1>).unwrap());
        a_foreign_signal_ends();
    }

    more_of_two.into_iter().for_each(two::detach);
    a_foreign_signal_ends();
    one::detach(first);
    more_of_one.into_iter().for_each(one::detach);
    a_foreign_signal_ends();
    three::detach(third);
    a_foreign_signal_ends();
    two::detach(second);
    a_foreign_signal_ends();
}
