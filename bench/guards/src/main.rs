#![doc = include_str!("../README.md")]

mod budgets;
mod count;
mod fused;
mod ops;

use std::process::ExitCode;

use crate::budgets::Budgets;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        // What runs under valgrind.
        ["run", name, times] => ops::run(name, times.parse().unwrap_or(0)).map(|()| true),
        ["fused"] => fused::check(),
        ["--write"] => check("", true, false),
        ["--keep", part] => check(part, false, true),
        [part] => check(part, false, false),
        [] => check("", false, false),
        _ => Err("usage: gvt-guards [fused | --write | --keep NAME | NAME]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Counts every operation whose name contains `part`; `false` if one exceeds its budget.
fn check(part: &str, write: bool, keep: bool) -> Result<bool, String> {
    let mut budgets = if write { Budgets::default() } else { Budgets::read()? };
    let mut good = true;
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    println!("{:<22} {:>12} {:>8}", "operation", "instructions", "budget");
    for op in ops::ALL.iter().filter(|op| op.name.contains(part)) {
        let counted = count::per_operation(&me, op, keep)?;
        let verdict = match budgets.of(op.name) {
            _ if write => {
                budgets.set(op.name, counted);
                ""
            }
            None => {
                good = false;
                "no budget: run with --write"
            }
            Some(budget) if counted > budget as f64 => {
                good = false;
                "TOO MANY"
            }
            Some(budget) if counted + 3.0 < budget as f64 * 0.85 => "far below: lower the budget (--write)",
            Some(_) => "",
        };
        let budget = budgets.of(op.name).map(|b| b.to_string()).unwrap_or_default();
        println!("{:<22} {counted:>12.1} {budget:>8} {verdict}", op.name);
    }
    if write {
        budgets.write()?;
    }
    Ok(good)
}
