//! Waiting until nothing moves any more; `wait::settlers` has the protocol.

use gvt_traits::SchedError;

use crate::thread::spawn::refused;
use crate::wait::park;

/// Waits until all other threads of the runtime are parked: in a channel, at a lock, in a join, in a sleep, wherever this
/// crate waits. What a test has set going has then come as far as it comes by itself.
///
/// Under virtual time (`gvt_decorators::VirtualTime`) time stands still meanwhile: threads that sleep stay asleep, however many
/// settle. Under real time a sleeper is parked until it is due.
///
/// Threads in the kernel, or in [`blocking`](crate::blocking()), run: this waits for them. OS threads outside the runtime, and
/// other runtimes, are not waited for. Several threads may settle at once; each counts as parked for the others.
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
/// Each time that all workers are idle while somebody settles, one of them looks at every place for a thread that was ever used.
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
