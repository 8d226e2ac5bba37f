//! Green threads from spawn to end: joining, scopes, panics, overflows, shutdown, locals, macros, and what is
//! refused.
//!
//! Tests of one program run side by side. What counts the threads, descriptors or bytes of the process, or
//! ends it, runs in a child ([`Child`](gvt_conformance::process::Child)).

mod backend_panics;
mod bad_input;
mod deadlock;
mod denied;
mod locals;
mod macros;
mod outside;
mod overflow;
mod panics;
mod runtimes;
mod scope;
mod shutdown;
mod spawn_join;
mod spec_program;
mod stack_sizes;
mod task_set;
mod trees;
mod user_code;
