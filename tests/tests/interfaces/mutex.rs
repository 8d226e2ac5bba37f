use self::api::{Arc, LockResult, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult};
use crate::observing::{Observed, message, observed};

fn interface<T: ?Sized + std::fmt::Debug>(mutex: &Mutex<T>) {
    let one: LockResult<MutexGuard<'_, T>> = mutex.lock();
    drop(one);
    let one: TryLockResult<MutexGuard<'_, T>> = mutex.try_lock();
    drop(one);
    let _: bool = mutex.is_poisoned();
    mutex.clear_poison();
}

/// The guard of a value that borrows, and the lifetime of the lock shrinks.
fn shorter<'a, 'b: 'a, T: ?Sized>(guard: MutexGuard<'b, T>) -> MutexGuard<'a, T> {
    guard
}

static STATIC: Mutex<u8> = Mutex::new(0);

struct Quiet<'a>(&'a std::cell::Cell<u32>);

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Mutex<u8>, Mutex<std::cell::Cell<u8>>, Mutex<std::rc::Rc<u8>>, Mutex<*const u8>, Mutex<[u8]>, Mutex<&'static mut u8>,
        MutexGuard<'static, u8>, MutexGuard<'static, std::cell::Cell<u8>>, MutexGuard<'static, *const u8>, PoisonError<u8>, TryLockError<u8>);
    let mut mutex: Mutex<i32> = Mutex::from(5);
    interface(&mutex);
    let unsized_: Box<Mutex<[i32]>> = Box::new(Mutex::new([1, 2]));
    interface(&*unsized_);
    out.push(observed("unsized", unsized_));
    out.push(observed("default", Mutex::<String>::default()));
    out.push(observed("free", &mutex));
    out.push(observed("alternate", format!("{mutex:#?}")));
    let guard = shorter(mutex.lock().unwrap());
    out.push(observed("guard", &guard));
    out.push(observed("guard, displayed", guard.to_string()));
    out.push(observed("locked", &mutex));
    out.push(observed("try_lock", mutex.try_lock().map(|guard| *guard).map_err(|error| format!("{error:?} {error}"))));
    drop(guard);
    *mutex.get_mut().unwrap() += 1;
    *STATIC.lock().unwrap() += 1;
    let poison = || {
        let _guard = mutex.lock().unwrap();
        panic!("poison");
    };
    out.push(observed("panic", message(poison)));
    out.push(observed("poisoned", &mutex));
    out.push(observed("is_poisoned", mutex.is_poisoned()));
    out.push(observed("unwrap", message(|| drop(mutex.lock().unwrap()))));
    out.push(observed("lock", mutex.lock().map(|guard| *guard).map_err(|error| format!("{error:?} {error} {}", **error.get_ref()))));
    out.push(observed("try_lock of poisoned", mutex.try_lock().map(|guard| *guard).map_err(|error| format!("{error:?} {error}"))));
    out.push(observed("get_mut of poisoned", mutex.get_mut().is_err()));
    mutex.clear_poison();
    out.push(observed("cleared", &mutex));
    out.push(observed("into_inner", mutex.into_inner()));
    // A lock may hold what borrows from a value declared after it, if that has no destructor that looks.
    let early: Mutex<Option<&std::cell::Cell<u32>>> = Mutex::new(None);
    let late = std::cell::Cell::new(1);
    *early.lock().unwrap() = Some(&late);
    out
}
