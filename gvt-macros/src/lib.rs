#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod expand;

use proc_macro::TokenStream;

use expand::Role;

/// Runs `main` as a green thread, on a runtime that is built for it.
///
/// The function's result may be whatever `main`'s may be; it is reported on the green thread, so it need not
/// be `Send`. When the function has returned, the program waits for the green threads that are left.
///
/// | setting | | default |
/// |---|---|---|
/// | `workers = 4` | how many workers | as many as there are processors |
/// | `low_priority_workers = 1` | how many of them run only Low threads | none |
/// | `max_gvthreads = 10_000` | how many green threads may be alive at once | 2,097,152 |
/// | `stack_size = "64KiB"` | address space of a thread's stack, or a number of bytes | the slots': 16 MiB |
/// | `time_slice = "1ms"` | how long a thread may run before it is asked to yield | 10 ms |
/// | `forced_preempt = false` | whether threads are taken off by force | `true` |
/// | `deadlock_report = "1s"` | reports threads that all wait for so long | off |
/// | `crate = path::to::gvt` | where `gvt` is, if it was renamed | `::gvt` |
///
/// ```
/// #[gvt::main(workers = 2, time_slice = "5ms", stack_size = "256KiB", deadlock_report = "1s")]
/// fn main() {
///     assert!(gvt::is_in_gvthread());
/// }
/// ```
///
/// What it cannot do, it says:
///
/// ```compile_fail
/// #[gvt::main]
/// async fn main() {}
/// ```
///
/// ```compile_fail
/// #[gvt::main(workers = "many")]
/// fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Role::Main, settings.into(), item.into()).into()
}

/// Makes a test of a function that runs as a green thread, on a runtime of its own.
///
/// The settings are those of [`main`](macro@main), and `timeout = "5s"`: if the function has not returned by
/// then, or green threads are left that long after it began, the test fails, with a list of the runtime's
/// threads and what each waits for.
///
/// `#[should_panic]`, `#[ignore]` and results work as in other tests.
///
/// ```
/// #[gvt::test(workers = 1, timeout = "10s")]
/// fn messages_arrive() {
///     let (sender, receiver) = gvt::channel(0);
///     gvt::go!(sender.send(1).unwrap());
///     assert_eq!(receiver.recv(), Ok(1));
/// }
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// #[gvt::test]
/// fn tests_have_no_parameters(x: u8) {}
/// ```
#[proc_macro_attribute]
pub fn test(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Role::Test, settings.into(), item.into()).into()
}
