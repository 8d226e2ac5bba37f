//! A queue in the place of the switch.

fn main() {
    let _ = gvt::Runtime::builder().context(gvt::GoQueue).build();
}

//~ error: `GoQueue` cannot switch stacks
//~ label: this type does not implement `ContextSwitch`
//~ note: pass `X86_64` to `.context(…)`, or leave it out
