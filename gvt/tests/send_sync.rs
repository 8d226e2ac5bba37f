//! The table of `docs/SOUNDNESS.md` section 9: which public types are `Send` and `Sync`, and which are not.

use core::prelude::v1::test;
use std::cell::Cell;
use std::rc::Rc;

use gvt::*;

/// Whether a type has a trait, as a constant: an inherent constant, where its bound holds, hides the trait's.
macro_rules! has {
    ($type:ty: $bound:ident) => {{
        #[allow(dead_code, reason = "hidden by the inherent constant where that is there")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "not there for every type")]
        impl<T: ?Sized + $bound> Asked<T> {
            const HAS: bool = true;
        }
        Asked::<$type>::HAS
    }};
}

/// `Send`, not `Sync`.
type Sendable = Cell<u8>;
/// Neither.
type Bound = Rc<u8>;
/// `Sync`, not `Send`.
type Shareable = std::sync::MutexGuard<'static, u8>;

#[test]
fn the_question_is_answered_right() {
    assert_eq!((has!(u8: Send), has!(u8: Sync)), (true, true));
    assert_eq!((has!(Sendable: Send), has!(Sendable: Sync)), (true, false));
    assert_eq!((has!(Bound: Send), has!(Bound: Sync)), (false, false));
    assert_eq!((has!(Shareable: Send), has!(Shareable: Sync)), (false, true));
}

macro_rules! table {
    ($($type:ty: $send:literal, $sync:literal;)*) => {
        $(assert_eq!(
            (has!($type: Send), has!($type: Sync)),
            ($send, $sync),
            "(Send, Sync) of {}",
            stringify!($type)
        );)*
    };
}

#[test]
fn plain_types() {
    table! {
        Runtime: true, true;
        Runtime<GoQueue, HeapTimer, Cooperative, X86_64, MmapSlots>: true, true;
        RuntimeBuilder: true, true;
        SchedulerConfig: true, true;
        Builder: true, true;
        Handle: true, true;
        Scope<'static, 'static>: true, true;
        CancellationToken: true, true;
        ThreadId: true, true;
        StillRunning: true, true;
        RuntimeCounters: true, true;
        SchedError: true, true;
        MemoryUse: true, true;
    }
}

#[test]
fn generic_types() {
    table! {
        JoinHandle<u8>: true, true;
        // Cannot be made: spawning asks for `Send`.
        JoinHandle<Bound>: true, true;
        ScopedJoinHandle<'static, Sendable>: true, true;
        ScopedJoinHandle<'static, Bound>: false, false;
        Sender<Sendable>: true, true;
        Sender<Bound>: false, false;
        Receiver<Sendable>: true, true;
        Receiver<Bound>: false, false;
        SchedMutex<Sendable>: true, true;
        SchedMutex<Bound>: false, false;
        SchedMutexGuard<'static, u8>: true, true;
        SchedMutexGuard<'static, Sendable>: true, false;
        SchedMutexGuard<'static, Shareable>: false, true;
    }
}

#[test]
fn channels_of_other_shapes() {
    use gvt::channel::{broadcast, oneshot, watch};
    table! {
        oneshot::Sender<u8>: true, true;
        oneshot::Sender<Sendable>: true, true;
        oneshot::Sender<Bound>: false, false;
        oneshot::Receiver<Sendable>: true, true;
        oneshot::Receiver<Bound>: false, false;
        watch::Sender<u8>: true, true;
        watch::Sender<Bound>: false, false;
        watch::Receiver<u8>: true, true;
        watch::Receiver<Bound>: false, false;
        broadcast::Sender<u8>: true, true;
        broadcast::Sender<Sendable>: false, false;
        broadcast::Receiver<Sendable>: false, false;
        watch::Sender<Sendable>: false, false;
        broadcast::Sender<Bound>: false, false;
        broadcast::Receiver<u8>: true, true;
        broadcast::Receiver<Bound>: false, false;
    }
}

#[test]
fn structure_and_time() {
    table! {
        TaskSet<u8, u8>: true, true;
        TaskSet<Bound, u8>: false, false;
        Interval: true, true;
        Thread: true, true;
        CancelReason: true, true;
        ThreadInfo: true, true;
        DeadlockReport: true, true;
        Memory: true, true;
        LocalKey<u8>: true, true;
        LocalKey<Bound>: true, true;
    }
}
