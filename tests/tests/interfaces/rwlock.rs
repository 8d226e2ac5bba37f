use self::api::{LockResult, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockResult};
use crate::observing::{Observed, message, observed};

fn interface<T: ?Sized>(lock: &RwLock<T>) {
    let one: LockResult<RwLockReadGuard<'_, T>> = lock.read();
    drop(one);
    let one: LockResult<RwLockWriteGuard<'_, T>> = lock.write();
    drop(one);
    let one: TryLockResult<RwLockReadGuard<'_, T>> = lock.try_read();
    drop(one);
    let one: TryLockResult<RwLockWriteGuard<'_, T>> = lock.try_write();
    drop(one);
    let _: bool = lock.is_poisoned();
    lock.clear_poison();
}

fn covariant<'a, 'b: 'a>(guard: RwLockReadGuard<'b, &'static str>) -> RwLockReadGuard<'a, &'a str> {
    guard
}

static STATIC: RwLock<u8> = RwLock::new(0);

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: RwLock<u8>, RwLock<std::cell::Cell<u8>>, RwLock<std::rc::Rc<u8>>, RwLock<[u8]>, RwLock<&'static mut u8>,
        RwLockReadGuard<'static, u8>, RwLockReadGuard<'static, std::cell::Cell<u8>>, RwLockWriteGuard<'static, u8>,
        RwLockWriteGuard<'static, std::cell::Cell<u8>>);
    let mut lock: RwLock<i32> = RwLock::from(5);
    interface(&lock);
    let unsized_: Box<RwLock<[i32]>> = Box::new(RwLock::new([1, 2]));
    interface(&*unsized_);
    out.push(observed("unsized", unsized_));
    let text = RwLock::new("text");
    out.push(observed("covariant", covariant(text.read().unwrap())));
    out.push(observed("default", RwLock::<String>::default()));
    out.push(observed("free", &lock));
    let guard = lock.read().unwrap();
    out.push(observed("read", (&guard, guard.to_string(), &lock)));
    out.push(observed("try_write", lock.try_write().map(|guard| *guard).map_err(|error| format!("{error:?} {error}"))));
    drop(guard);
    let mut guard = lock.write().unwrap();
    *guard += 1;
    out.push(observed("write", (&guard, guard.to_string(), &lock)));
    out.push(observed("try_read", lock.try_read().map(|guard| *guard).map_err(|error| format!("{error:?} {error}"))));
    let guard: RwLockReadGuard<'_, i32> = RwLockWriteGuard::downgrade(guard);
    out.push(observed("downgraded", (&guard, lock.try_read().is_ok(), lock.try_write().is_ok())));
    drop(guard);
    *lock.get_mut().unwrap() += 1;
    *STATIC.write().unwrap() += 1;
    let reader = || {
        let _guard = lock.read().unwrap();
        panic!("a reader");
    };
    out.push(observed("panic of a reader", (message(reader), lock.is_poisoned())));
    let poison = || {
        let _guard = lock.write().unwrap();
        panic!("poison");
    };
    out.push(observed("panic", message(poison)));
    out.push(observed("poisoned", &lock));
    out.push(observed("unwrap", (message(|| drop(lock.read().unwrap())), message(|| drop(lock.write().unwrap())))));
    out.push(observed("try of poisoned", { let read = lock.try_read().is_err(); let write = lock.try_write().is_err(); (read, write, lock.get_mut().is_err()) }));
    lock.clear_poison();
    out.push(observed("into_inner", lock.into_inner()));
    let early: RwLock<Option<&std::cell::Cell<u32>>> = RwLock::new(None);
    let late = std::cell::Cell::new(1);
    *early.write().unwrap() = Some(&late);
    out
}
