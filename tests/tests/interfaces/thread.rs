use self::api::{Builder, JoinHandle, Scope, ScopedJoinHandle, Thread};
use crate::observing::{Observed, message, observed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

fn result() -> api::Result<u8> {
    Ok(1)
}

fn interface<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, n: &'env u8) -> ScopedJoinHandle<'scope, u8> {
    scope.spawn(closure!(*n))
}

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: JoinHandle<u8>, JoinHandle<std::cell::Cell<u8>>, JoinHandle<std::rc::Rc<u8>>, Thread, Builder,
        ScopedJoinHandle<'static, u8>, ScopedJoinHandle<'static, std::cell::Cell<u8>>, Scope<'static, 'static>);
    out.push(observed("result", result().unwrap()));
    let handle: JoinHandle<u8> = api::spawn(|| 7);
    let thread: Thread = handle.thread().clone();
    out.push(observed("name of the nameless", thread.name()));
    out.push(observed("join", handle.join().map_err(|_| ())));
    let builder = Builder::new().name("named".to_owned()).stack_size(256 << 10);
    let handle = builder.spawn(closure!(current().name().map(str::to_owned))).unwrap();
    out.push(observed("thread's id", handle.thread().id() == handle.thread().id()));
    out.push(observed("named", (handle.thread().name(), handle.is_finished() || true)));
    out.push(observed("named, itself", handle.join().map_err(|_| ())));
    let failed = api::spawn(|| { panic!("payload"); #[allow(unreachable_code)] () }).join().unwrap_err();
    out.push(observed("payload", failed.downcast_ref::<&str>()));
    out.push(observed("panicking", api::panicking()));
    out.push(observed("parallelism", api::available_parallelism().is_ok()));

    let ready = Arc::new(AtomicBool::new(false));
    let other = ready.clone();
    let parked = api::spawn(move || { while !other.load(Acquire) { api::park(); } });
    ready.store(true, Release);
    parked.thread().unpark();
    out.push(observed("parked", parked.join().is_ok()));
    current().unpark();
    api::park();
    current().unpark();
    api::park_timeout(Duration::from_secs(60));
    api::park_timeout(Duration::from_millis(1));
    api::sleep(Duration::from_millis(1));
    api::yield_now();

    let numbers = [1, 2, 3];
    let mut more = vec![4];
    let sum = api::scope(|scope| {
        let handle = interface(scope, &numbers[0]);
        let named = Builder::new().name("scoped".to_owned()).spawn_scoped(scope, closure!(current().name().map(str::to_owned))).unwrap();
        let _ = handle.is_finished();
        let seen = (named.thread().name().map(str::to_owned), named.join().unwrap());
        let nested = scope.spawn(closure!(more.push(5); more.len()));
        (handle.join().unwrap(), nested.join().unwrap(), seen)
    });
    out.push(observed("scope", sum));
    out.push(observed("a scoped panic", message(|| api::scope(|scope| { scope.spawn(closure!(panic!("inner"); #[allow(unreachable_code)] ())); }))));
    out.push(observed("a scope's own panic", message(|| api::scope(|_| panic!("outer")))));
    out
}
