//! `park` and `unpark`: std's, for green threads.
//!
//! **Protocol.** Each thread has a token, in the cold part of its record, behind a short lock. **U1** Parking takes the token, or waits in a
//! list of one. **U2** Unparking wakes who waits there, or leaves the token. A token that woke a thread which is then unwound is left again.

use std::mem;
use std::time::Duration;

use gvt_traits::WaitReason;

use crate::thread::current::Thread;
use crate::wait::clock::{deadline_ns, now};
use crate::wait::host::give_way;
use crate::wait::list::{List, Manner, Verdict, wait};
use crate::wait::lock::Lock;
use crate::wait::park::current;

/// A thread's token.
pub(crate) struct Token(Lock<State>);

struct State {
    is_there: bool,
    waiter: List<()>,
}

const MANNER: Manner<(), State, ()> = Manner {
    list: |state, _| &mut state.waiter,
    reason: WaitReason::Park,
    abandon: |_, state, _, verdict, _, _| state.is_there |= verdict == Verdict::Served,
};

impl Default for Token {
    fn default() -> Self {
        Token(Lock::new(State { is_there: false, waiter: List::new() }))
    }
}

impl Token {
    /// U1.
    fn take(&self, deadline_ns: Option<u64>) {
        let mut state = self.0.lock();
        if !mem::take(&mut state.is_there) {
            wait(&(), state, &MANNER, 0, &mut None, deadline_ns);
        }
    }

    /// U2.
    fn give(&self) {
        let mut state = self.0.lock();
        let here = state.here();
        match state.waiter.take() {
            Some(waiter) => {
                let wake = waiter.end(Verdict::Served, here);
                state.wake(wake);
            }
            None => state.is_there = true,
        }
    }
}

/// Waits until another thread calls [`Thread::unpark`] for this one, or returns at once if that has happened since the last time: as
/// [`std::thread::park`], but it never returns for no reason.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, atomic::{AtomicBool, Ordering::*}};
/// let ready = Arc::new(AtomicBool::new(false));
/// let other = ready.clone();
/// let thread = gvt::spawn(move |_| {
///     while !other.load(Acquire) {
///         gvt::park();
///     }
/// });
/// ready.store(true, Release);
/// thread.thread().unpark();
/// thread.join().unwrap();
/// # });
/// ```
///
/// Outside a runtime: `std::thread::park`.
///
/// Context: a green thread, or an OS thread. At shutdown a wait for ever is unwound. A thread's first call allocates.
pub fn park() {
    give_way();
    match current() {
        Some(record) => record.cold().parking.take(None),
        None => std::thread::park(),
    }
}

/// [`park`] for `timeout` at the longest.
///
/// Context: as [`park`].
pub fn park_timeout(timeout: Duration) {
    give_way();
    match current() {
        Some(record) => record.cold().parking.take(now().checked_add(timeout).map(deadline_ns)),
        None => std::thread::park_timeout(timeout),
    }
}

impl Thread {
    /// Lets the thread return from [`park`], now or when it next calls that.
    ///
    /// Context: anywhere but in a signal handler. The first call for a thread allocates.
    pub fn unpark(&self) {
        self.record().cold().parking.give();
    }
}
