//! Every fault that code declares is planted, and a model is run with it.
//!
//! A fault is a variant of an enum named `Mutant`. It is planted where code asks `mutant(Mutant::X)`, and
//! tried where anything else names it.

use crate::text::lines;
use crate::tree::{File, Finding, Tree};

const CHECK: &str = "mutants";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.package() != "xtask") {
        for (line, name) in declared(file) {
            let uses = uses(tree, file.package(), &name);
            if uses.planted == 0 {
                findings.push(Finding::new(
                    CHECK,
                    &file.path,
                    line,
                    format!("Mutant::{name} is planted nowhere"),
                ));
            }
            if uses.tried == 0 {
                findings.push(Finding::new(
                    CHECK,
                    &file.path,
                    line,
                    format!("no model is run with Mutant::{name}"),
                ));
            }
        }
    }
    findings
}

/// The variants of the enums named `Mutant` in `file`, with their lines.
fn declared(file: &File) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in lines(&file.text) {
        let code = line.code.trim();
        if code.ends_with("enum Mutant {") {
            inside = true;
        } else if code.starts_with('}') {
            inside = false;
        } else if inside && code.starts_with(|c: char| c.is_ascii_uppercase()) {
            names.push((line.number, word(code).to_owned()));
        }
    }
    names
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(text)
}

struct Uses {
    planted: usize,
    tried: usize,
}

fn uses(tree: &Tree, package: &str, name: &str) -> Uses {
    let mut uses = Uses { planted: 0, tried: 0 };
    for file in tree.rust().filter(|file| file.package() == package) {
        let declares = declared(file).iter().any(|(_, declared)| declared == name);
        for line in lines(&file.text) {
            for (at, _) in line.code.match_indices(name) {
                let (before, after) = line.code.split_at(at);
                let whole =
                    word(after) == name && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
                // Its own declaration names it without the enum.
                let qualified = before.ends_with("Mutant::") || !declares;
                if whole && qualified && !line.code.trim_start().starts_with("use ") {
                    let asked = before
                        .strip_suffix("mutant(Mutant::")
                        .is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
                    if asked {
                        uses.planted += 1;
                    } else {
                        uses.tried += 1;
                    }
                }
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    const SYNC: &str = "enum Mutant {\n    /// …\n    NoFence = 1,\n    Blind,\n}\n";

    #[test]
    fn planted_and_tried() {
        let ring = "if mutant(Mutant::NoFence) {}\nif a && !(mutant(Mutant::Blind) && b) {}\n";
        let models =
            "check_mutant(Mutant::NoFence, f);\nuse Mutant::Blind;\nholds_but_not_with(&[Blind], f);\n";
        let files = [("q/src/sync.rs", SYNC), ("q/src/ring.rs", ring), ("q/src/models.rs", models)];
        assert!(check(&tree(&files)).is_empty());
    }

    #[test]
    fn forgotten_ones_are_found() {
        let ring = "if mutant(Mutant::NoFence) {}\n";
        let models = "check_mutant(Mutant::Blind, f);\n";
        let files = [("q/src/sync.rs", SYNC), ("q/src/ring.rs", ring), ("q/src/models.rs", models)];
        let found: Vec<_> = check(&tree(&files)).into_iter().map(|finding| finding.what).collect();
        assert_eq!(found, ["no model is run with Mutant::NoFence", "Mutant::Blind is planted nowhere"]);
        // Another package's models do not count.
        let elsewhere = [("q/src/sync.rs", SYNC), ("r/src/models.rs", "check_mutant(Mutant::NoFence)")];
        assert_eq!(check(&tree(&elsewhere)).len(), 4);
    }
}
