//! Every source file begins by saying what it is for.

use crate::tree::{Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !has_head(&file.text))
        .map(|file| Finding::new("heads", &file.path, 1, "no module head (`//!`)"))
        .collect()
}

fn has_head(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .take_while(|line| line.is_empty() || line.starts_with("#![") || line.starts_with("//"))
        .any(|line| line.starts_with("//!") && line.len() > 3 || line.starts_with("#![doc = include_str!"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    #[test]
    fn heads_are_seen() {
        let good = [
            ("a.rs", "//! What it is for.\nfn a() {}\n"),
            ("b.rs", "#![no_std]\n#![doc = include_str!(\"../README.md\")]\n"),
        ];
        assert!(check(&tree(&good)).is_empty());
        let bad = [
            ("a.rs", "// A comment.\nfn a() {}\n"),
            ("b.rs", "use a::b;\n//! Too late.\n"),
            ("c.rs", "//!\n"),
        ];
        assert_eq!(check(&tree(&bad)).len(), 3);
    }
}
