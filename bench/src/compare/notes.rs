//! What a field of either table says, and the footnotes under it.

use super::record::Run;
use super::stats::{Cell, Spread, cell, short};
use crate::cases::{Case, Figure};
use crate::peers;

/// Footnotes; each says its text once, with the cases that it holds for.
#[derive(Default)]
pub struct Notes(Vec<(String, Vec<&'static str>)>);

/// What a field says.
pub enum Shown {
    /// The peer does not have what the work needs.
    Nothing,
    /// It could not do it; the note that says why.
    Failed(usize),
    /// What it took, and the notes to that.
    Took(Spread, Vec<usize>),
}

impl Notes {
    /// The number of note `text` of `peer`, from 1.
    fn number(&mut self, peer: &str, text: &str, case: &'static str) -> usize {
        let text = format!("{peer}: {text}");
        let place = self.0.iter().position(|(known, _)| *known == text).unwrap_or_else(|| {
            self.0.push((text, Vec::new()));
            self.0.len() - 1
        });
        let cases = &mut self.0[place].1;
        if !cases.contains(&case) {
            cases.push(case);
        }
        place + 1
    }

    /// What the field of `peer` says.
    pub fn show(&mut self, runs: &[Run], case: &Case, figure: &Figure, peer: &str) -> Shown {
        let (spread, shrunk) = match cell(runs, case.name, peer, figure.key) {
            Cell::Empty => return Shown::Nothing,
            Cell::Failed(why) => return Shown::Failed(self.number(peer, &why, case.name)),
            Cell::Value(spread, shrunk) => (spread, shrunk),
        };
        let mut numbers = Vec::new();
        if let Some(threads) = shrunk {
            numbers.push(self.number(peer, &format!("{} threads only", short(threads as f64)), case.name));
        }
        let remarks = peers::find(peer).map_or(&[][..], |p| p.remarks);
        for (_, remark) in remarks.iter().filter(|(name, _)| *name == case.name) {
            numbers.push(self.number(peer, remark, case.name));
        }
        Shown::Took(spread, numbers)
    }

    /// The notes, with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        let line = |(i, (text, cases)): (usize, &(String, Vec<&str>))| {
            (i + 1, format!("{text} ({})", cases.join(", ")))
        };
        self.0.iter().enumerate().map(line)
    }
}
