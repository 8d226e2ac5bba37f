//! loom models of the registry:
//! `RUSTFLAGS="--cfg loom" cargo test -p gvt-preempt-sigurg --release --lib --target-dir target-loom`.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use gvt_traits::{InterruptHook, Interrupted};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::{Outcome, Registry};
use crate::sync::{MUTANT, Mutant};

const THREAD: i32 = 7;

extern "C" fn first(_: *mut c_void) -> Interrupted {
    Interrupted::Taken
}

extern "C" fn second(_: *mut c_void) -> Interrupted {
    Interrupted::NotOurs
}

/// Whose hook it is. Not by address: a function may have several.
fn answer(hook: InterruptHook) -> Interrupted {
    // SAFETY: `first` and `second` look at nothing.
    unsafe { hook(std::ptr::null_mut()) }
}

/// What belongs to a runtime and goes away with it.
struct Runtime(UnsafeCell<u32>);

// SAFETY: loom checks every access.
unsafe impl Sync for Runtime {}
// SAFETY: as above.
unsafe impl Send for Runtime {}

/// O1, O2, O3, O5, O6 of `registry`: a hook runs before its runtime has detached or not at all, and never for
/// a mark that another runtime made, though the node is used again.
fn retire_waits_for_hooks() {
    let registry: &'static Registry = Box::leak(Box::new(Registry::new()));
    let runtime = Arc::new(Runtime(UnsafeCell::new(1)));
    let node = registry.insert(first);
    assert!(node.interrupt(THREAD, |_| true, || true));

    let theirs = Arc::clone(&runtime);
    let handler = thread::spawn(move || {
        registry.deliver(THREAD, |hook| {
            assert_eq!(answer(hook), Interrupted::Taken, "the second runtime marked nobody");
            // SAFETY: loom checks that the runtime is not being taken down.
            theirs.0.with(|value| assert_eq!(unsafe { *value }, 1));
            Interrupted::Taken
        })
    });
    node.retire();
    // SAFETY: as above.
    runtime.0.with_mut(|value| unsafe { *value = 0 });
    registry.insert(second);
    let outcome = handler.join().unwrap();
    assert_ne!(outcome, Outcome::Refused);
}

/// O4: the hook runs after the last interrupt and sees what led to it, and at most once for each.
fn marks_are_neither_lost_nor_doubled() {
    const INTERRUPTS: usize = 2;
    let registry: &'static Registry = Box::leak(Box::new(Registry::new()));
    let node = registry.insert(first);
    // One pending signal at most, as the kernel has it for SIGURG.
    let pending = Arc::new(AtomicBool::new(false));
    let cause = Arc::new(AtomicUsize::new(0));
    let (seen, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));

    let handle = {
        let (pending, cause) = (Arc::clone(&pending), Arc::clone(&cause));
        let (seen, calls) = (Arc::clone(&seen), Arc::clone(&calls));
        move |foreign| {
            if pending.swap(false, AcqRel) || foreign {
                registry.deliver(THREAD, |_| {
                    seen.store(cause.load(Relaxed), Relaxed);
                    calls.fetch_add(1, Relaxed);
                    Interrupted::Taken
                });
            }
        }
    };
    let target = thread::spawn({
        let handle = handle.clone();
        move || {
            handle(false);
            handle(true);
        }
    });
    for number in 1..=INTERRUPTS {
        cause.store(number, Relaxed);
        let sent = node.interrupt(
            THREAD,
            |_| true,
            || {
                pending.swap(true, AcqRel);
                true
            },
        );
        assert!(sent);
    }
    target.join().unwrap();
    // The target runs on until nothing is pending, and once more for a signal from elsewhere.
    handle(false);
    handle(true);
    assert!(!pending.load(Acquire));
    assert_eq!(seen.load(Relaxed), INTERRUPTS, "the last interrupt was lost");
    let calls = calls.load(Relaxed);
    assert!((1..=INTERRUPTS).contains(&calls), "{calls} calls for {INTERRUPTS} interrupts");
}

/// Models share one mutant switch.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn holds(model: fn()) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loom::model(model);
}

fn notices(mutant: Mutant, model: fn()) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    MUTANT.store(mutant as usize + 1, Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    MUTANT.store(0, Relaxed);
    assert!(outcome.is_err(), "the model does not notice {mutant:?}");
}

#[test]
fn retire_holds() {
    holds(retire_waits_for_hooks);
}

#[test]
fn marks_hold() {
    holds(marks_are_neither_lost_nor_doubled);
}

#[test]
fn retire_mutants() {
    for mutant in [
        Mutant::TakeBeforeCountingIn,
        Mutant::NoFenceInHandler,
        Mutant::NoFenceInRetire,
        Mutant::RelaxedCountOut,
    ] {
        notices(mutant, retire_waits_for_hooks);
    }
}

#[test]
fn marks_mutants() {
    for mutant in [Mutant::SendBeforeMark, Mutant::TrustOldMark, Mutant::RelaxedMark, Mutant::LeaveMark] {
        notices(mutant, marks_are_neither_lost_nor_doubled);
    }
}
