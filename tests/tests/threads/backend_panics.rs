//! Clause B3: a backend that panics ends the process with a sentence, instead of leaving threads waiting for
//! ever.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use gvt::{Runtime, Sigurg, spawn};
use gvt_conformance::process::{Child, Watchdog};
use gvt_traits::{Factory, InterruptHook, OsThreadId, Plan, Preemptor, SchedError, Strength, WorkerError};

/// Sigurg, but panics instead of sending a signal, which is the monitor's to ask for.
struct Interrupts<P>(P);

impl Factory for Interrupts<Sigurg> {
    type Output = Interrupts<<Sigurg as Factory>::Output>;

    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        self.0.build(plan).map(Interrupts)
    }
}

// SAFETY: P1 to P8 are the inner preemptor's; a panic interrupts nobody.
unsafe impl<P: Preemptor> Preemptor for Interrupts<P> {
    fn strength(&self) -> Strength {
        self.0.strength()
    }

    unsafe fn attach(&self, hook: InterruptHook) -> Result<(), WorkerError> {
        // SAFETY: the caller's promise.
        unsafe { self.0.attach(hook) }
    }

    fn enter_thread(&self) {
        self.0.enter_thread();
    }

    fn detach(&self) {
        self.0.detach();
    }

    fn interrupt(&self, _thread: OsThreadId) -> bool {
        panic!("no signals today")
    }
}

#[test]
fn on_the_monitor() {
    let ended = Child::of("on_the_monitor").run(|| {
        let _watchdog = Watchdog::new();
        let runtime = Runtime::builder().workers(1).preemptor(Interrupts(Sigurg)).build().unwrap();
        runtime.block_on(|| {
            spawn(|_| {
                loop {
                    std::hint::spin_loop();
                }
            });
            gvt::sleep_ms(1);
        });
    });
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}");
    ended.complained("no signals today").complained("clause B3");
}
