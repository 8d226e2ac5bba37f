use self::api::{Once, OnceState};
use crate::observing::{Observed, message, observed};

static STATIC: Once = Once::new();

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Once, OnceState);
    STATIC.call_once(|| ());
    STATIC.wait();
    STATIC.wait_force();
    let once = Once::new();
    out.push(observed("debug", &once));
    out.push(observed("panic", message(|| once.call_once(|| panic!("first")))));
    out.push(observed("poisoned", message(|| once.call_once(|| ()))));
    out.push(observed("waiting for a poisoned one", message(|| once.wait())));
    let mut seen = None;
    once.call_once_force(|state: &OnceState| seen = Some((format!("{state:?}"), state.is_poisoned())));
    out.push(observed("forced", (seen, once.is_completed())));
    let fresh = Once::new();
    let mut seen = None;
    fresh.call_once_force(|state| seen = Some((format!("{state:?}"), state.is_poisoned())));
    out.push(observed("forced, the first", (seen, &fresh)));
    out
}
