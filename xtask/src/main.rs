//! `cargo xtask tidy` and `cargo xtask layers`: checks of this repository that no compiler makes.
//!
//! `layers` refuses imports that go round or upward, and prints the floors; see its module. `hunt` runs the
//! tests beside busy loops; see [`hunt`]. `tidy`:
//!
//! | check | what it refuses |
//! |---|---|
//! | `clauses` | a clause number in a comment or document that is defined nowhere it could mean, or in several places |
//! | `graph` | a backend that depends on more than `gvt-traits`; other edges that the layout forbids |
//! | `heads` | a source file without a module head |
//! | `links` | a relative link in a document that leads nowhere |
//! | `listings` | a listing in a document that is not the file that it says it shows |
//! | `mutants` | a fault that no model is run with, or that is planted nowhere |
//! | `ordering` | an atomic access above `Relaxed` without an `ORDERING` comment nearby |
//! | `size` | a source file that has grown past one mechanism |
//! | `user_code` | a call of users' code (wakers, payloads, what may unwind) in `gvt` that does not go through `user` |
//! | `width` | a comment wider than code may be |
//!
//! The checks read text, not syntax. What they get wrong, or what has a reason to be as it is, stands in
//! `xtask/allow.txt` with that reason; an entry that allows nothing any more is refused too.

mod allow;
mod checks;
mod hunt;
mod layers;
mod text;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use allow::AllowList;
use tree::{Finding, Tree};

const USAGE: &str = "usage: cargo xtask tidy|layers, or cargo xtask hunt, which says more after --help";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => say("tidy", tidy(), &format!("{} checks, nothing to say", checks::ALL.len())),
        ["layers"] => {
            let looked = Tree::read(&root()).and_then(|tree| layers::look(&tree, &root()));
            let looked = looked.map(|(findings, picture)| {
                print!("{picture}");
                findings
            });
            say("layers", looked, "every import points downward")
        }
        ["hunt", "--help" | "-h"] => {
            println!("{}", hunt::USAGE);
            ExitCode::SUCCESS
        }
        ["hunt", ..] => match hunt::hunt(&arguments[1..], &root()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("hunt: {error}");
                ExitCode::from(2)
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn say(command: &str, outcome: Result<Vec<Finding>, String>, nothing: &str) -> ExitCode {
    match outcome {
        Ok(findings) if findings.is_empty() => {
            println!("{command}: {nothing}");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            findings.iter().for_each(|finding| println!("{finding}"));
            println!(
                "{command}: {} to mend, or to allow with a reason in {}",
                findings.len(),
                allowed_in(command)
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{command}: {error}");
            ExitCode::from(2)
        }
    }
}

/// The file that lists what a command lets pass.
fn allowed_in(command: &str) -> &'static str {
    if command == "layers" { layers::FLOORS } else { allow::FILE }
}

fn tidy() -> Result<Vec<Finding>, String> {
    let root = root();
    let tree = Tree::read(&root)?;
    let mut allowed = AllowList::read(&root)?;
    let mut findings: Vec<Finding> = checks::ALL
        .iter()
        .flat_map(|check| check(&tree))
        .filter(|finding| !allowed.covers(finding))
        .collect();
    findings.extend(allowed.unused());
    findings.sort();
    Ok(findings)
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the repository").to_owned()
}
