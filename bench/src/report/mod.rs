//! `report`: writes the document and its charts from the JSON lines of a comparison.

mod charts;
mod missed;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use self::charts::Chart;
use crate::cases::{self, Case, Figure};
use crate::compare::distance;
use crate::compare::notes::{Notes, Shown};
use crate::compare::record::{Line, Run, Setting};
use crate::compare::stats::{Cell, cell, short};
use crate::compare::table;

/// What to write from what.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The JSON lines of `compare --json`.
    json: PathBuf,
    /// The document; the charts go into a folder beside it.
    #[arg(long, default_value = "docs/BENCHMARKS.md")]
    out: PathBuf,
}

/// A bar cluster: case and figure.
type Bar = (&'static str, &'static str);

/// The charts: file, title, unit, bars.
const CHARTS: &[(&str, &str, &str, &[Bar])] = &[
    (
        "yield",
        "Yield",
        "ns",
        &[("yield-1", "ns"), ("yield-2", "ns"), ("yield-1k", "ns"), ("yield-100k", "ns")],
    ),
    (
        "threads",
        "Starting and ending threads",
        "ns",
        &[("spawn-join", "ns"), ("spawn-many-1w", "ns"), ("spawn-many-2w", "ns"), ("fib", "ns")],
    ),
    (
        "messages",
        "Messages and locks",
        "ns",
        &[
            ("ping-pong", "ns"),
            ("rendezvous", "ns"),
            ("timeout", "ns"),
            ("channel-1-1", "ns"),
            ("channel-4-4", "ns"),
            ("mutex", "ns"),
            ("mutex-8", "ns"),
        ],
    ),
    (
        "lateness",
        "Lateness, median",
        "ms",
        &[
            ("sleepers-20k", "late_p50_ms"),
            ("sleepers-1m", "late_p50_ms"),
            ("preempt", "late_p50_ms"),
            ("preempt-alloc", "late_p50_ms"),
        ],
    ),
    ("cpu", "CPU time", "s", &[("playground", "cpu_s"), ("sleepers-1m", "cpu_s"), ("skynet", "cpu_s")]),
    ("memory", "Memory of a parked thread, page tables included", "bytes", &[("parked", "bytes")]),
];

/// Does it.
pub fn run(options: &Options) -> Result<(), String> {
    let text = fs::read_to_string(&options.json).map_err(|e| format!("{}: {e}", options.json.display()))?;
    let mut setting = None;
    let mut runs = Vec::new();
    for line in text.lines() {
        match serde_json::from_str(line).map_err(|e| format!("`{line}`: {e}"))? {
            Line::Setting(this) => setting = Some(this),
            Line::Run(run) => runs.push(run),
        }
    }
    let setting = setting.ok_or("the file has no setting line; is it from `compare --json`?")?;
    let folder = options.out.parent().unwrap_or(Path::new(".")).join("benchmarks");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut page = head(&setting);
    for (file, title, unit, bars) in CHARTS {
        if let Some(chart) = chart(&setting, &runs, title, unit, bars) {
            let path = folder.join(format!("{file}.svg"));
            charts::draw(&chart, &path).map_err(|e| format!("{}: {e}", path.display()))?;
            let _ = writeln!(page, "![{title}](benchmarks/{file}.svg)\n");
        }
    }
    tables(&mut page, &setting, &runs);
    goals(&mut page, &setting, &runs);
    how(&mut page, &setting);
    fs::write(&options.out, page).map_err(|e| format!("{}: {e}", options.out.display()))?;
    println!("{} and its charts are written.", options.out.display());
    Ok(())
}

fn head(setting: &Setting) -> String {
    let mut page = String::from("# Benchmarks\n\nWritten by `gvt-bench report`; do not edit.\n\n");
    let size = if setting.quick { "small sizes, `--quick`" } else { "full sizes" };
    let _ = writeln!(
        page,
        "The same work on every peer, each measurement in a process of its own, peers in turn ({size}). \
         The bars and tables give medians; whiskers and ranges go from the least to the most. A missing bar is a peer \
         that could not do the work; the notes say why. Before each measurement that takes much memory, as much is touched and \
         freed, so that all meet memory that the host has given already; and a measurement during which the host held the machine up is \
         made again. What each case does is in \
         [`bench/src/cases.rs`](../bench/src/cases.rs), how it is measured in \
         [`bench/README.md`](../bench/README.md).\n"
    );
    page
}

fn chart<'a>(
    setting: &'a Setting,
    runs: &[Run],
    title: &'a str,
    unit: &'a str,
    bars: &[Bar],
) -> Option<Chart<'a>> {
    let bar = |case: &str, peer: &str, figure: &str| match cell(runs, case, peer, figure) {
        Cell::Value(spread, _) => Some(spread),
        Cell::Empty | Cell::Failed(_) => None,
    };
    let has_a_bar = |place: &usize| bars.iter().any(|(c, f)| bar(c, &setting.peers[*place], f).is_some());
    let shown: Vec<usize> = (0..setting.peers.len()).filter(has_a_bar).collect();
    let cluster = |(case, figure): &Bar| {
        let bars: Vec<_> = shown.iter().map(|place| bar(case, &setting.peers[*place], figure)).collect();
        bars.iter().any(Option::is_some).then(|| ((*case).to_owned(), bars))
    };
    let clusters: Vec<_> = bars.iter().filter_map(cluster).collect();
    (!clusters.is_empty()).then_some(Chart { title, unit, all: &setting.peers, shown, clusters })
}

fn measured<'a>(runs: &'a [Run]) -> impl Iterator<Item = &'static Case> + 'a {
    cases::ALL.iter().filter(|case| runs.iter().any(|run| run.case == case.name))
}

fn tables(page: &mut String, setting: &Setting, runs: &[Run]) {
    let base = table::base(setting);
    let _ = writeln!(page, "## Figures\n\nIn brackets: how many times {base}'s figure of the same run.\n");
    let mut notes = Notes::default();
    let _ = writeln!(page, "| case | figure | {} |", setting.peers.join(" | "));
    let _ = writeln!(page, "|---|---|{}", "---:|".repeat(setting.peers.len()));
    for case in measured(runs) {
        for (i, figure) in case.show.iter().enumerate() {
            let name = if i == 0 { format!("**{}**: {}", case.name, case.what) } else { String::new() };
            let ours = cell(runs, case.name, base, figure.key).median();
            let fields = setting.peers.iter().map(|peer| {
                let ours = ours.filter(|_| peer != base);
                field(case, figure, runs, peer, ours, &mut notes)
            });
            let fields: Vec<String> = fields.collect();
            let _ = writeln!(page, "| {name} | {}, {} | {} |", figure.label, figure.unit, fields.join(" | "));
        }
    }
    if let Some(said) = distance::said(runs) {
        let _ = writeln!(page, "\n{said}");
    }
    for (number, note) in notes.lines() {
        let _ = writeln!(page, "\n<sup>{number}</sup> {note}");
    }
}

fn field(
    case: &Case,
    figure: &Figure,
    runs: &[Run],
    peer: &str,
    ours: Option<f64>,
    notes: &mut Notes,
) -> String {
    let marks = |numbers: &[usize]| -> String { numbers.iter().map(|n| format!("<sup>{n}</sup>")).collect() };
    let (spread, numbers) = match notes.show(runs, case, figure, peer) {
        Shown::Nothing => return String::new(),
        Shown::Failed(number) => return format!("— {}", marks(&[number])),
        Shown::Took(spread, numbers) => (spread, numbers),
    };
    let ratio = ours.map(|ours| format!(" ({}x)", short(spread.median / ours))).unwrap_or_default();
    let range = match spread.range() {
        Some((min, max)) => format!("<br>{} … {}", short(min), short(max)),
        None => String::new(),
    };
    format!("**{}**{ratio}{}{range}", short(spread.median), marks(&numbers))
}

/// The goals, for each form of gvt that was measured.
fn goals(page: &mut String, setting: &Setting, runs: &[Run]) {
    let forms: Vec<&String> = setting.peers.iter().filter(|peer| peer.starts_with("gvt")).collect();
    if forms.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "\n## Goals\n\n| case | figure | who | takes | at most | ahead of | |\n|---|---|---|---:|---:|---|---|"
    );
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for case in measured(runs) {
        for figure in case.show {
            for form in &forms {
                let Some(row) = goal(case, figure, runs, form, setting.quick) else { continue };
                let _ = writeln!(page, "{row}");
                if row.contains("missed")
                    && let Some(why) = missed::why(case.name)
                {
                    let place = reasons.iter().position(|(known, _)| *known == why).unwrap_or_else(|| {
                        reasons.push((why, Vec::new()));
                        reasons.len() - 1
                    });
                    if !reasons[place].1.contains(&case.name) {
                        reasons[place].1.push(case.name);
                    }
                }
            }
        }
    }
    for (number, (why, cases)) in reasons.iter().enumerate() {
        if number == 0 {
            let _ = writeln!(page, "\nWhy goals are missed, and what was tried:\n");
        }
        let _ = writeln!(page, "- **{}**: {why}", cases.join(", "));
    }
}

/// One row; `None` if there is no goal or no figure.
fn goal(case: &Case, figure: &Figure, runs: &[Run], who: &str, quick: bool) -> Option<String> {
    let ours = cell(runs, case.name, who, figure.key).median()?;
    let lead = |(peer, times)| Some((peer, times, cell(runs, case.name, peer, figure.key).median()? / ours));
    let (most, ahead) = (figure.bound(quick), figure.ahead.and_then(lead));
    let verdict = match (most.map(|most| ours <= most), ahead.map(|(_, times, is)| is >= times)) {
        (None, None) => return None,
        (Some(true), Some(false)) => "bound met, lead missed",
        (Some(false), Some(true)) => "lead met, bound missed",
        (Some(false), _) | (_, Some(false)) => "missed",
        _ => "met",
    };
    let most = most.map(short).unwrap_or_default();
    let ahead = ahead.map(|(peer, times, is)| format!("{peer} {times}x: {}x", short(is))).unwrap_or_default();
    let (name, label, unit, ours) = (case.name, figure.label, figure.unit, short(ours));
    Some(format!("| {name} | {label}, {unit} | {who} | {ours} | {most} | {ahead} | {verdict} |"))
}

fn how(page: &mut String, setting: &Setting) {
    let _ = writeln!(page, "\n## Where and with what\n\n| | |\n|---|---|");
    for (name, value) in setting.machine.iter().chain(&setting.versions) {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let _ =
        writeln!(page, "\nTo repeat it:\n\n```sh\ncargo run --release -p gvt-bench -- {}", setting.command);
    let _ = writeln!(page, "cargo run --release -p gvt-bench -- report FILE\n```");
}
