//! Every clause number that is cited is defined, in one place.
//!
//! Where a citation may find its definition: in the same file; in `gvt-traits`; in a file that the same
//! comment or paragraph, or the module head, names in backticks (`` W2 of `wait` ``), of the same package or,
//! in a document, of any. A clause number alone in a string (`"T4"`) is a law's and must be a trait's, or of
//! the same file.
//!
//! A number may be defined in several files, as each protocol counts its steps from 1. In its own file it is
//! that file's. Elsewhere a citation is ambiguous if it names no file, and the number is a trait's as well as
//! that of a file of the citing package, or is defined by two files of `gvt-traits`. Two kinds are left out:
//! C (what a caller owes to one function, which the citation names) and O (ordering pairs, of one file).

use std::collections::{HashMap, HashSet};

use crate::text::{clause_numbers, comment_blocks, defined_clauses, is_clause, lines, paragraphs};
use crate::tree::{File, Finding, Tree};

const CHECK: &str = "clauses";
const TRAITS: &str = "gvt-traits";
/// Its laws are named after the clauses of traits that they test, and define none.
const SUITES: &str = "tests";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let defined: HashMap<&str, HashSet<&str>> =
        tree.files.iter().map(|file| (file.path.as_str(), definitions(file))).collect();
    let of_traits: HashSet<&str> = tree
        .files
        .iter()
        .filter(|file| file.package() == TRAITS)
        .flat_map(|file| &defined[file.path.as_str()])
        .copied()
        .collect();
    let mut findings = Vec::new();
    // The checks' own texts are about clauses, and cite none.
    for file in tree.files.iter().filter(|file| file.package() != "xtask") {
        let here = &defined[file.path.as_str()];
        let blocks = if file.is_rust() { comment_blocks(&file.text) } else { paragraphs(&file.text) };
        let head = blocks.first().filter(|block| file.is_rust() && block.says("//!")).cloned();
        for block in blocks {
            let says = |word: &str| block.says(word) || head.as_ref().is_some_and(|head| head.says(word));
            let named = |number: &str| {
                tree.rust().any(|other| {
                    (file.is_document() || other.package() == file.package() || other.package() == TRAITS)
                        && defined[other.path.as_str()].contains(number)
                        && ["`{}`", "`{}::", "::{}`"]
                            .iter()
                            .any(|form| says(&form.replace("{}", other.stem())))
                })
            };
            for &(line, text) in &block.lines {
                for number in clause_numbers(text) {
                    if here.contains(number) || named(number) {
                        continue;
                    }
                    if !of_traits.contains(number) {
                        let what = format!(
                            "{number} is not defined here, nor in {TRAITS}, nor in a file that this comment names"
                        );
                        findings.push(Finding::new(CHECK, &file.path, line, what));
                        continue;
                    }
                    let meant: Vec<&str> = tree
                        .rust()
                        .filter(|other| other.package() == TRAITS || other.package() == file.package())
                        .filter(|other| other.package() != SUITES)
                        .map(|other| other.path.as_str())
                        .filter(|other| defined[other].contains(number))
                        .collect();
                    if meant.len() > 1 && !number.starts_with(['C', 'O']) {
                        let what = format!("{number} is ambiguous, name the file: {}", meant.join(", "));
                        findings.push(Finding::new(CHECK, &file.path, line, what));
                    }
                }
            }
        }
        if file.is_rust() {
            findings.extend(laws(file, here, &of_traits));
        }
    }
    findings
}

fn definitions(file: &File) -> HashSet<&str> {
    if file.is_rust() {
        lines(&file.text).flat_map(|line| defined_clauses(line.comment)).collect()
    } else {
        file.text.lines().flat_map(defined_clauses).collect()
    }
}

fn laws<'a>(
    file: &'a File,
    here: &'a HashSet<&str>,
    of_traits: &'a HashSet<&str>,
) -> impl Iterator<Item = Finding> + use<'a> {
    lines(&file.text).flat_map(move |line| {
        let quoted = line.code.split('"').skip(1).step_by(2);
        quoted.filter(|word| is_clause(word) && !of_traits.contains(word) && !here.contains(word)).map(
            move |word| {
                Finding::new(
                    CHECK,
                    &file.path,
                    line.number,
                    format!("no trait has a clause \"{word}\", nor is it defined here"),
                )
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let traits = ("gvt-traits/src/slots.rs", "/// - **S1 exclusive**: …\n/// **C1**: …\n");
        let mut all = vec![traits];
        all.extend_from_slice(files);
        check(&tree(&all)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn what_is_defined_may_be_cited() {
        let wait = ("gvt/src/wait.rs", "//! **W2** whoever arrives.\n// W2, and O1\n// ORDERING O1: …\n");
        let held = ("gvt/src/held.rs", "// By C1, and W2 of `sched::wait`.\n");
        let select = ("gvt/src/select.rs", "//! See `wait`.\n\nfn f() {} // W2\n");
        let law = ("tests/src/laws.rs", "fn f() { Violation::new(\"S1\", \"…\") }\n");
        let document = ("docs/A.md", "As S1 says, and W2 of `wait`.\n");
        assert_eq!(findings(&[wait, held, select, law, document]), [""; 0]);
    }

    #[test]
    fn what_has_two_meanings_is_found() {
        let stack = ("gvt/src/stack.rs", "//! **S1** A step of its own.\n// By S1.\n");
        let cites = |comment: &str| findings(&[stack, ("gvt/src/core.rs", comment)]);
        let found = cites("// By S1.\n");
        assert_eq!(
            found,
            [
                "gvt/src/core.rs:1: clauses: S1 is ambiguous, name the file: gvt-traits/src/slots.rs, gvt/src/stack.rs"
            ]
        );
        // One of the two is named, in the comment or in the head.
        for named in ["// S1 of `slots`.\n", "// S1 of `stack`.\n", "//! See `slots`.\n\nfn f() {} // S1\n"] {
            assert_eq!(cites(named), [""; 0], "{named}");
        }
        // Another package has no such file; a caller's duty is its function's.
        assert_eq!(findings(&[stack, ("gvt-mem/src/a.rs", "// By S1.\n")]), [""; 0]);
        let duty = ("gvt/src/duty.rs", "/// **C1**: inside.\n");
        assert_eq!(findings(&[duty, ("gvt/src/core.rs", "// SAFETY: C1.\n")]), [""; 0]);
    }

    #[test]
    fn what_is_not_is_found() {
        let found = findings(&[
            ("gvt/src/wait.rs", "//! **W2** whoever arrives.\n"),
            ("gvt/src/held.rs", "// By W2.\n// W9 of `wait`.\n"),
            ("gvt-mem/src/a.rs", "// W2 of `wait`: of another package.\n"),
            ("tests/src/laws.rs", "fn f() { Violation::new(\"S7\", \"…\") }\n"),
            ("docs/A.md", "As S9 says.\n"),
        ]);
        let ends: Vec<_> = found.iter().map(|line| line.split(" is ").next().unwrap()).collect();
        assert_eq!(
            ends,
            [
                // W2 is found once: the comment that cites it names the file as well, in its second line.
                "gvt/src/held.rs:2: clauses: W9",
                "gvt-mem/src/a.rs:1: clauses: W2",
                "tests/src/laws.rs:1: clauses: no trait has a clause \"S7\", nor",
                "docs/A.md:1: clauses: S9",
            ]
        );
    }
}
