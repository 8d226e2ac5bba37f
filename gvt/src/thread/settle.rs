//! Waiting until all other threads are parked; `wait::settlers` has the protocol.

use gvt_traits::SchedError;

use crate::thread::spawn::refused;
use crate::wait::park;

/// Waits until all other threads of the runtime are parked: in a channel, at a lock, in a join, in a sleep,
/// or in any other wait of this crate. What a test has started has then come as far as it can by itself.
///
/// Under virtual time (`gvt_decorators::VirtualTime`) time stands still meanwhile, so sleeping threads stay
/// asleep. Under real time a sleeper is parked until it is due.
///
/// A thread in the kernel, or in [`blocking`](crate::blocking()), counts as running. OS threads outside the
/// runtime and other runtimes do not count. Several threads may settle at once; each counts as parked for the
/// others.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::sync::{Arc, Mutex};
/// let steps = Arc::new(Mutex::new(0));
/// let (go, wait) = gvt::channel::<()>(0);
/// let theirs = steps.clone();
/// gvt::spawn(move |_| {
///     *theirs.lock().unwrap() += 1;
///     wait.recv().unwrap();
///     *theirs.lock().unwrap() += 1;
/// });
/// gvt::settle();
/// assert_eq!(*steps.lock().unwrap(), 1);
/// go.send(()).unwrap();
/// gvt::settle();
/// assert_eq!(*steps.lock().unwrap(), 2);
/// # });
/// ```
///
/// Whenever all workers are idle while a thread settles, one of them looks at every record that was ever
/// used.
///
/// Context: a green thread, which parks. At shutdown it is unwound.
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub fn settle() {
    match park::current() {
        Some(record) => record.core().upper.settle(),
        None => refused(SchedError::NoRuntime { call: "settle" }),
    }
}
