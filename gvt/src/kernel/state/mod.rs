//! State words of a runtime's other OS threads and of its shutdown; the code that uses them is on higher
//! floors.

pub(crate) mod deadlock;
pub(crate) mod lifecycle;
pub(crate) mod monitor;
pub(crate) mod starter;
pub(crate) mod upper;
