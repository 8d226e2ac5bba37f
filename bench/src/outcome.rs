//! What one measurement reports: one JSON line on the child's standard output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::usage;

/// The figures of one measurement, and the value that proves that the work was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Figures by name.
    pub metrics: BTreeMap<String, f64>,
    /// What the work computed. The comparer knows what it must be.
    pub check: u64,
}

impl Outcome {
    /// An outcome without figures yet.
    pub fn new(check: u64) -> Self {
        Outcome { metrics: BTreeMap::new(), check }
    }

    /// The same with one more figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }

    /// The usual outcome: `ops` operations took `elapsed`.
    pub fn per_op(check: u64, ops: u64, elapsed: Duration) -> Self {
        Outcome::new(check)
            .with("ns", elapsed.as_nanos() as f64 / ops as f64)
            .with("s", elapsed.as_secs_f64())
    }

    /// Adds the median and the 99th percentile of `lateness_ns`, in milliseconds.
    pub fn with_lateness(self, mut lateness_ns: Vec<u64>) -> Self {
        lateness_ns.sort_unstable();
        let at = |share: f64| lateness_ns[((lateness_ns.len() - 1) as f64 * share) as usize] as f64 / 1e6;
        self.with("late_p50_ms", at(0.50)).with("late_p99_ms", at(0.99)).with("late_max_ms", at(1.0))
    }

    /// Adds what this process has used up to now.
    pub fn with_usage(self) -> Self {
        let memory = usage::memory_peak();
        self.with("cpu_s", usage::cpu_seconds()).with("peak_gb", memory as f64 / 1e9)
    }
}
