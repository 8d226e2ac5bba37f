use self::api::{Barrier, BarrierWaitResult};
use crate::observing::{Observed, observed};

static STATIC: Barrier = Barrier::new(1);

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Barrier, BarrierWaitResult);
    let result: BarrierWaitResult = STATIC.wait();
    out.push(observed("result", (&result, result.is_leader())));
    out.push(observed("debug", Barrier::new(3)));
    out.push(observed("of nobody", Barrier::new(0).wait().is_leader()));
    out
}
