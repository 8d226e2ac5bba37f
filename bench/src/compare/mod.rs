//! `compare`: runs the cases on the peers, in turn, and shows what came out.
//!
//! **Hazard.** A machine drifts: clocks, neighbours, caches. A peer measured whole before the next one
//! meets another machine.
//!
//! **Protocol.** Each measurement is a process of its own. Within a case the peers take turns, round
//! by round; the next round begins with the next peer, so that none is always first. Medians of the same
//! rounds are compared, and nothing else.
//!
//! **Not covered.** What frequency scaling and the other side of a hyper-thread do within a round.

mod child;
pub mod distance;
mod go;
mod halted;
mod machine;
pub mod notes;
pub mod record;
pub mod stats;
pub mod table;
mod warm;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

use self::child::Limits;
use self::go::GoPeer;
use self::record::{Line, Run, Setting};
use crate::cases::{self, Case, LeftOut};
use crate::outcome::Outcome;
use crate::params::Params;
use crate::peers::{self, Peer};

/// What to compare.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Smaller sizes and fewer rounds: a minute or two instead of half an hour.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers, in this order; `gvt+64k+wheel` is gvt with other parts.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Rounds for each case.
    #[arg(long)]
    rounds: Option<u32>,
    /// Where to write the JSON lines.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A peer of this comparison; its name may carry a variant.
struct Entrant {
    name: String,
    peer: Peer,
}

/// Does it.
pub fn run(options: &Options) -> Result<(), String> {
    let mut entrants = entrants(&options.peers)?;
    let wanted = |case: &&Case| {
        options.only.is_empty() || options.only.iter().any(|part| case.name.contains(part.as_str()))
    };
    let cases: Vec<&Case> = cases::ALL.iter().filter(wanted).collect();
    let mut versions = machine::versions();
    let mut go = None;
    if entrants.iter().any(|e| e.peer.is_go) {
        match go::build() {
            Ok(built) => {
                versions.insert("go".into(), built.version.clone());
                go = Some(built);
            }
            Err(why) => {
                eprintln!("{why}");
                entrants.retain(|e| !e.peer.is_go);
            }
        }
    }
    let setting = Setting {
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        machine: machine::facts(),
        versions,
        quick: options.quick,
        peers: entrants.iter().map(|e| e.name.clone()).collect(),
    };
    let mut json = match &options.json {
        Some(path) => Some(File::create(path).map_err(|e| format!("{}: {e}", path.display()))?),
        None => None,
    };
    write_line(&mut json, &Line::Setting(setting.clone()))?;
    describe(&setting);
    let runs = measure_all(options, &cases, &entrants, go.as_ref(), &mut json)?;
    table::print(&setting, &runs);
    Ok(())
}

fn entrants(names: &[String]) -> Result<Vec<Entrant>, String> {
    let all: Vec<String> = peers::ALL.iter().map(|p| p.name.to_owned()).collect();
    let names = if names.is_empty() { &all } else { names };
    let entrant = |name: &String| {
        let peer = peers::find(name).ok_or_else(|| {
            format!("no peer is called `{name}` in this build; there are {}", all.join(", "))
        })?;
        Ok(Entrant { name: name.clone(), peer })
    };
    names.iter().map(entrant).collect()
}

/// The turns: case by case, round by round, peer by peer.
fn measure_all(
    options: &Options,
    cases: &[&Case],
    entrants: &[Entrant],
    go: Option<&GoPeer>,
    json: &mut Option<File>,
) -> Result<Vec<Run>, String> {
    let limits = Limits {
        time: Duration::from_secs(if options.quick { 20 } else { 120 }),
        memory: machine::memory_limit(),
    };
    let rounds = |case: &Case| case.rounds(options.rounds, options.quick);
    let total: u32 = cases.iter().map(|case| rounds(case) * entrants.len() as u32).sum();
    let bar = ProgressBar::new(total.into());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (about {eta} left)  {msg}");
    bar.set_style(style.map_err(|e| e.to_string())?);
    let mut runs: Vec<Run> = Vec::new();
    for case in cases {
        for round in 0..rounds(case) {
            for turn in 0..entrants.len() {
                let entrant = &entrants[(turn + round as usize) % entrants.len()];
                bar.set_message(format!("{} on {}", case.name, entrant.name));
                let failed =
                    |run: &Run| run.case == case.name && run.peer == entrant.name && run.result.is_err();
                if !runs.iter().any(failed)
                    && let Some(run) = measure(case, entrant, round, options.quick, go, limits)
                {
                    write_line(json, &Line::Run(run.clone()))?;
                    runs.push(run);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(runs)
}

/// One measurement, checked; `None` if the peer does not have what the work needs.
fn measure(
    case: &Case,
    entrant: &Entrant,
    round: u32,
    quick: bool,
    go: Option<&GoPeer>,
    limits: Limits,
) -> Option<Run> {
    let mut run = Run {
        case: case.name.into(),
        peer: entrant.name.clone(),
        round,
        params: String::new(),
        shrunk: None,
        line_ns: None,
        result: Err(String::new()),
    };
    let sized = match case.sized_for(&entrant.peer, quick) {
        Ok(sized) => sized,
        Err(LeftOut::CannotDoThat) => return None,
        Err(LeftOut::TooMany(why)) => {
            run.result = Err(why.into());
            return Some(run);
        }
    };
    run.params = sized.params.to_string();
    run.shrunk = sized.shrunk;
    let command = match (entrant.peer.is_go, go) {
        (true, Some(go)) => {
            let mut command = Command::new(&go.binary);
            command.arg(case.work);
            Ok(command)
        }
        (true, None) => Err("Go was not found".to_owned()),
        (false, _) => std::env::current_exe().map_err(|e| e.to_string()).map(|me| {
            let mut command = Command::new(me);
            command.args(["run", &entrant.name, case.work]);
            command
        }),
    };
    run.result = command.and_then(|mut command| {
        command.args(sized.params.words());
        let prepare = || {
            warm::memory_for(case, &sized.params);
            sized.params.several_workers().then(distance::line_ns).flatten()
        };
        let (line_ns, result) = halted::seldom(case.long && !quick, prepare, || {
            judged(child::measure(&mut command, limits), case, &sized.params)
        });
        run.line_ns = line_ns;
        result
    });
    Some(run)
}

/// A measurement whose work did not compute what it must is none.
fn judged(measured: Result<Outcome, String>, case: &Case, params: &Params) -> Result<Outcome, String> {
    let want = (case.check)(params);
    measured.and_then(|outcome| match outcome.check {
        got if got == want => Ok(outcome),
        _ if case.work == "preempt" => Err("starves: the sleeper gets no turn while the spinner runs".into()),
        got => Err(format!("wrong result: {got} instead of {want}")),
    })
}

fn write_line(json: &mut Option<File>, line: &Line) -> Result<(), String> {
    let Some(file) = json else { return Ok(()) };
    let text = serde_json::to_string(line).map_err(|e| e.to_string())?;
    writeln!(file, "{text}").map_err(|e| e.to_string())
}

fn describe(setting: &Setting) {
    for (name, value) in &setting.machine {
        println!("{name}: {value}");
    }
    let versions: Vec<String> =
        setting.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!("versions: {}", versions.join(", "));
    if machine::is_busy() {
        eprintln!(
            "This machine is busy with something else: figures of cases with 2 workers will be worse than they are."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of every case are well-formed, and no check accepts a result that is off by one.
    #[test]
    fn a_wrong_result_is_no_figure() {
        let peer = peers::find("gvt").expect("always there");
        for case in cases::ALL {
            for quick in [true, false] {
                let Ok(sized) = case.sized_for(&peer, quick) else { continue };
                let right = (case.check)(&sized.params);
                assert!(judged(Ok(Outcome::new(right)), case, &sized.params).is_ok(), "{}", case.name);
                assert!(judged(Ok(Outcome::new(right + 1)), case, &sized.params).is_err(), "{}", case.name);
            }
        }
    }
}
