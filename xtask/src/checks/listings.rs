//! A listing in a document that says which file it shows shows that file, to the letter.
//!
//! The line before the listing is `` <!-- listing: path/from/the/root.rs --> ``.

use crate::tree::{Finding, Tree};

const CHECK: &str = "listings";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in tree.documents() {
        let lines: Vec<&str> = document.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(path) = line.strip_prefix("<!-- listing: ").and_then(|rest| rest.strip_suffix(" -->"))
            else {
                continue;
            };
            let mut complain = |line: usize, what: String| {
                findings.push(Finding::new(CHECK, &document.path, line, what));
            };
            if !lines.get(index + 1).is_some_and(|fence| fence.starts_with("```")) {
                complain(index + 2, "no listing follows".into());
                continue;
            }
            let Some(file) = tree.files.iter().find(|file| file.path == path) else {
                complain(index + 1, format!("there is no {path}"));
                continue;
            };
            let shown = lines[index + 2..].iter().take_while(|line| **line != "```");
            let (shown, meant): (Vec<&str>, Vec<&str>) =
                (shown.copied().collect(), file.text.lines().collect());
            let first = (0..shown.len().max(meant.len())).find(|&at| shown.get(at) != meant.get(at));
            if let Some(at) = first {
                complain(index + 3 + at, format!("this is not line {} of {path}", at + 1));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    #[test]
    fn listings_are_compared() {
        let code = "//! A head.\nfn a() {}\n";
        let shows =
            |listing: &str| format!("Text.\n\n<!-- listing: a/b.rs -->\n```rust\n{listing}```\nMore.\n");
        assert!(check(&tree(&[("a/b.rs", code), ("d.md", &shows(code))])).is_empty());
        for (text, line) in [
            (shows("//! A head.\nfn b() {}\n"), 6),
            (shows("//! A head.\n"), 6),
            (shows("//! A head.\nfn a() {}\n\n"), 7),
            ("<!-- listing: a/c.rs -->\n```rust\n```\n".into(), 1),
            ("<!-- listing: a/b.rs -->\nNothing.\n".into(), 2),
        ] {
            let found = check(&tree(&[("a/b.rs", code), ("d.md", &text)]));
            assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [line], "{text}");
        }
    }
}
