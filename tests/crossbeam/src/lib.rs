//! crossbeam-channel's own integration tests, taken from its published package when this one is built, and
//! run against `gvt::channel`: in one run with OS threads, in another with green threads. `build.rs` lists
//! what is left out, and why.

use std::sync::{Mutex, PoisonError};

/// Threads of the operating system.
pub mod os {
    pub use crossbeam_utils::thread::scope;
    pub use std::thread::{current, panicking, sleep, spawn, yield_now, JoinHandle};

    /// Runs a test.
    pub fn run(test: fn()) {
        test();
    }

    /// Runs a test while no other of its kind runs.
    pub fn run_alone(test: fn()) {
        super::alone(|| run(test));
    }

    /// Runs a statistical test.
    pub fn run_up_to_three_times(test: fn()) {
        super::up_to_three_times(|| run(test));
    }
}

fn up_to_three_times(test: impl Fn()) {
    let fails = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(&test)).is_err();
    if fails() && fails() {
        test();
    }
}

fn alone(test: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

/// Green threads by the names of std's, and of crossbeam-utils' scope.
pub mod green {
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::sync::OnceLock;
    use std::thread::Result;

    pub use gvt::{sleep, yield_now};
    use gvt::{Runtime, SchedulerConfig};
    pub use std::thread::panicking;

    /// Runs a test on a green thread of one runtime.
    pub fn run(test: fn()) {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| Runtime::new(SchedulerConfig::default().num_workers(3))).block_on(test);
    }

    /// Runs a test while no other of its kind runs.
    pub fn run_alone(test: fn()) {
        super::alone(|| run(test));
    }

    /// Runs a statistical test.
    pub fn run_up_to_three_times(test: fn()) {
        super::up_to_three_times(|| run(test));
    }

    /// A green thread's handle.
    #[derive(Debug)]
    pub struct JoinHandle<T>(gvt::JoinHandle<T>);

    impl<T> JoinHandle<T> {
        /// Waits for the thread's result.
        pub fn join(self) -> Result<T> {
            self.0.join()
        }
    }

    /// Spawns a green thread.
    pub fn spawn<F, T>(f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        JoinHandle(gvt::spawn(move |_| f()))
    }

    /// See [`scope`].
    #[derive(Debug)]
    pub struct Scope<'scope, 'env> {
        scope: &'scope gvt::Scope<'scope, 'env>,
    }

    impl<'scope, 'env> Scope<'scope, 'env> {
        /// Spawns a green thread in the scope.
        pub fn spawn<F, T>(&self, f: F) -> gvt::ScopedJoinHandle<'scope, T>
        where
            F: FnOnce(&Scope<'scope, 'env>) -> T + Send + 'scope,
            T: Send + 'scope,
        {
            let scope = self.scope;
            scope.spawn(move |_| f(&Scope { scope }))
        }
    }

    /// Runs `f` with a scope whose threads may borrow.
    pub fn scope<'env, F, R>(f: F) -> Result<R>
    where
        F: for<'scope> FnOnce(&Scope<'scope, 'env>) -> R,
    {
        catch_unwind(AssertUnwindSafe(|| gvt::scope(|scope| f(&Scope { scope }))))
    }
}
