//! A queue in the preemptor's place.

fn main() {
    let _ = gvt::Runtime::builder().preemptor(gvt::GoQueue).build();
}

//~ error: `GoQueues` is not a preemptor
//~ label: this backend does not implement `Preemptor`
//~ note: pass `Sigurg`, `Cooperative` or `NoPreempt` to `.preemptor(…)`
