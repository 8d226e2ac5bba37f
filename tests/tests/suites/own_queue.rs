//! The queue of `docs/WRITING_A_BACKEND.md`, as this workspace compiles it. Its own package,
//! `examples/own_queue`, runs the same suite from outside.

#[path = "../../../examples/own_queue/src/lib.rs"]
mod package;

gvt_conformance::ready_queue_suite!(fifo, super::package::FifoQueue);
