//! Conformance suites: the laws of gvt's five traits as generic functions.
//!
//! Each law is a function that takes a backend (or its factory) and returns `Ok(())`, or a
//! [`Violation`] that names the clause and what happened. A backend's own crate, or an outsider's,
//! adds one line a backend to a roster and gets every law.
#![warn(missing_docs)]

pub mod counting;
pub mod descriptor;
pub mod laws;
pub mod process;
pub mod stacks;
pub mod threads;
pub mod wrong;

use std::fmt;

/// A clause that a backend broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The clause's number, as the trait's documentation gives it.
    pub clause: &'static str,
    /// What was expected and what happened.
    pub what: String,
}

impl Violation {
    /// A violation of `clause`.
    pub fn new(clause: &'static str, what: impl Into<String>) -> Self {
        Violation { clause, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.what)
    }
}

impl std::error::Error for Violation {}

/// What a law returns.
pub type Verdict = Result<(), Violation>;
