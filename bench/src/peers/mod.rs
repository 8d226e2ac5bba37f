//! The peers: who they are, and how a measurement is run on each.

mod corosensei;
#[cfg(feature = "go-lib")]
mod go_lib;
pub mod green;
mod gvt;
#[cfg(feature = "may")]
mod may;
mod os;
#[cfg(feature = "tokio")]
mod tokio;

pub use self::gvt::VARIANTS as GVT_VARIANTS;
use crate::outcome::Outcome;
use crate::params::Params;
use crate::work;

/// One peer, as the command line names it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Whether it runs as the Go program instead of this one.
    pub is_go: bool,
    /// Whether it has what a work needs.
    pub can: fn(&str) -> bool,
    /// More threads than this at once are not tried, and why.
    pub most_threads: Option<(u64, &'static str)>,
    /// Divides the repetitions of cases that measure one operation at a time.
    pub slow: u64,
    /// What sets its work apart from the others', by work.
    pub remarks: &'static [(&'static str, &'static str)],
}

const PLAIN: Peer =
    Peer { name: "", what: "", is_go: false, can: |_| true, most_threads: None, slow: 1, remarks: &[] };

/// Why peers that map each stack and its guard by themselves end near 32,000 threads.
const TWO_MAPPINGS: Option<(u64, &str)> = Some((30_000, "more stacks than vm.max_map_count allows"));

/// Every peer that this build can run, in the order of the table.
pub const ALL: &[Peer] = &[
    Peer { name: "gvt", what: "gvt's threads; `gvt+PART` exchanges parts", ..PLAIN },
    Peer { name: "go", what: "Go's goroutines", is_go: true, ..PLAIN },
    #[cfg(feature = "tokio")]
    Peer {
        name: "tokio",
        what: "tokio tasks, multi-thread runtime",
        can: |work| work != "rendezvous", // its channels hold one message at least
        remarks: &[
            ("channel-4-4", "tokio's own channels have one receiver: async-channel on tokio"),
            ("parked", "waits on a tokio Semaphore (its channels have one receiver)"),
        ],
        ..PLAIN
    },
    #[cfg(feature = "may")]
    Peer {
        name: "may",
        what: "may's stackful coroutines",
        can: |work| work != "rendezvous", // its channels are unbounded
        most_threads: TWO_MAPPINGS,
        remarks: &[
            ("channel-1-1", "unbounded spsc (may has no bounded channel)"),
            ("channel-4-4", "unbounded mpmc (may has no bounded channel)"),
            ("ping-pong", "spsc, its fastest channel"),
            ("preempt", "its timer thread runs the sleeper itself, beside the one worker"),
            ("preempt-alloc", "its timer thread runs the sleeper itself, beside the one worker"),
            ("preempt-4", "its timer thread runs the sleeper itself, beside the one worker"),
            ("preempt-50", "its timer thread runs the sleeper itself, beside the one worker"),
        ],
        ..PLAIN
    },
    #[cfg(feature = "go-lib")]
    Peer {
        name: "go-lib",
        what: "go-lib, a port of Go's scheduler to Rust",
        can: |work| work != "timeout", // it has no receive with a limit
        most_threads: TWO_MAPPINGS,
        remarks: &[
            ("mutex", "it has no mutex: a channel of capacity 1"),
            ("mutex-8", "it has no mutex: a channel of capacity 1"),
        ],
        ..PLAIN
    },
    Peer {
        name: "os",
        what: "OS threads, std and crossbeam-channel; pinned to as many CPUs as workers",
        most_threads: Some((10_000, "more than 10,000 OS threads")),
        slow: 10,
        ..PLAIN
    },
    Peer {
        name: "corosensei",
        what: "the bare floor: resume and suspend round robin, no scheduler",
        can: |work| work == "yield",
        most_threads: TWO_MAPPINGS,
        ..PLAIN
    },
];

/// Looks a peer up. `name+variant` is a form of `name` (parts of gvt).
pub fn find(name: &str) -> Option<Peer> {
    let plain = name.split('+').next()?;
    ALL.iter().find(|peer| peer.name == plain).copied()
}

/// Runs one measurement in this process.
pub fn run(peer: &str, work: &str, params: &Params) -> Result<Outcome, String> {
    let mut parts = peer.split('+');
    let name = parts.next().unwrap_or_default();
    let variant: Vec<&str> = parts.collect();
    match name {
        "gvt" => work::run::<gvt::Gvt>(work, &variant, params),
        #[cfg(feature = "tokio")]
        "tokio" => tokio::run(work, params),
        #[cfg(feature = "may")]
        "may" => work::run::<may::May>(work, &variant, params),
        #[cfg(feature = "go-lib")]
        "go-lib" => work::run::<go_lib::GoLib>(work, &variant, params),
        "os" => work::run::<os::Os>(work, &variant, params),
        "corosensei" => corosensei::run(work, params),
        "go" => Err("the Go peer is a program of its own; `compare` builds and runs it".into()),
        _ => Err(format!("no peer is called `{name}` in this build")),
    }
}
