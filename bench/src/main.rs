#![doc = include_str!("../README.md")]

mod cases;
mod compare;
mod outcome;
mod params;
mod peers;
mod preempt_cost;
mod report;
mod timers;
mod usage;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::params::Params;

/// The same work for gvt and for its peers, measured side by side.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the cases on every peer, in turn, and prints a table.
    Compare(compare::Options),
    /// Runs one measurement in this process and prints one JSON line.
    Run {
        /// The peer, with `+part`s for gvt.
        peer: String,
        /// The work.
        work: String,
        /// Its sizes, `key=value`.
        params: Vec<String>,
    },
    /// Writes the document with its charts from the JSON lines of a comparison.
    Report(report::Options),
    /// What a forced preemption costs in each mode, beside a bare signal; takes half a minute.
    PreemptCost,
    /// What timers cost that are mostly cancelled, beside tokio's; takes a minute.
    Timers,
    /// Lists the cases and the peers.
    List,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Run { peer, work, params } => run(&peer, &work, &params),
        Command::PreemptCost => preempt_cost::run(),
        Command::Timers => timers::run(),
        Command::List => {
            list();
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// One measurement. The process ends at once afterwards: taking a million threads down again is not
/// part of any work.
fn run(peer: &str, work: &str, words: &[String]) -> Result<(), String> {
    let params = Params::parse(words.iter().map(String::as_str))?;
    let outcome = peers::run(peer, work, &params)?;
    println!("{}", serde_json::to_string(&outcome).map_err(|e| e.to_string())?);
    std::process::exit(0)
}

fn list() {
    println!("Cases:");
    for case in cases::ALL {
        println!("  {:15} {}", case.name, case.what);
    }
    println!("Peers:");
    for peer in peers::ALL {
        println!("  {:15} {}", peer.name, peer.what);
    }
    println!("Parts of gvt:");
    for (name, what) in peers::GVT_VARIANTS {
        println!("  gvt+{name:11} {what}");
    }
}
