use self::api::OnceLock;
use crate::observing::{Observed, message, observed};

static STATIC: OnceLock<u8> = OnceLock::new();

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: OnceLock<u8>, OnceLock<std::cell::Cell<u8>>, OnceLock<std::rc::Rc<u8>>, OnceLock<&'static mut u8>);
    STATIC.get_or_init(|| 1);
    let mut place: OnceLock<i32> = OnceLock::default();
    out.push(observed("empty", (&place, place.get(), place.clone(), place == OnceLock::new())));
    out.push(observed("get_mut of empty", place.get_mut()));
    out.push(observed("panic", message(|| *place.get_or_init(|| panic!("first")))));
    out.push(observed("after a panic", (place.get_or_init(|| 5), place.get_or_init(|| 6), place.set(7))));
    *place.get_mut().unwrap() += 1;
    out.push(observed("full", (&place, place.wait(), place.clone(), place == OnceLock::from(6))));
    out.push(observed("take", (place.take(), place.take())));
    place.set(9).unwrap();
    out.push(observed("into_inner", place.into_inner()));
    let inner = OnceLock::new();
    let outer: OnceLock<i32> = OnceLock::new();
    out.push(observed("another inside", outer.get_or_init(|| *inner.get_or_init(|| 1) + 1)));
    // Drop check: it may hold what borrows from a value declared after it.
    let early: OnceLock<&String> = OnceLock::new();
    let late = String::from("late");
    early.set(&late).unwrap();
    out
}
