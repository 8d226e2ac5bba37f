//! Letting other threads run.

use crate::kernel::worker::section;

/// Yields: lets other ready threads run, and returns when it is this thread's turn again.
///
/// Returns at once if nothing else can run on this worker. Outside a runtime: `std::thread::yield_now`. Does
/// nothing while the thread unwinds.
///
/// Context: a green thread, or an OS thread. The thread may be on another OS thread afterwards.
#[inline]
pub fn yield_now() {
    if !section::step_back() {
        std::thread::yield_now();
    }
}

/// What [`safepoint!`](crate::safepoint) expands to.
#[doc(hidden)]
#[inline]
pub fn __safepoint() {
    if section::safepoint() {
        yield_now();
    }
}

/// Marks a point where a long computation can be interrupted: yields if the monitor has asked for
/// it, and otherwise costs a few instructions.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let mut sum = 0u64;
/// for i in 0..100_000u64 {
///     gvt::safepoint!();
///     sum = sum.wrapping_add(i * i);
/// }
/// # assert!(sum > 0); });
/// ```
#[macro_export]
macro_rules! safepoint {
    () => {
        $crate::__safepoint()
    };
}
