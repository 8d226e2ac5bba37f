//! Much of everything at once, with the system's allocator.
//!
//! What weighs the process runs in a child ([`Child`](gvt_conformance::process::Child)).

mod churn;
mod endurance;
mod mixes;
mod torture;

#[global_allocator]
static ALLOCATOR: torture::Counted<std::alloc::System> = torture::Counted { inner: std::alloc::System };
