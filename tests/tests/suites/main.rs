//! The conformance suites over every backend here, over backends that must fail, and around every part; and
//! what the compiler says of parts that do not fit.
//!
//! A test program is a link and a copy of the runtime's code for each stack of parts, so suites share one.
//! What counts a process's bytes counts its own thread's.

mod composition;
mod context_switch;
mod decorators;
mod examples;
mod own_queue;
mod preemptor;
mod preemptor_wrong;
mod ready_queue;
mod slot_allocator;
mod timer_backend;

use gvt_conformance::counting::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
