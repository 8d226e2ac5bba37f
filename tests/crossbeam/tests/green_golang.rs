//! golang.rs counts what the whole process allocates.
#![allow(
    warnings,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "not ours"
)]

include!(concat!(env!("OUT_DIR"), "/green/golang.rs"));
