//! Cancellation tokens: requests that running code looks at, and waits end with.

pub(crate) mod cancelled;
pub(crate) mod reason;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod token;
