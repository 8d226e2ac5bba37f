//! Shuts down runtimes that hold what cannot be unwound here, and what ends by itself.

use std::time::Duration;

use gvt::Runtime;

fn build() -> Runtime {
    Runtime::builder().workers(1).build().unwrap()
}

fn main() {
    let (sender, receiver) = gvt::channel::<()>(0);

    let runtime = build();
    let waiter = receiver.clone();
    runtime.handle().spawn(move |_| waiter.recv().is_ok());
    while runtime.threads().first().is_none_or(|thread| thread.reason.is_none()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let left = runtime.shutdown_timeout(Duration::from_millis(100)).unwrap_err();
    println!("with a limit: {} left", left.threads);

    let runtime = build();
    runtime.handle().spawn(move |_| receiver.recv().is_ok());
    runtime.handle().spawn(|_| gvt::sleep_ms(50));
    runtime.shutdown();
    println!("without a limit: returned");

    let runtime = build();
    runtime.handle().spawn(|token| token.cancelled().wait());
    runtime.handle().spawn(|_| gvt::sleep_ms(50));
    println!("all end: {:?}", runtime.shutdown_timeout(Duration::from_secs(60)));
    drop(sender);
}
