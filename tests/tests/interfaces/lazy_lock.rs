use self::api::LazyLock;
use crate::observing::{Observed, message, observed};

static STATIC: LazyLock<String> = LazyLock::new(|| "static".into());

fn covariant<'a>(lazy: LazyLock<u8, fn() -> u8>) -> LazyLock<u8> {
    lazy
}

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: LazyLock<u8>, LazyLock<std::cell::Cell<u8>>, LazyLock<std::rc::Rc<u8>>, LazyLock<&'static mut u8>,
        LazyLock<u8, std::rc::Rc<u8>>, LazyLock<u8, *const u8>);
    out.push(observed("static", (STATIC.len(), &*STATIC)));
    let mut lazy: LazyLock<Vec<i32>> = LazyLock::new(|| vec![1]);
    out.push(observed("unmade", (&lazy, LazyLock::get(&lazy))));
    out.push(observed("get_mut", LazyLock::get_mut(&mut lazy)));
    LazyLock::force_mut(&mut lazy).push(2);
    lazy.push(3);
    LazyLock::get_mut(&mut lazy).unwrap().push(4);
    out.push(observed("made", (&lazy, LazyLock::get(&lazy), LazyLock::force(&lazy))));
    out.push(observed("default", *LazyLock::<u8>::default()));
    let mut bad: LazyLock<i32> = LazyLock::new(|| panic!("first"));
    out.push(observed("panic", message(|| *bad)));
    out.push(observed("poisoned", message(|| *bad)));
    out.push(observed("poisoned, looked at", (&bad, LazyLock::get(&bad))));
    out.push(observed("poisoned, get_mut", message(|| LazyLock::get_mut(&mut bad).is_none())));
    out.push(observed("poisoned, mutably", message(|| *LazyLock::force_mut(&mut bad))));
    let mut bad: LazyLock<i32> = LazyLock::new(|| panic!("first"));
    out.push(observed("panic, mutably", message(|| *LazyLock::force_mut(&mut bad))));
    out.push(observed("poisoned, mutably, again", message(|| *LazyLock::force_mut(&mut bad))));
    out.push(observed("poisoned mutably", message(|| *bad)));
    let text = String::from("captured");
    let once = LazyLock::new(move || text);
    out.push(observed("a closure", &*once));
    out
}
