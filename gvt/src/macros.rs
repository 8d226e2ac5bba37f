//! What `#[gvt::main]`, `#[gvt::test]` and `go!` expand to.

use std::process::{ExitCode, Termination};
use std::time::{Duration, Instant};

use gvt_traits::{ContextSwitch, Factory, Preemptor, ReadyQueue, SlotAllocator, TimerBackend};

use crate::runtime::builder::RuntimeBuilder;
use crate::runtime::runtime::Runtime;

/// Spawns a green thread that runs an expression, as Go's `go` does: a shorter [`spawn`](crate::spawn()).
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// let (sender, receiver) = gvt::channel(2);
/// let other = sender.clone();
/// gvt::go!(sender.send(1).unwrap());
/// gvt::go! {
///     gvt::yield_now();
///     other.send(2).unwrap();
/// };
/// // With the thread's token.
/// let thread = gvt::go!(|token| token.is_cancelled());
/// assert_eq!(receiver.iter().sum::<i32>(), 3);
/// assert!(!thread.join().unwrap());
/// # });
/// ```
///
/// The thread takes what the expression uses, as a `move` closure does. The value is a
/// [`JoinHandle`](crate::JoinHandle), which may be dropped.
///
/// ```compile_fail
/// gvt::go!();
/// ```
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
#[macro_export]
macro_rules! go {
    () => {
        compile_error!("`go!` needs something to run: `go!(expression)`, `go! { statements }` or `go!(|token| expression)`")
    };
    (|$token:pat_param| $body:expr) => {
        $crate::spawn(move |$token: &$crate::CancellationToken| $body)
    };
    ($body:expr) => {
        $crate::spawn(move |_: &$crate::CancellationToken| $body)
    };
    ($($body:tt)+) => {
        $crate::spawn(move |_: &$crate::CancellationToken| { $($body)+ })
    };
}

/// Builds the runtime; an error is a panic with its message.
fn build<Q, T, P, C, S>(builder: RuntimeBuilder<Q, T, P, C, S>) -> Runtime<Q, T, P, C, S>
where
    Q: Factory<Output: ReadyQueue>,
    T: Factory<Output: TimerBackend>,
    P: Factory<Output: Preemptor>,
    C: ContextSwitch,
    S: Factory<Output: SlotAllocator>,
{
    builder.build().unwrap_or_else(|error| panic!("{error}"))
}

/// `#[gvt::main]`, and `#[gvt::test]` without a timeout.
#[doc(hidden)]
pub fn run<R: Termination>(builder: RuntimeBuilder, body: fn() -> R) -> ExitCode {
    build(builder).block_on(|| body().report())
}

/// `#[gvt::test]` with a timeout.
#[doc(hidden)]
pub fn run_with_limit<R: Termination + 'static>(
    builder: RuntimeBuilder,
    limit: Duration,
    name: &str,
    body: fn() -> R,
) -> ExitCode {
    let deadline = Instant::now() + limit;
    let runtime = build(builder);
    let thread = crate::Builder::new().name(name);
    let spawned = runtime.handle().spawn_builder(thread, move |_| body().report());
    let handle = spawned.unwrap_or_else(|error| panic!("{error}"));
    let Ok(joined) = handle.join_deadline(deadline) else {
        let threads = runtime.dump();
        // Dropping it would wait for the thread.
        std::mem::forget(runtime);
        panic!("{name} has taken longer than {limit:?}\n{threads}");
    };
    let code = joined.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    while runtime.live_threads() > 0 {
        if Instant::now() >= deadline {
            let threads = runtime.dump();
            std::mem::forget(runtime);
            panic!("{name} has returned, but after {limit:?} green threads are left\n{threads}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    code
}
