//! No comment in source is wider than code may be: rustfmt wraps code, and leaves comments alone.

use crate::text::lines;
use crate::tree::{Finding, Tree};

/// `max_width` of `rustfmt.toml`.
const MOST: usize = 110;

/// Folders whose comments are still to be wrapped, and why: none.
const UNWRAPPED: &[(&str, &str)] = &[];

pub fn check(tree: &Tree) -> Vec<Finding> {
    check_but(tree, UNWRAPPED)
}

fn check_but(tree: &Tree, unwrapped: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| !unwrapped.iter().any(|(folder, _)| file.path.starts_with(folder)))
    {
        for line in lines(&file.text).filter(|line| !line.comment.is_empty()) {
            let columns = line.code.chars().count() + line.comment.chars().count();
            if columns > MOST && !is_unbreakable(line.comment) {
                let what = format!("a comment of {columns} columns, of {MOST} at most");
                findings.push(Finding::new("width", &file.path, line.number, what));
            }
        }
    }
    // A folder is listed as long as there is something to wrap in it.
    for (folder, _) in unwrapped {
        let one = Tree {
            files: tree.rust().filter(|file| file.path.starts_with(folder)).cloned().collect(),
            edges: Vec::new(),
        };
        if check_but(&one, &[]).is_empty() {
            let what = format!("`{folder}` has no wide comments: remove it from `UNWRAPPED`");
            findings.push(Finding::new("width", "xtask/src/checks/width.rs", 1, what));
        }
    }
    findings
}

/// A row of a table, or an address that fills the line: neither can be wrapped.
fn is_unbreakable(comment: &str) -> bool {
    let text = comment.trim_start_matches(['/', '!']).trim_start();
    text.starts_with('|') || text.split(' ').any(|word| word.len() > MOST / 2 && word.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    fn found(text: &str) -> Vec<usize> {
        check_but(&tree(&[("gvt/src/a.rs", text)]), &[]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn wide_comments_are_found() {
        let fits = format!("//! {}\n", "x".repeat(MOST - 4));
        assert_eq!(found(&fits), [0; 0]);
        // Columns are characters, not bytes.
        assert_eq!(found(&format!("//! {}\n", "é".repeat(MOST - 4))), [0; 0]);
        assert_eq!(found(&format!("//! {}\n", "x".repeat(MOST - 3))), [1]);
        assert_eq!(found(&format!("\nlet a = 1; // {}\n", "x".repeat(MOST - 13))), [2]);
    }

    #[test]
    fn code_tables_and_addresses_may_be_wide() {
        let wide = "x ".repeat(MOST);
        assert_eq!(found(&format!("let a = \"{wide}\";\n//! | {wide} |\n")), [0; 0]);
        assert_eq!(found(&format!("/// [a](https://x.y/{})\n", "z".repeat(MOST))), [0; 0]);
    }

    #[test]
    fn a_folder_may_wait_while_it_has_wide_comments() {
        let wide = format!("//! {}\n", "x ".repeat(MOST));
        let waits: &[(&str, &str)] = &[("gvt/src/", "being wrapped")];
        assert!(check_but(&tree(&[("gvt/src/a.rs", &wide)]), waits).is_empty());
        assert_eq!(check_but(&tree(&[("gvt-traits/src/a.rs", &wide)]), waits).len(), 2);
        let found = check_but(&tree(&[("gvt/src/a.rs", "//! Fits.\n")]), waits);
        assert!(found[0].what.contains("remove it"), "{found:?}");
    }
}
