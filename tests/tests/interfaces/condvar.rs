use self::api::{Condvar, LockResult, Mutex, MutexGuard, WaitTimeoutResult};
use crate::observing::{Observed, message, observed};
use std::time::Duration;

fn interface<'a>(condvar: &Condvar, guard: MutexGuard<'a, u8>, which: u8) -> LockResult<MutexGuard<'a, u8>> {
    let short = Duration::from_millis(1);
    match which {
        0 => condvar.wait(guard),
        1 => condvar.wait_while(guard, |value: &mut u8| *value == 1),
        2 => condvar.wait_timeout(guard, short).map(|(guard, _)| guard).map_err(|_| unreachable!()),
        _ => condvar.wait_timeout_while(guard, short, |value: &mut u8| *value == 1).map(|(guard, _)| guard).map_err(|_| unreachable!()),
    }
}

static STATIC: Condvar = Condvar::new();

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Condvar, WaitTimeoutResult);
    let condvar = Condvar::default();
    out.push(observed("debug", &condvar));
    STATIC.notify_all();
    condvar.notify_one();
    let mutex = Mutex::new(0);
    for which in 1..4 {
        out.push(observed("waits", interface(&condvar, mutex.lock().unwrap(), which).map(|guard| *guard)));
    }
    let (guard, timed_out) = condvar.wait_timeout(mutex.lock().unwrap(), Duration::from_millis(1)).unwrap();
    out.push(observed("timeout", (timed_out, timed_out.timed_out(), timed_out == timed_out.clone())));
    let (guard, timed_out) = condvar.wait_timeout_while(guard, Duration::from_millis(1), |_| true).unwrap();
    out.push(observed("timeout of a condition", timed_out));
    let (guard, timed_out) = condvar.wait_timeout_while(guard, Duration::from_millis(1), |_| false).unwrap();
    out.push(observed("a condition that does not hold", timed_out));
    drop(guard);
    let poison = || {
        let _guard = mutex.lock().unwrap();
        panic!("poison");
    };
    message(poison);
    let guard = mutex.lock().unwrap_or_else(|error| error.into_inner());
    out.push(observed("poisoned", condvar.wait_timeout(guard, Duration::from_millis(1)).map(|_| ()).map_err(|error| format!("{error:?} {error}"))));
    out
}
