//! Relative links in documents lead somewhere.

use std::collections::HashSet;

use crate::tree::{Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let known: HashSet<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    let mut findings = Vec::new();
    for file in tree.documents() {
        for (index, line) in file.text.lines().enumerate() {
            for target in targets(line) {
                let Some(path) = resolve(&file.path, target) else {
                    continue;
                };
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

/// What `](…)` points to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// A relative link as a path from the root; `None` for other links.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or(target);
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
    }
}
