//! All files but golang.rs, which counts what the whole process allocates.
#![allow(
    warnings,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "not ours"
)]

macro_rules! files {
    ($($file:ident)+) => {
        $(mod $file {
            include!(concat!(env!("OUT_DIR"), "/os/", stringify!($file), ".rs"));
        })+
    };
}

files! { after array iter list mpsc never ready same_channel select select_macro thread_locals tick zero }
