//! The JSON lines that a comparison writes and the report reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// Where and with what; the first line.
    Setting(Setting),
    /// One measurement.
    Run(Run),
}

/// Where and with what it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Setting {
    /// The command line.
    pub command: String,
    /// Seconds since 1970.
    pub unix_time: u64,
    /// Facts about the machine by name.
    pub machine: BTreeMap<String, String>,
    /// Versions by name.
    pub versions: BTreeMap<String, String>,
    /// Whether sizes were scaled down.
    pub quick: bool,
    /// Who was to be measured, in order.
    pub peers: Vec<String>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The case.
    pub case: String,
    /// The peer.
    pub peer: String,
    /// Which round, from 0.
    pub round: u32,
    /// The sizes.
    pub params: String,
    /// The number of threads, if this peer got fewer than the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<u64>,
    /// A cache line there and back between two processors just before, ns, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_ns: Option<u32>,
    /// The figures, or why there are none.
    pub result: Result<Outcome, String>,
}
