//! Every atomic access above `Relaxed` says whom it meets.
//!
//! An access is a line of library code outside tests that names an ordering above `Relaxed`. It is explained
//! if a comment on it, or within [`NEAR`] lines above, says `ORDERING`, or a pair's number, or `pairs with`;
//! a run of accesses needs the comment once. Or the module's head says `**Ordering.**`, and argues for all of
//! the file.

use crate::text::{clause_numbers, without_tests};
use crate::tree::{File, Finding, Tree};

/// How far above an access its comment may begin.
const NEAR: usize = 12;
/// How many lines a planted fault takes.
const PLANTED: usize = 2;
const STRONG: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust().filter(|file| is_library(file)).flat_map(check_file).collect()
}

fn is_library(file: &File) -> bool {
    // Models are tests that have files of their own.
    let is_model = file
        .path
        .split('/')
        .any(|part| part.trim_end_matches(".rs").trim_end_matches('s').ends_with("model"));
    file.package().starts_with("gvt") && file.path.contains("/src/") && !is_model
}

fn check_file(file: &File) -> Vec<Finding> {
    if file.text.lines().any(|line| line.starts_with("//!") && line.contains("**Ordering.**")) {
        return Vec::new();
    }
    let mut explained_at = None;
    let mut in_use = false;
    let mut planted_at = 0;
    let mut findings = Vec::new();
    for line in without_tests(&file.text) {
        let names_pair = clause_numbers(line.comment).any(|number| number.starts_with('O'));
        if names_pair || line.comment.contains("ORDERING") || line.comment.contains("airs with") {
            explained_at = Some(line.number);
        }
        if line.code.contains("mutant(Mutant::") {
            planted_at = line.number;
        }
        let code = line.code.trim_start();
        in_use |= code.starts_with("use ") || code.starts_with("pub(crate) use ");
        if in_use {
            in_use = !code.contains(';');
            continue;
        }
        // A planted fault is explained where it is declared.
        let is_planted = planted_at > 0 && line.number - planted_at <= PLANTED;
        if !names_strong(code) || is_planted {
            continue;
        }
        match explained_at {
            // The comment reaches on: the next access may be a few lines further.
            Some(at) if line.number - at <= NEAR => explained_at = Some(line.number),
            _ => {
                let what = format!("no ORDERING comment within {NEAR} lines: `{}`", code.trim_end());
                findings.push(Finding::new("ordering", &file.path, line.number, what));
            }
        }
    }
    findings
}

fn names_strong(code: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| STRONG.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    fn lines_found(text: &str) -> Vec<usize> {
        check(&tree(&[("gvt-queue-go/src/a.rs", text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn explained_accesses() {
        assert!(lines_found("// ORDERING O1: pairs with `b`.\na.store(1, Release);\n").is_empty());
        assert!(
            lines_found("use std::sync::atomic::Ordering::{Acquire, Release};\na.load(Relaxed);\n")
                .is_empty()
        );
        assert!(lines_found("use std::sync::atomic::{\n    Ordering::{Acquire, Release},\n};\n").is_empty());
        assert!(lines_found("//! **Ordering.** One total order.\na.load(SeqCst);\n").is_empty());
        assert!(lines_found("#[cfg(test)]\nmod tests {\na.load(SeqCst);\n").is_empty());
    }

    #[test]
    fn silent_accesses() {
        assert_eq!(lines_found("if mutant(Mutant::X) {\na.load(SeqCst);\n}\na.load(SeqCst);\n"), [4]);
        assert_eq!(lines_found("a.store(1, Release);\n"), [1]);
        let far = format!("// ORDERING O1: far away.\n{}a.load(Ordering::Acquire);\n", "\n".repeat(NEAR));
        assert_eq!(lines_found(&far), [NEAR + 2]);
        // A planted mutant of the check: a comment below does not count.
        assert_eq!(lines_found("a.load(SeqCst);\n// ORDERING O1: too late.\n"), [1]);
    }
}
