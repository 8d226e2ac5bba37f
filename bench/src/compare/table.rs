//! The table on the terminal.

use comfy_table::{Attribute, Cell as Field, CellAlignment, Color, ContentArrangement, Table, presets};

use super::distance;
use super::notes::{Notes, Shown};
use super::record::{Run, Setting};
use super::stats::{cell, short};
use crate::cases::{self, Case, Figure};

/// Whom the others are compared with: gvt if it was measured, else the first.
pub fn base(setting: &Setting) -> &str {
    let gvt = setting
        .peers
        .iter()
        .find(|p| *p == "gvt")
        .or_else(|| setting.peers.iter().find(|p| p.starts_with("gvt")));
    gvt.or(setting.peers.first()).map_or("", String::as_str)
}

/// Prints everything.
pub fn print(setting: &Setting, runs: &[Run]) {
    let base = base(setting);
    let mut notes = Notes::default();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let mut head = vec![Field::new("case"), Field::new("figure")];
    head.extend(setting.peers.iter().map(|p| Field::new(p).add_attribute(Attribute::Bold)));
    head.push(Field::new("goal"));
    table.set_header(head);
    for case in cases::ALL.iter().filter(|case| runs.iter().any(|run| run.case == case.name)) {
        for (i, figure) in case.show.iter().enumerate() {
            let name = if i == 0 { case.name } else { "" };
            let mut row = vec![Field::new(name), Field::new(format!("{}, {}", figure.label, figure.unit))];
            let ours = cell(runs, case.name, base, figure.key).median();
            for peer in &setting.peers {
                let text = text(case, figure, runs, peer, ours.filter(|_| peer != base), &mut notes);
                row.push(Field::new(text).set_alignment(CellAlignment::Right));
            }
            row.push(goal(case, figure, runs, base, setting.quick));
            table.add_row(row);
        }
    }
    println!("{table}");
    println!("Median, and the ratio to {base} in this run; below them least … most over the rounds.");
    if let Some(said) = distance::said(runs) {
        println!("{said}");
    }
    for (number, note) in notes.lines() {
        println!("  [{number}] {note}");
    }
}

/// What one peer's field says. `ours` is what to compare with.
fn text(
    case: &Case,
    figure: &Figure,
    runs: &[Run],
    peer: &str,
    ours: Option<f64>,
    notes: &mut Notes,
) -> String {
    let (spread, numbers) = match notes.show(runs, case, figure, peer) {
        Shown::Nothing => return String::new(),
        Shown::Failed(number) => return format!("— [{number}]"),
        Shown::Took(spread, numbers) => (spread, numbers),
    };
    let ratio = ours.map(|ours| format!("  {}x", short(spread.median / ours))).unwrap_or_default();
    let marks: String = numbers.iter().map(|number| format!("[{number}]")).collect();
    let range = match spread.range() {
        Some((min, max)) => format!("\n{} … {}", short(min), short(max)),
        None => String::new(),
    };
    format!("{}{ratio}{marks}{range}", short(spread.median))
}

/// Whether gvt is as quick, and as far ahead of a peer, as it should be.
fn goal(case: &Case, figure: &Figure, runs: &[Run], base: &str, quick: bool) -> Field {
    let median = |peer| cell(runs, case.name, peer, figure.key).median();
    let Some(ours) = median(base).filter(|_| base.starts_with("gvt")) else { return Field::new("") };
    let verdict = |met: bool| if met { "met" } else { "missed" };
    let mut lines = Vec::new();
    let mut all_met = true;
    if let Some(most) = figure.bound(quick) {
        all_met &= ours <= most;
        lines.push(format!("≤ {}: {}", short(most), verdict(ours <= most)));
    }
    if let Some((peer, times)) = figure.ahead
        && let Some(theirs) = median(peer)
    {
        all_met &= theirs / ours >= times;
        lines.push(format!("{peer} {times}x: {}", verdict(theirs / ours >= times)));
    }
    Field::new(lines.join("\n")).fg(if all_met { Color::Green } else { Color::Red })
}
