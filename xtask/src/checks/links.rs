//! Links in documents that lead into this repository lead somewhere: relative ones, and those by its address,
//! which README has because its text is also `gvt`'s page on crates.io, where no file of the repository lies.

use std::collections::HashSet;

use crate::tree::{Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let known: HashSet<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    let pages: HashSet<String> = tree.rust().filter_map(|file| page_of(&file.path, &file.text)).collect();
    let mut findings = Vec::new();
    for file in tree.documents() {
        let is_page = pages.contains(&file.path);
        for (index, line) in file.text.lines().enumerate() {
            for target in targets(line) {
                let Some(path) = resolve(&file.path, target) else {
                    continue;
                };
                if is_page && !target.starts_with(ADDRESS) {
                    let what = format!(
                        "{target} leads nowhere from the documentation; give the repository's address"
                    );
                    findings.push(Finding::new("links", &file.path, index + 1, what));
                    continue;
                }
                // Only what is read here can be told: other kinds of files and folders are left alone.
                let checkable = path.ends_with(".md") || path.ends_with(".rs");
                if checkable && !known.contains(path.as_str()) {
                    findings.push(Finding::new(
                        "links",
                        &file.path,
                        index + 1,
                        format!("{target} leads nowhere"),
                    ));
                }
            }
        }
    }
    findings
}

/// The document that a crate includes as the front page of its documentation.
fn page_of(source: &str, text: &str) -> Option<String> {
    let included =
        text.lines().find_map(|line| line.strip_prefix("#![doc = include_str!(\"")?.split('"').next())?;
    resolve(source, included)
}

/// What `](…)` points to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Where the repository's files can be read.
const ADDRESS: &str = "https://github.com/gvt-rs/gvt/blob/main/";

/// A link into this repository as a path from the root; `None` for other links.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or(target);
    if let Some(path) = target.strip_prefix(ADDRESS) {
        return Some(path.to_owned());
    }
    if target.is_empty() || target.contains("://") || target.starts_with('/') || target.contains("::") {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    #[test]
    fn dead_links_are_found() {
        let text = "[a](B.md) [b](../README.md#top) [c](https://x.y/z.md) [d](#here) [e](missing.md)\n";
        let found = check(&tree(&[("docs/A.md", text), ("docs/B.md", ""), ("README.md", "")]));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("missing.md"));

        let text = format!("[a]({ADDRESS}docs/B.md) [b]({ADDRESS}docs/missing.md)\n");
        let found = check(&tree(&[("README.md", &text), ("docs/B.md", "")]));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("docs/missing.md"));

        let includes = "#![doc = include_str!(\"../../README.md\")]\n";
        let text = "[a](docs/B.md) [b](#here) [c](crate::Runtime)\n";
        let found = check(&tree(&[("README.md", text), ("docs/B.md", ""), ("gvt/src/lib.rs", includes)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("from the documentation"));
    }
}
