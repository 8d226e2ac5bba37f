//! Which thread runs, where and for how long: preemption, priorities, migration, residents, and nobody when
//! there is nothing to do.
//!
//! Tests of one program run side by side. What counts the wake-ups or the processor time of the process runs
//! in a child ([`Child`](gvt_conformance::process::Child)).

mod default_priorities;
mod idle;
mod migration;
mod preemption;
mod priorities;
mod residents;
mod sleepers;
mod tags;
