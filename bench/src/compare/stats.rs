//! From runs to cells.

use super::record::Run;

/// Median, least and most of a figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Least and most, if they differ.
    pub fn range(&self) -> Option<(f64, f64)> {
        (self.min < self.max).then_some((self.min, self.max))
    }
}

/// The spread of `values`; `None` if there are none.
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    let median = (values.get(n.checked_sub(1)? / 2)? + values.get(n / 2)?) / 2.0;
    Some(Spread { median, min: values[0], max: values[n - 1] })
}

/// What the table shows for one peer and figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Not measured.
    Empty,
    /// It could not be measured.
    Failed(String),
    /// The figure; how many threads, if fewer than the others had.
    Value(Spread, Option<u64>),
}

impl Cell {
    /// The median.
    pub fn median(&self) -> Option<f64> {
        match self {
            Cell::Value(spread, _) => Some(spread.median),
            Cell::Empty | Cell::Failed(_) => None,
        }
    }
}

/// The cell of `figure` of `case` for `peer`. One failed round fails the cell: a peer that crashes now
/// and then is not one that works.
pub fn cell(runs: &[Run], case: &str, peer: &str, figure: &str) -> Cell {
    let mine = || runs.iter().filter(|run| run.case == case && run.peer == peer);
    if let Some(reason) = mine().find_map(|run| run.result.as_ref().err()) {
        return Cell::Failed(reason.clone());
    }
    let values = mine().filter_map(|run| run.result.as_ref().ok()?.metrics.get(figure).copied()).collect();
    let shrunk = mine().find_map(|run| run.shrunk);
    spread(values).map_or(Cell::Empty, |spread| Cell::Value(spread, shrunk))
}

/// A number with three significant digits, more where it is large.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i) % 3 == 0 && digit.is_ascii_digit() {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
        v if v >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(spread(vec![3.0, 1.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(spread(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(spread(vec![]), None);
    }

    #[test]
    fn one_failure_fails_the_cell() {
        let run = |round, result| Run {
            case: "c".into(),
            peer: "p".into(),
            round,
            params: String::new(),
            shrunk: None,
            line_ns: None,
            result,
        };
        let good = Ok(Outcome::new(1).with("ns", 5.0));
        let runs = [run(0, good.clone()), run(1, Err("crashed".into()))];
        assert_eq!(cell(&runs, "c", "p", "ns"), Cell::Failed("crashed".into()));
        assert_eq!(cell(&runs[..1], "c", "p", "ns").median(), Some(5.0));
        assert_eq!(cell(&runs, "c", "other", "ns"), Cell::Empty);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(1234567.0), "1,234,567");
        assert_eq!(short(123.4), "123");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(0.034), "0.034");
    }
}
